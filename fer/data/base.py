"""`Split`, the common form of all datasets, and functions on its images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fer.errors import DataError


class Unreadable(NamedTuple):
    """A file that cannot be read as an image: its split, its path below the root, its class, and why not."""

    split: str
    file: str
    label: str
    reason: str


@dataclass(frozen=True)
class Split:
    """The labelled images of one split.

    Attributes:
        images: uint8 (N, H, W) grey or (N, H, W, 3) RGB.
        labels: int64 (N,), 0 to K - 1.
        classes: K names.
        targets: Target distributions, float32 (N, K), rows sum to 1, if there is more to learn from than the labels.
            If they are (N, 2 K), the second half is for a second head.
        names: Path of each image below the root of the dataset, if it has one.
        majority: int64 (N,), the class that most of several annotators chose, -1 where they disagree, if it is known.
        groups: Person or session of each image, "" if unknown, if any is known.
        weights: float64 (N,), above 0: how often training draws each image, relative to the others, if not equally.

    Raises:
        DataError: Shapes, types or labels do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    targets: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    majority: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows, classes = len(self.images), len(self.classes)
        if self.images.dtype != np.uint8 or self.images.ndim < 3 or self.images.shape[3:] not in ((), (3,)):
            raise DataError(f"images must be uint8 (N, H, W) or (N, H, W, 3), not {self.images.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != (rows,):
            raise DataError(f"labels must be int64 ({rows},), not {self.labels.shape}")
        if rows and not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise DataError(f"labels must be from 0 to {classes - 1}")
        if self.targets is not None and self.targets.shape not in ((rows, classes), (rows, 2 * classes)):
            raise DataError(f"targets must be ({rows}, {classes}) or ({rows}, {2 * classes}), not {self.targets.shape}")
        if self.majority is not None and (self.majority.dtype != np.int64 or self.majority.shape != (rows,)):
            raise DataError(f"majority must be int64 ({rows},), not {self.majority.shape}")

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
        """Number of images of each class."""
        return np.bincount(self.labels, minlength=len(self.classes)).tolist()

    def only(self, rows: np.ndarray) -> "Split":
        """Return a split of only the images where `rows`, bool (N,), is true."""
        kept: dict[str, Any] = {}
        for name in (field.name for field in fields(self) if field.name != "classes"):
            value = getattr(self, name)
            kept[name] = value[rows] if isinstance(value, np.ndarray) else value and tuple(compress(value, rows))
        return replace(self, **kept)

    def mixed(self, weight: float) -> np.ndarray:
        """Return the labels as distributions, in which the targets of K classes have a share: float32 (N, K)."""
        own = np.eye(len(self.classes), dtype=np.float32)[self.labels]
        return own + np.float32(weight) * (self.targets - own) if weight and self.targets is not None else own

    def by_majority(self) -> "Split":
        """Return the images on whose class the annotators agree, with that class as their label."""
        assert self.majority is not None
        return replace(replace(self, labels=np.maximum(self.majority, 0)).only(self.majority >= 0), majority=None)


def as_batch(images: np.ndarray) -> Tensor:
    """Copy uint8 images (N, H, W) or (N, H, W, 3), memory-mapped or not, to a uint8 tensor (N, 1 or 3, H, W)."""
    batch = torch.from_numpy(np.array(images))
    return batch.unsqueeze(1) if batch.dim() == 3 else batch.permute(0, 3, 1, 2)


def constant(images: np.ndarray) -> np.ndarray:
    """Return bool (N,), whether each image consists of a single colour."""
    flat = images.reshape(len(images), images.shape[1] * images.shape[2], -1 if len(images) else 1)
    return (flat == flat[:, :1]).all(axis=(1, 2))


def digests(images: np.ndarray) -> list[bytes]:
    """Return a digest of each image. Images with equal pixels have equal digests."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]


def duplicates(split: Split, others: Sequence[Split]) -> np.ndarray:
    """Return bool (N,), whether each image of `split` also occurs, pixel for pixel, in one of `others`."""
    known = {digest for other in others for digest in digests(other.images)}
    return np.array([digest in known for digest in digests(split.images)], dtype=bool)
