"""From splits to batches: the LightningDataModule."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.accelerators import CPUAccelerator
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from fer.checks import check_flag, check_number, check_path
from fer.data import votes as fer_plus
from fer.data.base import Split, constant, duplicates
from fer.data.dataset import EmotionDataset, Index
from fer.errors import DataError

log = logging.getLogger(__name__)


class EpochSampler(Sampler[Index]):
    """Yields (epoch, row) for the rows of one process, in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch` before every epoch.

    Args:
        rows: Number of rows of the dataset.
        shuffle: True for training: shuffled, and the remainder is dropped so that all processes take the same number of
            steps. False for evaluation: in order, each row once.
        seed: Of the order.
        weights: (N,) to draw with replacement in proportion to them, or None.
        rank, world: Which process this is, and of how many.
    """

    def __init__(
        self, rows: int, shuffle: bool, seed: int = 0, weights: np.ndarray | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self.rows, self.shuffle, self.seed, self.rank, self.world = rows, shuffle, seed, rank, world
        self.weights = None if weights is None else weights / weights.sum()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows // self.world if self.shuffle else len(range(self.rank, self.rows, self.world))

    def __iter__(self) -> Iterator[Index]:
        order = np.arange(self.rows)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            drawn = self.weights is not None
            order = rng.choice(self.rows, self.rows, p=self.weights) if drawn else rng.permutation(self.rows)
        return iter([(self.epoch, int(row)) for row in order[self.rank :: self.world][: len(self)]])


class FixedSampler(EpochSampler, SequentialSampler):  # type: ignore[misc]
    """Yields the first epoch again and again, as `overfit_batches` needs. Lightning would replace any other sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Stay in the first epoch."""


class EmotionDataModule(L.LightningDataModule):
    """The splits train, val and test as batches of (uint8 (B, C, H, W), int64 (B,)).

    If train has target distributions, its batches have float32 (B, K) as a third part. Under DDP use
    `Trainer(use_distributed_sampler=False)`, since the sampler here distributes the rows itself.

    Args:
        reader: Returns the splits; called once.
        name: Of the dataset, recorded with the model.
        augment: An albumentations `Compose` for train, or None.
        batch_size: Images per batch and process.
        workers: Loader processes, or "auto": none on a CPU, where they would slow down training, else up to 8.
        balanced: Draw every class equally often.
        votes: Path of the votes of FER+, which become target distributions, or None.
        drop_non_faces: Train without images of one colour and, with votes, those that most taggers call no face.
        drop_duplicates: Train without images that also occur, pixel for pixel, in val or test.
        seed: Of the order and the augmentation of train.

    Raises:
        ConfigError: An argument is out of range.
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
        check_number("data.batch_size", batch_size, 1, whole=True)
        if workers != "auto":
            check_number("data.workers", workers, 0, 1024, whole=True)
        check_path("data.votes", votes)
        check_flag("data.balanced", balanced)
        check_flag("data.drop_non_faces", drop_non_faces)
        check_flag("data.drop_duplicates", drop_duplicates)
        self.reader, self.name, self.augment = reader, name, augment
        self.batch_size, self.workers, self.balanced, self.seed = batch_size, workers, balanced, seed
        self.votes, self.drop_non_faces, self.drop_duplicates = votes, drop_non_faces, drop_duplicates
        self.splits: dict[str, Split] = {}
        self._first_epoch = 0

    def setup(self, stage: str | None = None) -> None:
        """Read the splits, once.

        Raises:
            DataError: They cannot be read, dropping leaves a class of train without images, or the augmentation changes
                the size of an image.
        """
        if self.splits:
            return
        splits = self.reader()
        if lacking := [name for name in ("train", "val", "test") if name not in splits]:
            has = ", ".join(sorted(splits))
            raise DataError(f"the data has {has} but no {', '.join(lacking)}; put images in {lacking[0]}/<class>/")
        train = splits["train"]
        dropped = constant(train.images) if self.drop_non_faces else np.zeros(len(train), dtype=bool)
        if self.votes:
            counts = fer_plus.read(self.votes)
            splits = fer_plus.attach(splits, counts, self.votes)
            if self.drop_non_faces:
                dropped |= fer_plus.non_faces(counts["train"])
        if self.drop_duplicates:
            dropped |= duplicates(train, [splits["val"], splits["test"]])
        if dropped.any():
            log.info("%d of %d training images are dropped", dropped.sum(), len(train))
            splits["train"] = splits["train"].only(~dropped)
            lost = np.flatnonzero(np.sign(train.counts()) > splits["train"].counts())
            if len(lost):
                raise DataError(f"all training images of {train.classes[lost[0]]} would be dropped; drop less")
        if self.augment is not None:  # fail now, not in the first epoch
            few = range(min(8, len(splits["train"])))
            EmotionDataset(splits["train"], self.augment, self.seed).__getitems__([(0, row) for row in few])
        self.splits = splits

    def state_dict(self) -> dict[str, int]:
        """Return the epoch from which to resume. Lightning stores it in checkpoints."""
        trainer = self.trainer
        return {"epoch": trainer.current_epoch + trainer.is_last_batch if trainer else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        # Loader processes fetch their first batches before Lightning restores its own count of epochs.
        self._first_epoch = state_dict["epoch"]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits["train"].classes

    @property
    def channels(self) -> int:
        """Channels of the stored images, 1 or 3."""
        return 1 if self.splits["train"].images.ndim == 3 else 3

    @property
    def overfits(self) -> bool:
        """Whether the trainer shall learn a few batches by heart."""
        return bool(getattr(self.trainer, "overfit_batches", 0))

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the training pixels, scaled to 0–1, for each channel."""
        images = self.splits["train"].images
        # Counts of 256 values are exact; in parts, since bincount needs eight bytes for each pixel.
        counts = np.zeros((self.channels, 256), dtype=np.int64)
        for start in range(0, len(images), 1000):
            pixels = images[start : start + 1000].reshape(-1, self.channels)
            counts += [np.bincount(pixels[:, c], minlength=256) for c in range(self.channels)]
        values = np.arange(256) / 255
        means = [float((n * values).sum() / n.sum()) for n in counts]
        stds = [float(np.sqrt((n * (values - m) ** 2).sum() / n.sum())) for n, m in zip(counts, means, strict=True)]
        return tuple(means), tuple(max(s, 1e-3) for s in stds)

    def class_weights(self) -> list[float]:
        """Return the inverse class frequencies of train, scaled to mean 1, for the loss."""
        weights = 1 / np.maximum(self.splits["train"].counts(), 1)
        return (weights * len(weights) / weights.sum()).tolist()

    def train_dataloader(self) -> DataLoader:
        split = self.splits["train"]
        weights = (1 / np.maximum(split.counts(), 1))[split.labels] if self.balanced else None
        return self._loader(EmotionDataset(split, self.augment, self.seed), shuffle=True, weights=weights)

    def val_dataloader(self) -> DataLoader:
        return self._loader(EmotionDataset(self.splits["val"]), shuffle=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(EmotionDataset(self.splits["test"]), shuffle=False)

    def _loader(self, dataset: EmotionDataset, shuffle: bool, weights: np.ndarray | None = None) -> DataLoader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        on_gpu = trainer is not None and not isinstance(trainer.accelerator, CPUAccelerator)
        auto = min(8, os.cpu_count() or 1) if on_gpu else 0
        workers = auto if self.workers == "auto" else int(self.workers)
        kind = FixedSampler if self.overfits else EpochSampler
        sampler = kind(len(dataset), shuffle, self.seed, weights, rank, world)
        sampler.set_epoch(self._first_epoch)
        drop_last = shuffle and len(sampler) >= self.batch_size  # a last batch of one image breaks batch norm
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=tuple,  # `__getitems__` returns complete batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
        )
