"""Grad-CAM (Selvaraju et al. 2017, "Visual Explanations from Deep Networks via Gradient-based Localization")."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from fer import plots
from fer.data.base import Split, as_batch
from fer.errors import ConfigError
from fer.models.classifier import EmotionClassifier

SEED = 2013
# Number of images of each class.
PER_CLASS = 2


def maps(model: EmotionClassifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute which parts of images determine the prediction (eq. 1 and 2 of the paper).

    The map is that of the most probable class, on the last feature map of a convolutional backbone.

    Args:
        model: In eval mode.
        images: uint8 (N, H, W) or (N, H, W, 3).

    Returns:
        The maps, float32 (N, H, W) from 0 to 1, and the logits, float32 (N, K).

    Raises:
        ConfigError: The backbone has no such feature map.
    """
    backbone: Any = model.deployable().eval()
    name, batch = type(backbone).__name__, as_batch(images)
    if not hasattr(backbone, "forward_features") or not hasattr(backbone, "forward_head"):
        raise ConfigError(f"{name} has no forward_features and forward_head, which Grad-CAM needs")
    with torch.enable_grad():
        features = backbone.forward_features(model.prepare(batch.to(model.device)).requires_grad_())
        logits = backbone.forward_head(features)
        (slopes,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    values = features.detach()
    if values.dim() != 4:
        raise ConfigError(f"{name} has features of shape {tuple(values.shape)[1:]}; Grad-CAM needs a map of them")
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        values, slopes = (part.permute(0, 3, 1, 2) for part in (values, slopes))
    heat = (slopes.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat.float(), size=batch.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heat.cpu().numpy(), logits.detach().float().cpu().numpy()


def fixed_rows(split: Split) -> np.ndarray:
    """Return the rows of `PER_CLASS` images of each class, the same in every run on the same split."""
    order = np.random.default_rng(SEED).permutation(len(split))
    return np.concatenate([order[split.labels[order] == label][:PER_CLASS] for label in range(len(split.classes))])


def draw(model: EmotionClassifier, split: Split, temperature: float, path: Path) -> None:
    """Draw the fixed images of `split`, each next to its map. Raises `ConfigError` as `maps` does."""
    rows = fixed_rows(split)
    images = np.array(split.images[rows])
    heat, logits = maps(model, images)
    probabilities = torch.from_numpy(logits / temperature).softmax(1).numpy()
    cells = []
    for image, values, row, shares in zip(images, heat, rows, probabilities, strict=True):
        cells.append((image, f"{split.classes[split.labels[row]]}, row {row}"))
        cells.append((_overlay(image, values), f"predicted {split.classes[shares.argmax()]} {shares.max():.0%}"))
    plots.sheet([("", cells)], "Grad-CAM: what determines the prediction, red most", path)


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    tint = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.rint(0.6 * rgb + 0.4 * tint).astype(np.uint8)
