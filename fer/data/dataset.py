"""Which rows of a split make an epoch, and the dataset that returns them as augmented batches."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, SequentialSampler

from fer.data.base import Split
from fer.errors import DataError

Index = tuple[int, int]
"""(draw, row): a sample's augmentation depends on nothing else. The draw is the epoch, plus `_AGAIN` for each time that
the row was drawn in this epoch before."""

_AGAIN = 1 << 32


class EpochSampler(Sampler[Index]):
    """Yields (draw, row) for the rows of one process, in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch` before every epoch.

    Args:
        rows: Number of rows of the dataset.
        shuffle: True for training: shuffled, and the remainder is dropped so that all processes take the same number of
            steps. False for evaluation: in order, each row once.
        seed: Of the order.
        weights: (N,) to draw with replacement in proportion to them, or None.
        rank, world: Which process this is, and of how many.
        drawn: How many rows an epoch draws in all processes; None for as many as there are.
    """

    def __init__(
        self,
        rows: int,
        shuffle: bool,
        seed: int = 0,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
        drawn: int | None = None,
    ) -> None:
        self.rows, self.shuffle, self.seed, self.rank, self.world = rows, shuffle, seed, rank, world
        self.drawn = drawn or rows
        self.weights = None if weights is None else weights / weights.sum()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.drawn // self.world if self.shuffle else len(range(self.rank, self.rows, self.world))

    def order(self) -> np.ndarray:
        """Return the rows of this process in this epoch, int64 (len(self),)."""
        order = np.arange(self.rows)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            if self.weights is not None:
                order = rng.choice(self.rows, self.drawn, p=self.weights)
            else:  # each row as often as any other, give or take one
                order = np.concatenate([rng.permutation(self.rows) for _ in range(-(-self.drawn // self.rows))])
                order = order[: self.drawn]
        return order[self.rank :: self.world][: len(self)]

    def __iter__(self) -> Iterator[Index]:
        seen: Counter[int] = Counter()
        for row in self.order().tolist():
            yield self.epoch + seen[row] * _AGAIN, row
            seen[row] += 1


class FixedSampler(EpochSampler, SequentialSampler):  # type: ignore[misc]
    """Yields the first epoch again and again, as `overfit_batches` needs. Lightning would replace any other sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Stay in the first epoch."""


class _Draws(random.Random):
    """Python's random interface over a numpy generator. Seeding Python's own for every image would add a tenth to the
    cost of an augmentation."""

    def __init__(self, source: np.random.Generator) -> None:
        self._source = source
        self.restart()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Draws, (self._source,)

    def restart(self) -> None:
        """Discard numbers drawn in advance. Called after the state of the source was set."""
        self._numbers: list[float] = []
        self.gauss_next = None  # cached by random.gauss, which makes two at a time

    def random(self) -> float:
        if not self._numbers:
            self._numbers = self._source.random(16).tolist()  # as fast as two single draws
        return self._numbers.pop()

    def getrandbits(self, k: int, /) -> int:
        bits = 0
        for shift in range(0, k, 32):
            bits |= int(self.random() * 2**32) << shift
        return bits & ((1 << k) - 1)


class EmotionDataset(Dataset):
    """A split as tensors: `dataset[(epoch, row)]`, and whole batches by `__getitems__`.

    Items are (uint8 (C, H, W), label), followed by target distribution and majority if the split has them. What the
    augmentation draws depends on (seed, epoch, row) alone, so a sample depends neither on the number of workers nor on
    whether the run was resumed.

    Args:
        split: The images.
        augment: An albumentations `Compose`, or None.
        seed: Of the augmentation.
    """

    def __init__(self, split: Split, augment: Any = None, seed: int = 0) -> None:
        self.split, self.augment = split, augment
        # All transforms share one generator, which is set for every sample: giving each transform its own takes longer
        # than the transforms themselves, and seeds them all alike.
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
        """Return a batch: uint8 (B, C, H, W), int64 (B,) and, if known, targets, float32 (B, K), and majority, (B,)."""
        rows = [row for _, row in indices]
        images = self.split.images[rows]
        images = images[..., None] if images.ndim == 3 else images
        if self.augment is not None:
            for image, index in zip(images, indices, strict=True):  # fancy indexing has copied them
                image[:] = self._augmented(image, index)
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        parts = (self.split.labels, self.split.targets, self.split.majority)
        return batch, *(torch.from_numpy(part[rows]) for part in parts if part is not None)

    def _augmented(self, image: np.ndarray, index: Index) -> np.ndarray:
        # counter-based (Salmon et al. 2011): different counters and keys give independent streams
        self._state["state"]["counter"][2:] = index
        self._bits.state = self._state
        self._python.restart()
        result = self.augment(image=image)["image"]
        if result.size != image.size:
            raise DataError(
                f"the augmentation changes an image of {image.shape} to {result.shape}; "
                "end the pipeline in conf/augment with a resize to the image's own size"
            )
        return result.reshape(image.shape)
