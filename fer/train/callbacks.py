"""Callbacks and plugins of the trainer: checkpoints that are whole."""

import io
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from fer.errors import TrainingError
from fer.train.resume import LAST, PREVIOUS


class WholeFiles(TorchCheckpointIO):
    """Lightning's files, but each appears under its name only when it is whole and on the disk.

    (Lightning's own way leads over the system's temporary folder, where a move to another disk is a copy.) The last
    checkpoint leaves the one before it as `previous.ckpt`. Raises `TrainingError` where a file cannot be written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        contents = io.BytesIO()  # torch.save reports a full disk as a mere RuntimeError when it writes a file itself
        torch.save(checkpoint, contents)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(contents.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                path.replace(path.with_name(PREVIOUS))
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise TrainingError(
                f"cannot write {path} ({error.strerror or error}); mend that, and the same command with resume=auto "
                "goes on from the checkpoint before"
            ) from error


class Last(Checkpoint):
    """Keeps `last.ckpt` in `dirpath`: after every epoch and, if given, every `every_n_steps` optimiser steps."""

    def __init__(self, dirpath: str, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps} must be at least 1, or null")
        self.path = Path(dirpath) / LAST
        self.every_n_steps = every_n_steps
        self._saved = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        # Not at the end of an epoch: a run that goes on from there would leave out its validation.
        if (
            self.every_n_steps
            and trainer.global_step % self.every_n_steps == 0
            and trainer.global_step != self._saved
            and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(self.path)
