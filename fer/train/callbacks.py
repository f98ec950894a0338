"""Callbacks and plugins of the trainer."""

import io
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from fer.errors import ConfigError, TrainingError
from fer.files import atomic_write

log = logging.getLogger(__name__)


class AtomicCheckpoints(TorchCheckpointIO):
    """Write each checkpoint completely before it gets its name, so that a killed run leaves no damaged one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)  # torch would turn a full disk into a RuntimeError
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=True) as part:
            part.write_bytes(content.getbuffer())


class History(L.Callback):
    """Record and log every epoch, and the time and speed of training.

    Checkpoints contain the history, so that a resumed run has all of it.

    Attributes:
        epochs: For each epoch `epoch` (from 1), `train/loss`, `lr`, and `val/loss` and `val/accuracy` of the latest
            validation.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._images, self._seconds, self._minutes = 0, 0.0, 0.0
        self._start = self._step_start = time.perf_counter()

    def minutes(self) -> float:
        """Return the wall time of the training, including the runs that this one continues."""
        return self._minutes + (time.perf_counter() - self._start) / 60

    def images_per_second(self) -> float:
        """Return how many images one process trains on per second of its training steps."""
        return self._images / self._seconds if self._images else 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._step_start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._seconds += time.perf_counter() - self._step_start
        self._images += len(batch[1])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {"epoch": float(trainer.current_epoch + 1), "lr": float(trainer.optimizers[0].param_groups[0]["lr"])}
        names = ("train/loss", "val/loss", "val/accuracy")
        row |= {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.epochs.append(row)
        if trainer.is_global_zero:
            figures = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
            total, speed = trainer.max_epochs, self.images_per_second()
            log.info("epoch %d of %s: %s, %.0f images/s", row["epoch"], total, figures, speed)

    def state_dict(self) -> dict[str, Any]:
        speed = {"images": self._images, "seconds": self._seconds, "minutes": self.minutes()}
        return {"epochs": list(self.epochs), **speed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self._minutes = list(state_dict["epochs"]), state_dict["minutes"]
        self._images, self._seconds = state_dict["images"], state_dict["seconds"]


class FiniteWeights(L.Callback):
    """Stop a training whose weights are infinite or NaN, before they are saved. Raises `TrainingError`."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if not all(bool(value.isfinite().all()) for value in pl_module.state_dict().values()):
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingError(
                f"the training has diverged by step {trainer.global_step} (learning rate {rate:.3g}): weights are "
                "infinite or NaN; lower optimizer.lr or trainer.gradient_clip_val; last.ckpt is of an earlier epoch"
            )

    on_validation_start = on_save_checkpoint


class Monitors(L.Callback):
    """Stop a training if something follows a metric that is not logged.

    A training without validation, by `limit_val_batches=0` or `max_steps`, is no error.

    Args:
        monitors: Key of the config → the metric that it follows, or None.
    """

    def __init__(self, monitors: dict[str, str | None]) -> None:
        self.monitors = {key: metric for key, metric in monitors.items() if metric}
        self._start: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = trainer.global_step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._check(trainer, validation=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, validation=False)

    def _check(self, trainer: L.Trainer, validation: bool) -> None:
        for key, metric in self.monitors.items():
            if metric.startswith("val/") == validation and metric not in trainer.callback_metrics:
                known = sorted(name for name in trainer.callback_metrics if name.startswith(("train/", "val/")))
                raise ConfigError(f"{key}={metric} is not logged; choose {', '.join(known)}")

    def idle(self, trainer: L.Trainer) -> list[str]:
        """Return the keys, with their metrics, that had nothing to follow in a training that has ended."""
        if self._start in (None, trainer.global_step):  # it had ended before, and was continued
            return []
        return [f"{key}={metric}" for key, metric in self.monitors.items() if metric not in trainer.callback_metrics]
