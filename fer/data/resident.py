"""Batches of a split that lies completely on a device."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from fer.data.augment import BatchAugmentation
from fer.data.base import Split, as_batch
from fer.data.dataset import EpochSampler


class ResidentLoader:
    """Yields the batches of a `DataLoader` over an `EmotionDataset`: the same rows in the same order, on the device.

    Args:
        split: The images, which are copied to the device.
        sampler: Of the rows of this process. Its seed, epoch and rank also determine what the augmentation draws.
        batch_size: Images per batch.
        drop_last: Leave out a last batch that is smaller than the others.
        device: Where the images and the batches lie.
        augment: Changes each batch; or None.
    """

    batch_sampler = None  # which Lightning asks for where there is a sampler

    def __init__(
        self,
        split: Split,
        sampler: EpochSampler,
        batch_size: int,
        drop_last: bool,
        device: torch.device,
        augment: BatchAugmentation | None = None,
    ) -> None:
        known = [part for part in (split.labels, split.targets, split.majority) if part is not None]
        self._parts = [part.to(device) for part in (as_batch(split.images).contiguous(), *map(torch.tensor, known))]
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last
        self.device, self.augment = device, augment

    def __len__(self) -> int:
        rows = len(self.sampler)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield uint8 (B, C, H, W), int64 (B,) and, if known, targets, float32 (B, K), and majority, int64 (B,)."""
        sampler = self.sampler
        order = torch.from_numpy(sampler.order()).to(self.device)
        mixed = np.random.SeedSequence((sampler.seed, sampler.epoch, sampler.rank)).generate_state(1, np.uint64)
        generator = torch.Generator(self.device).manual_seed(int(mixed[0]))
        for rows in order.split(self.batch_size)[: len(self)]:
            images, *others = (part[rows] for part in self._parts)
            yield (images if self.augment is None else self.augment(images, generator), *others)


def fits(splits: Iterable[Split], device: torch.device) -> bool:
    """Return whether the splits take at most a quarter of the free memory of a CUDA device."""
    parts = [part for split in splits for part in (split.images, split.labels, split.targets) if part is not None]
    return 4 * sum(part.nbytes for part in parts) <= torch.cuda.mem_get_info(device)[0]
