"""From splits to batches: the LightningDataModule."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from fer.checks import check_choice, check_flag, check_number, check_path
from fer.data import resident
from fer.data import votes as fer_plus
from fer.data.augment import BatchAugmentation
from fer.data.base import Split, constant, duplicates
from fer.data.dataset import EmotionDataset, EpochSampler, FixedSampler
from fer.data.transforms import Unsupported
from fer.errors import DataError

log = logging.getLogger(__name__)


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
        device: Whether images lie on the device of the training and are augmented there, as whole batches. "auto": on a
            GPU, if train and val take at most a quarter of its free memory. Where the augmentation is only known to
            albumentations, train goes through the loader in any case.
        balanced: Draw every class equally often.
        steps: Steps of an epoch, for which images are drawn again or left out; None to draw each image once.
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
        device: bool | str = "auto",
        balanced: bool = False,
        steps: int | None = None,
        votes: str | None = None,
        drop_non_faces: bool = False,
        drop_duplicates: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_number("data.batch_size", batch_size, 1, whole=True)
        if workers != "auto":
            check_number("data.workers", workers, 0, 1024, whole=True)
        check_choice("data.device", device, ("auto", True, False))
        check_path("data.votes", votes)
        check_flag("data.balanced", balanced)
        check_number("data.steps", steps, 1, whole=True, optional=True)
        check_flag("data.drop_non_faces", drop_non_faces)
        check_flag("data.drop_duplicates", drop_duplicates)
        self.reader, self.name, self.augment = reader, name, augment
        self.batch_size, self.workers, self.device = batch_size, workers, device
        self.balanced, self.steps, self.seed = balanced, steps, seed
        self.votes, self.drop_non_faces, self.drop_duplicates = votes, drop_non_faces, drop_duplicates
        self.splits: dict[str, Split] = {}
        self._batch_augmentation: BatchAugmentation | None = None
        self._resident: bool | None = None
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
            if self.drop_non_faces and len(counts["train"]) == len(train):  # a mixture has left them out itself
                dropped |= fer_plus.non_faces(counts["train"])
        # Training learns the distributions; validation and test are judged by the majority.
        learnt = replace(splits["train"], majority=None)
        splits = {name: replace(split, targets=None) for name, split in splits.items()} | {"train": learnt}
        if self.drop_duplicates:
            dropped |= duplicates(train, [splits["val"], splits["test"]])
        if dropped.any():
            log.info("%d of %d training images are dropped", dropped.sum(), len(train))
            splits["train"] = splits["train"].only(~dropped)
            lost = np.flatnonzero(np.sign(train.counts()) > splits["train"].counts())
            if len(lost):
                raise DataError(f"all training images of {train.classes[lost[0]]} would be dropped; drop less")
        if self.augment is not None:  # fail now, not in the first epoch
            few = [(0, row) for row in range(min(8, len(splits["train"])))]
            try:
                EmotionDataset(splits["train"], self.augment, self.seed).__getitems__(few)
            except DataError:
                raise
            except Exception as error:  # transforms raise anything
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"augment: a transform cannot take these images ({reason}); choose another") from error
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

    def class_prior(
        self, target_distribution: Mapping[str, Any] | None = None, class_weights: Sequence[float] | None = None
    ) -> list[float]:
        """Return the share of each class in what is learnt by the first head, K values of sum 1.

        Args:
            target_distribution: How target distributions are learnt, as in `fer.models.classifier.EmotionClassifier`.
            class_weights: K factors of the loss.
        """
        split = self.splits["train"]
        classes = len(split.classes)
        if split.targets is not None and split.targets.shape[1] > classes:
            targets = split.targets[:, :classes]
        else:
            given = target_distribution or {"use": None}
            targets = split.mixed(given["weight"] if given["use"] == "mixed" else 0)
        shares = np.average(targets.astype(float), axis=0, weights=self._weights()) * (class_weights or 1)
        return (shares / shares.sum()).tolist()

    def class_weights(self) -> list[float]:
        """Return the inverse class frequencies of train, scaled to mean 1, for the loss."""
        weights = 1 / np.maximum(self.splits["train"].counts(), 1)
        return (weights * len(weights) / weights.sum()).tolist()

    def train_dataloader(self) -> DataLoader | resident.ResidentLoader:
        return self._loader("train", self._weights())

    def _weights(self) -> np.ndarray | None:
        """Return how often each training image is drawn, float (N,), relative to the others; None: once an epoch."""
        split = self.splits["train"]
        if not self.balanced:
            return split.weights
        weights = np.ones(len(split)) if split.weights is None else split.weights
        return weights / np.bincount(split.labels, weights, len(split.classes))[split.labels]

    def draw_from(self, others: Split, share: float, weight: float) -> None:
        """Make other images a share of those that training draws. All of train then has target distributions.

        Args:
            others: Images with target distributions, of the size and classes of train.
            share: Of each epoch, 0 to 1.
            weight: Share of the target distributions, if train has such, beside its labels.
        """
        train = self.splits["train"]
        own = self._weights()
        own = np.ones(len(train)) if own is None else own
        weights = [own * (1 - share) / own.sum(), np.full(len(others), share / len(others))]
        self.balanced = False  # it is in the weights
        self.splits["train"] = Split(
            np.concatenate([train.images, others.images]),
            np.concatenate([train.labels, others.labels]),
            train.classes,
            np.concatenate([train.mixed(weight), others.mixed(1)]),
            weights=np.concatenate(weights),
        )

    def val_dataloader(self) -> DataLoader | resident.ResidentLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader | resident.ResidentLoader:
        return self._loader("test")

    def compile_augmentation(self, **options: Any) -> None:
        """Compile the augmentation of train by `torch.compile(**options)`, if it is one of whole batches."""
        if self._batch_augmentation is not None:
            self._batch_augmentation.compile(**options)

    def _loader(self, name: str, weights: np.ndarray | None = None) -> DataLoader | resident.ResidentLoader:
        split, trainer, train = self.splits[name], self.trainer, name == "train"
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        kind = FixedSampler if self.overfits else EpochSampler
        drawn = self.steps * self.batch_size * world if self.steps and train and not self.overfits else None
        sampler = kind(len(split), train, self.seed, weights, rank, world, drawn)
        sampler.set_epoch(self._first_epoch)
        drop_last = train and len(sampler) >= self.batch_size  # a last batch of one image breaks batch norm
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        augment = self.augment if train else None
        if self._resides(device):
            batched = self._for_batches(augment, device)
            if train:
                self._batch_augmentation = batched
            if augment is None or batched is not None:
                return resident.ResidentLoader(split, sampler, self.batch_size, drop_last, device, batched)
        on_gpu = device.type != "cpu"
        auto = min(8, os.cpu_count() or 1) if on_gpu else 0
        workers = auto if self.workers == "auto" else int(self.workers)
        return DataLoader(
            EmotionDataset(split, augment, self.seed),
            self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=tuple,  # `__getitems__` returns complete batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
        )

    def _resides(self, device: torch.device) -> bool:
        """Return whether the images shall lie on the device."""
        if self._resident is None:  # decided once: afterwards, less of the GPU is free
            self._resident = self.device is True
            if self.device == "auto" and device.type == "cuda":
                self._resident = resident.fits((self.splits["train"], self.splits["val"]), device)
                where = (
                    "lie on" if self._resident else "go through the loader, as they would take much of the memory of"
                )
                log.info("training and validation images %s %s", where, device)
        return self._resident

    def _for_batches(self, augment: Any, device: torch.device) -> BatchAugmentation | None:
        """Return an augmentation as one of whole batches; None, and a line in the log, if it cannot be one."""
        if augment is None:
            return None
        height, width = self.splits["train"].images.shape[1:3]
        try:
            return BatchAugmentation(augment, (self.channels, height, width), device)
        except Unsupported as reason:
            log.info("training images are augmented in the loader: %s has no version for batches", reason)
            return None
