"""The one form that all data takes, and the dataset that hands out augmented batches of it."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from fer.errors import DataError


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


def duplicates(split: Split, others: Sequence[Split]) -> np.ndarray:
    """bool (N,): which images of `split` have a pixel-exact twin in any of `others`."""
    seen = {digest for other in others for digest in digests(other.images)}
    return np.array([digest in seen for digest in digests(split.images)], dtype=bool)
