"""Distillation (Hinton et al. 2015): artifacts as teachers, whose probabilities a student learns beside the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer import artifact
from fer.data.dataset import Split
from fer.errors import ConfigError

_BATCH = 256


class Teachers:
    """`teachers(images)`: uint8 (N, C, H, W) → float32 (N, K), the mean of the artifacts' calibrated probabilities.

    They see the very images that the student sees, augmentation and all (Beyer et al. 2022, "A good teacher is
    patient and consistent"). Raises `ArtifactError` for a file that is no artifact, `ConfigError` for one with other
    classes than `classes`.
    """

    def __init__(self, paths: Sequence[str], classes: Sequence[str]) -> None:
        self.paths = [str(artifact.BUNDLED) if path == "bundled" else path for path in paths]
        self._loaded: dict[torch.device, list[artifact.Artifact]] = {}
        for path in self.paths:
            theirs = artifact.read_metadata(path).classes
            if tuple(theirs) != tuple(classes):
                raise ConfigError(f"teacher={path} knows {', '.join(theirs)}, but the data has {', '.join(classes)}")

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._loaded:
            self._loaded[images.device] = [artifact.load(path, images.device) for path in self.paths]
        answers = [teacher(images) for teacher in self._loaded[images.device]]
        return torch.stack(answers).mean(0).to(images.device)

    def __deepcopy__(self, _: Any) -> "Teachers":
        return self  # the copy of a model that its moving average keeps needs no teachers of its own


def taught(split: Split, teachers: Teachers, weight: float, votes: Mapping[str, Any]) -> Split:
    """The split whose `targets`, float32 (N, K), are learnt in place of its labels, the share `weight` of them, above 0
    to 1, being what the teachers say of the original images and their mirror images.

    That costs one pass over the images, not one in every epoch. `votes`: `use` and `weight` of the targets that the
    split has already. Raises `ConfigError` where those are for a second head, or where `weight` is out of range.
    """
    if not 0 < weight <= 1:
        raise ConfigError(f"teacher_weight={weight} must lie in 0 … 1, above 0")
    targets = np.eye(len(split.classes), dtype=np.float32)[split.labels]
    if split.targets is not None:
        if votes["use"] != "targets":
            raise ConfigError(f"votes.use={votes['use']} needs teacher_sees=augmented; or give votes.use=targets")
        targets += np.float32(votes["weight"]) * (split.targets - targets)
    images = split.images[..., None] if split.images.ndim == 3 else split.images
    for start in range(0, len(split), _BATCH):
        part = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2)
        answers = (teachers(part) + teachers(part.flip(3))) / 2
        rows = targets[start : start + _BATCH]
        rows += np.float32(weight) * (answers.numpy() - rows)
    return replace(split, targets=targets)
