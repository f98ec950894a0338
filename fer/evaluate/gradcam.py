"""Grad-CAM (Selvaraju et al. 2017, "Visual Explanations from Deep Networks via Gradient-based Localization")."""

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer import plots
from fer.data.base import Split, as_batch
from fer.errors import ConfigError
from fer.models.classifier import EmotionClassifier

SEED = 2013
PER_CLASS = 2
"""Images of each class in the fixed set."""


def maps(model: EmotionClassifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the answers rest: float32 (N, H, W) from 0 to 1, and the logits, float32 (N, K).

    images: uint8 (N, H, W) or (N, H, W, 3). The map is that of the likeliest class (eq. 1 and 2 of the paper), on the
    last feature map of the backbone, enlarged to the image. Raises `ConfigError` where the backbone has no such map.
    """
    backbone = model.deployable().eval()
    batch = as_batch(images)
    into, onto = getattr(backbone, "forward_features", None), getattr(backbone, "forward_head", None)
    if into is None or onto is None:
        raise ConfigError(f"{type(backbone).__name__} has no forward_features and forward_head, which Grad-CAM needs")
    with torch.enable_grad():
        features = into(model.prepare(batch.to(model.device)).requires_grad_())
        logits = onto(features)
        (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    values, slopes = _spatial(backbone, features.detach()), _spatial(backbone, gradient)
    heat = (slopes.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat.float(), size=batch.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heat.cpu().numpy(), logits.detach().float().cpu().numpy()


def _spatial(backbone: nn.Module, features: Tensor) -> Tensor:
    """The feature map as (N, C, h, w), whatever order a timm backbone has it in."""
    if features.dim() == 3:  # tokens of a transformer, (N, prefix + h w, C)
        tokens = features[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).unflatten(2, (side, side))
    elif features.dim() == 4:
        return features.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else features
    raise ConfigError(f"{type(backbone).__name__} has features of shape {tuple(features.shape)[1:]}, which are no map")


def fixed_rows(split: Split) -> np.ndarray:
    """Row numbers of `PER_CLASS` images of each class, the same for every run on the same split."""
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(split))
    chosen = [order[split.labels[order] == number][:PER_CLASS] for number in range(len(split.classes))]
    return np.concatenate(chosen)


def draw(model: EmotionClassifier, split: Split, temperature: float, path: Path) -> None:
    """Draw the fixed set of `split`, each image beside its map. Raises `ConfigError` as `maps` does."""
    rows = fixed_rows(split)
    images = np.array(split.images[rows])
    heat, logits = maps(model, images)
    probabilities = torch.from_numpy(logits / temperature).softmax(1).numpy()
    cells = []
    for k, row in enumerate(rows):
        said = probabilities[k].argmax()
        cells.append((images[k], f"{split.classes[split.labels[row]]}, row {row}"))
        cells.append((_overlay(images[k], heat[k]), f"said {split.classes[said]} {probabilities[k, said]:.0%}"))
    plots.sheet([("", cells)], "Grad-CAM: where the answer rests, red most", path)


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    tint = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.rint(0.6 * colour + 0.4 * tint).astype(np.uint8)
