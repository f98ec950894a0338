"""The one form that all data takes, and the dataset that hands out augmented batches of it."""

import hashlib
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fer.errors import DataError

Index = tuple[int, int]
"""(epoch, row): the epoch is part of an index, so that a sample's augmentation depends on nothing else."""


@dataclass(frozen=True)
class Split:
    """The images of one split.

    images: uint8 (N, H, W) grey or (N, H, W, 3) RGB. labels: int64 (N,) in 0 … K-1. classes: the K names.
    targets: float32 (N, K), rows that sum to 1, where there is more to learn from than the labels (votes), or None;
    (N, 2 K) where the first K are those of the labels and the others those of a second head.
    names: the file of each image below the root, where each has one, or None.
    Raises `DataError` where shapes, types or labels do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    targets: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        grey_or_rgb = self.images.ndim == 3 or (self.images.ndim == 4 and self.images.shape[3] == 3)
        if self.images.dtype != np.uint8 or not grey_or_rgb:
            raise DataError(f"images must be uint8 (N, H, W) or (N, H, W, 3), not {self.images.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != (len(self.images),):
            raise DataError(f"labels must be int64 ({len(self.images)},), not {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(f"labels must lie in 0 … {len(self.classes) - 1}")
        rows, classes = len(self.labels), len(self.classes)
        if self.targets is not None and self.targets.shape not in ((rows, classes), (rows, 2 * classes)):
            raise DataError(f"targets must be ({rows}, {classes}) or ({rows}, {2 * classes}), not {self.targets.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the shape, the classes, the pixels and the labels, as 64 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels.astype("<i8")).data)
        return digest.hexdigest()

    def counts(self) -> list[int]:
        """Images per class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    def only(self, rows: np.ndarray) -> "Split":
        """The split with the images of `rows` alone, bool (N,)."""
        targets = None if self.targets is None else self.targets[rows]
        names = None if self.names is None else tuple(compress(self.names, rows))
        return Split(self.images[rows], self.labels[rows], self.classes, targets, names)


def empty(count: int, size: int, channels: int = 1) -> np.ndarray:
    """Room for uint8 (count, size, size), or (count, size, size, 3). Raises `DataError` where the memory has none."""
    shape = (count, size, size) if channels == 1 else (count, size, size, channels)
    try:
        # Linux promises memory that it has not got, and ends whoever makes use of it.
        if hasattr(os, "sysconf") and math.prod(shape) > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise MemoryError
        return np.empty(shape, dtype=np.uint8)
    except (MemoryError, ValueError):  # numpy's of a shape that has more bytes than it can count
        needed = f"{count} images of {size}×{size}×{channels} need {math.prod(shape) / 1e9:.3g} GB of memory"
        raise DataError(f"{needed}, more than there is; lower data.size") from None


def as_batch(images: np.ndarray) -> Tensor:
    """uint8 images (N, H, W) or (N, H, W, 3), also memory-mapped ones → uint8 tensor (N, 1 or 3, H, W), a copy."""
    batch = torch.from_numpy(np.array(images))
    return batch.unsqueeze(1) if batch.dim() == 3 else batch.permute(0, 3, 1, 2)


def constant(images: np.ndarray) -> np.ndarray:
    """bool (N,): which images are of one single colour."""
    flat = images.reshape(len(images), -1, 1 if images.ndim == 3 else 3)
    return (flat == flat[:, :1]).all(axis=(1, 2))


def digests(images: np.ndarray) -> list[bytes]:
    """One digest per image; two images have the same one where all their pixels are equal."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]


def twins(split: Split, others: Sequence[Split]) -> np.ndarray:
    """bool (N,): which images of `split` have a pixel-exact twin in any of `others`."""
    seen = {digest for other in others for digest in digests(other.images)}
    return np.array([digest in seen for digest in digests(split.images)], dtype=bool)


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
