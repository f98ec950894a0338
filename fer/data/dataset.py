"""The dataset that hands out augmented batches of a split."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fer.data.base import Split
from fer.errors import DataError

Index = tuple[int, int]
"""(epoch, row): the epoch is part of an index, so that a sample's augmentation depends on nothing else."""


class _Draws(random.Random):
    """Python's generator over numpy's. To seed Python's own for every image takes a tenth of an augmentation."""

    def __init__(self, source: np.random.Generator) -> None:
        self._source = source
        self.restart()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Draws, (self._source,)

    def restart(self) -> None:
        """Draw what follows from the present state of the source."""
        self._numbers: list[float] = []
        self.gauss_next = None  # the second half of a pair of Gaussian numbers

    def random(self) -> float:
        if not self._numbers:
            self._numbers = self._source.random(16).tolist()  # takes as long as two by themselves
        return self._numbers.pop()

    def getrandbits(self, k: int, /) -> int:
        bits = 0
        for place in range(0, k, 32):
            bits |= int(self.random() * 2**32) << place
        return bits & ((1 << k) - 1)


class EmotionDataset(Dataset):
    """A split as tensors: `dataset[(epoch, row)]` → (uint8 (C, H, W), label), and batches by `__getitems__`.

    Where the split has `targets`, a batch has a third part, float32 (B, K).

    `augment` is an albumentations `Compose`, or None. What it draws depends on (seed, epoch, row) alone, so that
    neither the number of workers nor a resumed run changes what a sample looks like.
    """

    def __init__(self, split: Split, augment: Any = None, seed: int = 0) -> None:
        self.split = split
        self.augment = augment
        self.seed = seed
        # All transforms draw from the same bits, which are set anew for every sample: to give each transform
        # generators of its own takes longer than the transforms do, and seeds them all alike.
        self._bits = np.random.Philox(key=seed)
        self._state, source = self._bits.state, np.random.Generator(self._bits)
        self._python = _Draws(source)
        if augment is not None:
            augment.set_random_state(source, self._python)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: Index) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[Index]) -> tuple[Tensor, ...]:
        """A batch at once: uint8 (B, C, H, W), int64 (B,), and targets where there are any."""
        rows = [row for _, row in indices]
        images = self.split.images[rows]
        images = images[..., None] if images.ndim == 3 else images
        if self.augment is not None:
            for image, index in zip(images, indices, strict=True):  # which fancy indexing has copied already
                image[:] = self._augmented(image, index)
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(self.split.labels[rows])
        return batch if self.split.targets is None else (*batch, torch.from_numpy(self.split.targets[rows]))

    def _augmented(self, image: np.ndarray, index: Index) -> np.ndarray:
        # counter-based (Salmon et al. 2011): other counters and keys give streams that have nothing in common
        self._state["state"]["counter"][2:] = index
        self._bits.state = self._state
        self._python.restart()
        result = self.augment(image=image)["image"]
        return result.reshape(image.shape) if result.size == image.size else _refuse(image, result)


def _refuse(image: np.ndarray, result: np.ndarray) -> np.ndarray:
    raise DataError(
        f"the augmentation changes an image of {image.shape} to {result.shape}; "
        "end the pipeline in conf/augment with a resize to the image's own size"
    )
