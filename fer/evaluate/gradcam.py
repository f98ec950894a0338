"""Grad-CAM (Selvaraju et al. 2017, "Visual Explanations from Deep Networks via Gradient-based Localization")."""

import math
from pathlib import Path
from typing import Any

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
# Images of each class in the fixed set.
PER_CLASS = 2


def maps(model: EmotionClassifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Show which parts of images a prediction rests on (eq. 1 and 2 of the paper).

    The map is that of the most probable class on the last feature map of the backbone. For transformers that
    classify by a class token, it is on the image tokens that enter the last block: those that leave it have no
    influence on the class.

    Args:
        model: In eval mode.
        images: uint8 (N, H, W) or (N, H, W, 3).

    Returns:
        The maps, float32 (N, H, W) from 0 to 1, and the logits, float32 (N, K).

    Raises:
        ConfigError: The backbone has no such feature map.
    """
    backbone = model.deployable().eval()
    name, batch = type(backbone).__name__, as_batch(images)
    if not hasattr(backbone, "forward_features") or not hasattr(backbone, "forward_head"):
        raise ConfigError(f"{name} has no forward_features and forward_head, which Grad-CAM needs")
    with torch.enable_grad():
        features, logits = _run(backbone, model.prepare(batch.to(model.device)).requires_grad_())
        (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    values, slopes = _spatial(backbone, features.detach()), _spatial(backbone, gradient)
    if not slopes.any():
        raise ConfigError(f"{name} has a feature map without influence on its prediction, so there is no Grad-CAM")
    heat = (slopes.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat.float(), size=batch.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heat.cpu().numpy(), logits.detach().float().cpu().numpy()


def _run(backbone: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The features whose gradient is taken, and the logits (N, K)."""
    entering: list[Tensor] = []
    last = list(getattr(backbone, "blocks", ()))[-1:]
    hooks = [block.register_forward_pre_hook(lambda _, given: entering.append(given[0])) for block in last]
    features = backbone.forward_features(x)
    for hook in hooks:
        hook.remove()
    logits = backbone.forward_head(features)
    return (entering[0] if entering and features.dim() == 3 else features), logits


def _spatial(backbone: nn.Module, features: Tensor) -> Tensor:
    """Features as (N, C, h, w), whatever their order in a timm backbone."""
    if features.dim() == 3:  # tokens of a transformer, (N, prefix + h w, C)
        tokens = features[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            return tokens.transpose(1, 2).unflatten(2, (side, side))
    elif features.dim() == 4:
        return features.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else features
    shape = tuple(features.shape)[1:]
    raise ConfigError(f"{type(backbone).__name__} has features of shape {shape}, which Grad-CAM cannot map")


def fixed_rows(split: Split) -> np.ndarray:
    """Row numbers of `PER_CLASS` images of each class, the same for every run on the same split."""
    order = np.random.default_rng(SEED).permutation(len(split))
    return np.concatenate([order[split.labels[order] == label][:PER_CLASS] for label in range(len(split.classes))])


def draw(model: EmotionClassifier, split: Split, temperature: float, path: Path) -> None:
    """Draw the fixed images of `split`, each beside its map. Raises `ConfigError` as `maps` does."""
    rows = fixed_rows(split)
    images = np.array(split.images[rows])
    heat, logits = maps(model, images)
    probabilities = torch.from_numpy(logits / temperature).softmax(1).numpy()
    cells = []
    for image, values, row, shares in zip(images, heat, rows, probabilities, strict=True):
        cells.append((image, f"{split.classes[split.labels[row]]}, row {row}"))
        cells.append((_overlay(image, values), f"predicted {split.classes[shares.argmax()]} {shares.max():.0%}"))
    plots.sheet([("", cells)], "Grad-CAM: what the prediction rests on, red most", path)


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    tint = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.rint(0.6 * rgb + 0.4 * tint).astype(np.uint8)
