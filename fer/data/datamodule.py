"""Splits to batches: the LightningDataModule."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from fer.data import votes as fer_plus
from fer.data.base import Split, constant, duplicates
from fer.data.dataset import EmotionDataset, Index
from fer.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class EpochSampler(Sampler[Index]):
    """Yields (epoch, row) for the rows of one process, so that workers and resumed runs see the same samples.

    Rows are dealt out to `world` processes; training drops the remainder so that all take the same number of
    steps, evaluation (`shuffle=False`) neither drops nor repeats one. `weights` (N,), if given, draws with
    replacement in proportion to them. Lightning calls `set_epoch` before every epoch. `start_at` makes the first
    pass go on inside an epoch.
    """

    def __init__(
        self,
        rows: int,
        shuffle: bool,
        seed: int = 0,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rows, self.shuffle, self.seed = rows, shuffle, seed
        self.weights = None if weights is None else weights / weights.sum()
        self.rank, self.world = rank, world
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def start_at(self, epoch: int, rows: int) -> None:
        """Leave out the first `rows` rows of this process in that epoch."""
        self.epoch, self.skip = epoch, rows

    def __len__(self) -> int:
        return self.rows // self.world if self.shuffle else len(range(self.rank, self.rows, self.world))

    def __iter__(self) -> Iterator[Index]:
        order = np.arange(self.rows)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = (
                rng.permutation(self.rows) if self.weights is None else rng.choice(self.rows, self.rows, p=self.weights)
            )
        mine = order[self.rank :: self.world][: len(self)]
        return iter([(self.epoch, int(row)) for row in mine[self.skip :]])


def _as_it_is(batch: Any) -> Any:
    """`EmotionDataset.__getitems__` gives whole batches; a named function, since workers have to pickle it."""
    return batch


class EmotionDataModule(L.LightningDataModule):
    """The splits train, val and test as batches of (uint8 (B, C, H, W), int64 (B,)).

    reader: called once, gives the splits. augment: an albumentations `Compose` for train, or None. workers: loader
    processes, or "auto": none on a CPU, where they take time from training, else up to 8. balanced: draw every class
    equally often. votes: path of the votes of FER+, which become `Split.targets`. drop_non_faces: train without the
    images of one colour and, with votes, those that most taggers call no face. drop_duplicates: train without the images
    that stand pixel for pixel in val or test as well.
    Under DDP use `Trainer(use_distributed_sampler=False)`: the sampler here deals out the rows itself.
    """

    def __init__(
        self,
        reader: Callable[[], dict[str, Split]],
        name: str,
        augment: Any = None,
        batch_size: int = 64,
        workers: int | str = "auto",
        balanced: bool = False,
        votes: str | None = None,
        drop_non_faces: bool = False,
        drop_duplicates: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"data.batch_size={batch_size} must be at least 1")
        if not (workers == "auto" or (isinstance(workers, int) and workers >= 0)):
            raise ConfigError(f"data.workers={workers} must be auto or a number from 0")
        self.reader, self.name, self.augment = reader, name, augment
        self.batch_size, self.workers, self.balanced, self.seed = batch_size, workers, balanced, seed
        self.votes, self.drop_non_faces, self.drop_duplicates = votes, drop_non_faces, drop_duplicates
        self.splits: dict[str, Split] = {}
        # Of a resumed run, set before it begins: loader processes fetch their first batches before Lightning has
        # restored its own count.
        self.batches_done = 0

    def prepare_data(self) -> None:
        """Fills the cache, on one process of a machine."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Reads the splits, once.

        Raises `DataError`, also where dropping leaves a class of train without images, and where the augmentation
        changes the size of one of the first images.
        """
        if self.splits:
            return
        splits = self.reader()
        counts = fer_plus.read(self.votes) if self.votes else None
        if counts:
            splits = fer_plus.attach(splits, counts, str(self.votes))
        train = splits["train"]
        out = np.zeros(len(train), dtype=bool)
        if self.drop_non_faces:
            out |= constant(train.images)
            if counts:
                out |= fer_plus.non_faces(counts["train"])
        if self.drop_duplicates:
            out |= duplicates(train, [splits["val"], splits["test"]])
        if out.any():
            log.info("%d of %d training images are left out", out.sum(), len(train))
            splits["train"] = train.only(~out)
            for name, before, now in zip(train.classes, train.counts(), splits["train"].counts(), strict=True):
                if before and not now:
                    raise DataError(f"all training images of {name} would be left out; drop less")
        if self.augment is not None:
            few = range(min(8, len(splits["train"])))
            EmotionDataset(splits["train"], self.augment, self.seed).__getitems__([(0, row) for row in few])
        self.splits = splits

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits["train"].classes

    @property
    def channels(self) -> int:
        """1 or 3, of the stored images."""
        return 1 if self.splits["train"].images.ndim == 3 else 3

    def check_world(self, world: int) -> None:
        """Raises `ConfigError` where `world` processes cannot each have an image of train and of val."""
        for name in ("train", "val"):
            if world > len(self.splits[name]):
                raise ConfigError(
                    f"{world} processes are more than the {len(self.splits[name])} images of {name}; "
                    "lower trainer.devices or trainer.num_nodes"
                )

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training pixels, scaled to 0–1."""
        images = self.splits["train"].images
        # Counts of 256 values are exact; by parts, since bincount makes eight bytes of every pixel.
        counts = np.zeros((self.channels, 256), dtype=np.int64)
        for start in range(0, len(images), 1000):
            pixels = images[start : start + 1000].reshape(-1, self.channels)
            counts += [np.bincount(pixels[:, c], minlength=256) for c in range(self.channels)]
        values = np.arange(256) / 255
        means = [float((n * values).sum() / n.sum()) for n in counts]
        stds = [float(np.sqrt((n * (values - m) ** 2).sum() / n.sum())) for n, m in zip(counts, means, strict=True)]
        return tuple(means), tuple(max(s, 1e-3) for s in stds)

    def class_weights(self) -> list[float]:
        """Inverse class frequencies of train with mean 1, for the loss."""
        counts = np.maximum(np.array(self.splits["train"].counts(), dtype=np.float64), 1)
        weights = 1 / counts
        return (weights * len(weights) / weights.sum()).tolist()

    def train_dataloader(self) -> DataLoader:
        split = self.splits["train"]
        counts = np.maximum(np.array(split.counts()), 1)
        weights = 1 / counts[split.labels] if self.balanced else None
        loader = self._loader(EmotionDataset(split, self.augment, self.seed), shuffle=True, weights=weights)
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        batches = min(limit, len(loader)) if isinstance(limit, int) else int(limit * len(loader))
        epoch, done = divmod(self.batches_done, max(1, batches))
        sampler = loader.sampler
        assert isinstance(sampler, EpochSampler)
        sampler.start_at(epoch, done * self.batch_size)
        return loader

    def val_dataloader(self) -> DataLoader:
        return self._loader(EmotionDataset(self.splits["val"]), shuffle=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(EmotionDataset(self.splits["test"]), shuffle=False)

    def _loader(self, dataset: EmotionDataset, shuffle: bool, weights: np.ndarray | None = None) -> DataLoader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        on_gpu = trainer is not None and not isinstance(trainer.accelerator, L.pytorch.accelerators.CPUAccelerator)
        cores = torch.multiprocessing.cpu_count()
        workers = (min(8, cores) if on_gpu else 0) if self.workers == "auto" else int(self.workers)
        rows = len(dataset)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(rows, shuffle, self.seed, weights, rank, world),
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
            drop_last=shuffle and rows // world >= self.batch_size,  # a last batch of one breaks batch norm
        )
