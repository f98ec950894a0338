"""Fine-tuning that forgets little: other faces are learnt beside one's own, with the answers that the start gave them.

Rehearsal with the answers of the model itself (Li & Hoiem 2016, "Learning without Forgetting", section 3, on images
of earlier data), then the mean of the weights before and after (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models", WiSE-FT, equation 1).
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fer.artifact.trust import INCLUDED
from fer.data import fer2013
from fer.data.base import Split
from fer.errors import ConfigError
from fer.evaluate.predict import logits, network_of, softmax
from fer.files import atomic_write, expand
from fer.images import read_image
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier

Pair = tuple[np.ndarray, np.ndarray]
"""Losses of the new data's images and of the rehearsed ones."""

log = logging.getLogger(__name__)

_MOST, _JUDGED = 2000, 300
"""Images of FER-2013 that are rehearsed, and further images on which the share of the new weights is chosen."""

_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the new weights to choose from. Below the first, little of the new data would be left."""

_SIDE = 48
"""Side in pixels of the images in rehearsal.png, a sheet of grey tiles."""


@dataclass(frozen=True)
class Rehearsal:
    """What a fine-tuned model shall keep.

    Attributes:
        start: The backbone's weights before the training, by name.
        train, judged: Images with the answers of the start as target distributions, to learn from and to judge by.
    """

    start: dict[str, Tensor]
    train: Split
    judged: Split


def prepare(model: EmotionClassifier, known: list[int], like: Split) -> Rehearsal:
    """Ask a model that has its initial weights for its answers to other faces.

    Args:
        model: The model before the training.
        known: Columns of its logits that the start has learnt.
        like: The training images, whose size, colour and classes the others get.

    Raises:
        ConfigError: The start knows fewer than two of the classes.
    """
    if len(known) < 2:
        raise ConfigError("keep: the model of init_from knows fewer than two of these classes; set keep=0")
    images, source = _faces()
    size = like.images.shape[1]
    if size != images.shape[1]:
        method = cv2.INTER_AREA if size < _SIDE else cv2.INTER_LINEAR
        images = np.stack([cv2.resize(image, (size, size), interpolation=method) for image in images])
    if like.images.ndim == 4:
        images = np.repeat(images[..., None], 3, axis=3)
    training = model.training
    network = network_of(model.eval())
    answers = np.zeros((len(images), len(like.classes)), np.float32)
    answers[:, known] = softmax(logits(network, images)[:, known])
    model.train(training)
    everything = Split(images, answers.argmax(1), like.classes, answers)
    is_judged = np.arange(len(images)) < min(_JUDGED, len(images) // 5)
    log.info("keep: %d images of %s are rehearsed", (~is_judged).sum(), source)
    start = {name: value.detach().cpu().clone() for name, value in model.backbone.state_dict().items()}
    return Rehearsal(start, everything.only(~is_judged), everything.only(is_judged))


def _faces() -> tuple[np.ndarray, str]:
    """Return images, uint8 (N, 48, 48), in random order, and where they are from: FER-2013 if it is there."""
    folder = expand(os.environ.get("FER2013_ROOT") or "data/fer2013")
    if fer2013.find(folder):
        images, source = fer2013.read(folder)["train"].images, "FER-2013"
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[: _MOST + _JUDGED])
        images = np.array(images[rows])
    else:
        sheet = cv2.cvtColor(read_image(INCLUDED / "rehearsal.png"), cv2.COLOR_RGB2GRAY)
        tiles = sheet.reshape(len(sheet) // _SIDE, _SIDE, -1, _SIDE).swapaxes(1, 2)
        images, source = tiles.reshape(-1, _SIDE, _SIDE), "the sheet of invented faces (FER-2013 would keep more)"
    return images[np.random.default_rng(1).permutation(len(images))], source


def mix_weights(best: Path, kept: Rehearsal, val: Split, keep: float) -> dict[str, float]:
    """Replace the weights of a checkpoint by a mean of the start's and its own, whose share is chosen on images.

    The share is the smallest whose loss is at most one standard error above the least, of paired differences (the rule
    of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3).

    Args:
        best: The checkpoint.
        kept: Of the same run.
        val: Images of the new data.
        keep: Weight of the rehearsed images in the loss, beside that of `val`.

    Returns:
        Figures for `metrics.json`: the share, and how often the new model answers the other faces as the start did.
    """
    content = checkpoints.read(str(best))
    if "keep" in content:  # this is a run that is continued after its training
        return content["keep"]
    model = checkpoints.load(str(best))
    trained = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    losses, answers = [], []
    for share in _SHARES:
        model.backbone.load_state_dict(_between(kept.start, trained, share))
        own, others = (_losses(model, split) for split in (val, kept.judged))
        losses.append((own[0], others[0]))
        answers.append(others[1])
    totals = [(1 - keep) * own.mean() + keep * others.mean() for own, others in losses]
    least = int(np.argmin(totals))
    chosen = next(k for k in range(len(_SHARES)) if totals[k] <= totals[least] + _error(losses[k], losses[least], keep))
    mixed = _between(kept.start, trained, _SHARES[chosen])
    names = {f"backbone.{name}": value for name, value in mixed.items()}
    figures = {"keep/share": _SHARES[chosen], "keep/agreement": answers[chosen]}
    content["state_dict"] |= names
    content["keep"] = figures
    with atomic_write(best, sync=True) as part:
        torch.save(content, part)
    new, same = 100 * _SHARES[chosen], 100 * answers[chosen]
    log.info("keep: the weights are a mean, %.0f %% new; %.0f %% of other faces are answered as before", new, same)
    return figures


def _between(start: dict[str, Tensor], trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the mean of two sets of weights. Counts of batches are those of the trained ones."""
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in trained.items()
    }


def _losses(model: EmotionClassifier, split: Split) -> tuple[np.ndarray, float]:
    """Return the cross-entropy of each image, above that of its target itself, and the share of equal answers."""
    predicted = torch.from_numpy(logits(network_of(model), split.images))
    targets = torch.from_numpy(split.mixed(1))
    least = -torch.special.xlogy(targets, targets).sum(1)
    loss = F.cross_entropy(predicted, targets, reduction="none") - least
    return loss.numpy(), float((predicted.argmax(1) == targets.argmax(1)).float().mean())


def _error(losses: Pair, others: Pair, keep: float) -> float:
    """Return the standard error of the difference between two means over the same images."""
    shares = (1 - keep, keep)
    parts = [(w * (a - b)).var() / len(a) for w, a, b in zip(shares, losses, others, strict=True)]
    return float(np.sqrt(np.sum(parts)))
