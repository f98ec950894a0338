"""Callbacks and plugins of the trainer."""

import io
import logging
import os
import shutil
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fer.checks import check_choice, check_number
from fer.errors import ConfigError, TrainingError
from fer.files import atomic_write
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)


class AtomicCheckpoints(TorchCheckpointIO):
    """Write each checkpoint completely before it gets its name, so that a killed run leaves no damaged one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)  # torch would turn a full disk into a RuntimeError
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=True) as part:
            part.write_bytes(content.getbuffer())


class EMA(WeightAveraging):
    """Keep the exponential moving average of the weights and buffers, which is validated, saved and exported.

    The same as Lightning's `EMAWeightAveraging(decay**k, update_every_n_steps=k)`, updated by one fused operation.

    Args:
        decay: Share of the average that remains after one step, 0 to 1.
        every_n_steps: Steps k between updates; each has the weight of k steps.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 10) -> None:
        check_number("callbacks.ema.decay", decay, 0, 1)
        check_number("callbacks.ema.every_n_steps", every_n_steps, 1, whole=True)
        super().__init__()
        self.every_n_steps, self._weight = every_n_steps, 1 - decay**every_n_steps

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the model is moved there later; else the average stays on the CPU
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        average = cast(nn.Module, cast(AveragedModel, self._average_model).module)
        pairs = [
            (mean.detach(), value.detach()) for mean, value in zip(_tensors(average), _tensors(pl_module), strict=True)
        ]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]  # batches seen by batch norm

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step  # of the optimiser
        if step > self._latest_update_step and (step - 1) % self.every_n_steps == 0:
            means = [mean for mean, _ in self._floats]
            values = [value.to(mean.dtype) for mean, value in self._floats]  # which differ with bf16-true
            torch._foreach_lerp_(means, values, self._weight if self._latest_update_step else 1.0)  # 1 copies
            for count, value in self._counts:
                count.copy_(value)
            self._latest_update_step = step


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


class Compile(L.Callback):
    """Compile forward pass and loss, the augmentation by batch, and teachers that are checkpoints.

    On a single GPU the step is replayed as a CUDA graph, unless gradients are accumulated: a replay overwrites the
    gradients of the batch before.

    Args:
        when: True, False, or "auto": on a GPU, where the training is long enough to be worth the time that compiling
            takes, once for each size of the images.

    Raises:
        ConfigError: `when` is something else or, when the training starts, True where nothing can be compiled.
    """

    _LONG = 5_000
    """Steps for each size in a long training. A step of a bare loop was 5 ms shorter (H100), which regains 25 s."""

    def __init__(self, when: bool | str) -> None:
        check_choice("compile", when, (True, False, "auto"))
        self.when, self._graphs = when, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module, on_gpu = cast(EmotionClassifier, pl_module), pl_module.device.type == "cuda"
        pays = on_gpu and trainer.estimated_stepping_batches >= self._LONG * len(module.sizes())
        if self.when is True or (self.when == "auto" and pays):
            if reason := _cannot_compile(on_gpu):
                if self.when is True:
                    raise ConfigError(f"compile=true: {reason}; install it, or set compile=false")
                log.info("the model is not compiled: %s", reason)
                return
            torch.compiler.reset()  # what earlier jobs of this process have compiled
            self._graphs = on_gpu and trainer.world_size == trainer.accumulate_grad_batches == 1
            options = {"mode": "reduce-overhead"} if self._graphs else {}
            module.compile_step(**options)
            cast(Any, trainer).datamodule.compile_augmentation()  # without graphs: the step must not overwrite a batch
            if module.teachers:
                cast(Any, module.teachers).compile(**options)
            log.info("the first steps compile the model; compile=false avoids it")

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self._graphs:  # gradients lie in the memory of the graph; Lightning drops them after the next forward pass
            pl_module.zero_grad()


def _cannot_compile(on_gpu: bool) -> str | None:
    """Return what `torch.compile` lacks here, None if nothing."""
    if on_gpu:
        from torch.utils._triton import has_triton  # slow to import

        if not has_triton():
            return "Triton is missing, or this GPU is too old for it"
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        return "there is no C compiler"
    return None


