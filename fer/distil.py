"""Distillation (Hinton et al. 2015): artifacts as teachers, whose probabilities a student learns beside the labels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fer import artifact
from fer.errors import ConfigError


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