class History(L.Callback):
    """Record and log every epoch, and the time and speed of training.

    Checkpoints contain the history, so that a resumed run has all of it. Where time is taken, at the ends of epochs,
    a GPU is waited for.

    Args:
        monitor: The metric that chooses the best epoch.

    Attributes:
        epochs: For each epoch `epoch` (from 1), `train/loss`, `lr`, and of the latest validation `val/loss`, the
            accuracies and `monitor`.
        warm_up: Seconds of the first steps in this process, in which libraries are loaded and the model is compiled.
            Excluded from the speed, unless there are no other steps.
    """

    _WARM_UP = 4

    def __init__(self, monitor: str = "val/accuracy") -> None:
        self._names = dict.fromkeys(("train/loss", "val/loss", "val/accuracy", "val_votes/accuracy", monitor))
        self.epochs: list[dict[str, float]] = []
        self.warm_up = 0.0
        self._images, self._seconds, self._wall, self._minutes = 0, 0.0, 0.0, 0.0
        self._steps, self._first_images = 0, 0
        self._start = self._step_start = self._wall_start = time.perf_counter()
        self._training = False

    def minutes(self) -> float:
        """Return the wall time of the training, including the runs that this one continues."""
        return self._minutes + (time.perf_counter() - self._start) / 60

    def images_per_second(self, wall: bool = False) -> float:
        """Return how many images one process trains on per second.

        Args:
            wall: Count all time from epoch to epoch, with validation and checkpoints, not only that of training steps.
        """
        if not self._images:
            return self._first_images / self.warm_up if self.warm_up else 0.0
        return self._images / (self._wall if wall else self._seconds)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if not self._training:  # the first step, and the first after a validation
            self._training, self._step_start = True, _now(pl_module)
            if not self._steps:
                self._wall_start = self._step_start

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        if self._steps > self._WARM_UP:
            self._images += len(batch[1])
            return
        self._first_images += len(batch[1])
        now = _now(pl_module)
        self.warm_up += now - self._step_start
        self._step_start = self._wall_start = now

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._training:
            self._seconds += _now(pl_module) - self._step_start
            self._training = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)
        now = time.perf_counter()
        self._wall += now - self._wall_start
        self._wall_start = now
        means = cast(EmotionClassifier, pl_module).train_metrics()
        pl_module.log("train/loss", means["train/loss"], prog_bar=True, sync_dist=True)
        pl_module.log("train/accuracy", means["train/accuracy"], sync_dist=True)
        row = {"epoch": float(trainer.current_epoch + 1), "lr": float(trainer.optimizers[0].param_groups[0]["lr"])}
        row |= {name: float(trainer.callback_metrics[name]) for name in self._names if name in trainer.callback_metrics}
        self.epochs.append(row)
        if trainer.is_global_zero:
            figures = ", ".join(f"{name} {row[name]:.4f}" for name in self._names if name in row)
            total, speed = trainer.max_epochs, self.images_per_second()
            log.info("epoch %d of %s: %s, %.0f images/s", row["epoch"], total, figures, speed)

    def state_dict(self) -> dict[str, Any]:
        speed = {"images": self._images, "seconds": self._seconds, "wall": self._wall, "minutes": self.minutes()}
        return {"epochs": list(self.epochs), **speed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self._minutes = list(state_dict["epochs"]), state_dict["minutes"]
        self._images, self._seconds, self._wall = (state_dict[name] for name in ("images", "seconds", "wall"))


def _now(module: L.LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()


class FiniteWeights(L.Callback):
    """Stop a training whose weights are infinite or NaN, before they are saved. Raises `TrainingError`."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if not torch.stack([value.isfinite().all() for value in pl_module.state_dict().values()]).all():
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
            if metric.startswith("val") == validation and metric not in trainer.callback_metrics:
                known = sorted(name for name in trainer.callback_metrics if name.startswith(("train/", "val")))
                raise ConfigError(f"{key}={metric} is not logged; choose {', '.join(known)}")

    def idle(self, trainer: L.Trainer) -> list[str]:
        """Return the keys, with their metrics, that had nothing to follow in a training that has ended."""
        if self._start in (None, trainer.global_step):  # it had ended before, and was continued
            return []
        return [f"{key}={metric}" for key, metric in self.monitors.items() if metric not in trainer.callback_metrics]
