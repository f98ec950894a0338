"""The LightningModule: loss, metrics and optimiser around a backbone."""

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchvision.transforms import v2

from fer import config as targets
from fer import models
from fer.errors import ConfigError, TrainingError

log = logging.getLogger(__name__)


class EmotionClassifier(L.LightningModule):
    """A backbone that learns emotions; `forward`: float32 (N, C, S, S), normalised → logits (N, K).

    All arguments are plain values and are stored in the checkpoint, so that `load_from_checkpoint(path)` needs
    nothing else.

    model: name, and arguments for `fer.models.create`. classes: K names. channels: 1 or 3. input_size: side of the
    square that the backbone sees, in pixels. mean, std: per channel, of pixels scaled to 0–1. progressive: pairs
    (share of training done, share of input_size), so that early steps train on smaller, cheaper images (Howard 2018,
    progressive resizing). label_smoothing: 0 to 1 (Szegedy et al. 2016, section 7). class_weights: K factors of the
    loss. mixup, cutmix: alpha of the Beta distribution, 0 for none (Zhang et al. 2018; Yun et al. 2019).
    votes: how batches with targets (N, K) are learnt, or None: `use` "targets" mixes them into the labels, `weight`
    is their share; `use` "auxiliary" gives them a second head, `weight` is the factor of its loss. Targets (N, 2 K)
    are those of both heads.
    optimizer, scheduler: Hydra nodes with `_target_`; a scheduler's value "total_steps" becomes that number.
    seed: of what is random in a step. augment, data, config, git_commit: recorded, not used.
    """

    mean: Tensor
    std: Tensor
    class_weights: Tensor | None

    def __init__(
        self,
        model: dict[str, Any],
        classes: Sequence[str],
        channels: int,
        input_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        progressive: Sequence[Sequence[float]] = (),
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        votes: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        scheduler: dict[str, Any] | None = None,
        seed: int = 0,
        augment: str = "none",
        data: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        git_commit: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing={label_smoothing} must lie in 0 … 1, below 1")
        if mixup < 0 or cutmix < 0:
            raise ConfigError(f"mixup={mixup} and cutmix={cutmix} must not be negative")
        for pair in progressive:
            if len(pair) != 2 or not 0 <= pair[0] < 1 or not 0 < pair[1] <= 1:
                raise ConfigError(f"progressive={list(progressive)} must be pairs such as [0.5, 0.67]")
        if votes and (votes["use"] not in ("targets", "auxiliary") or votes["weight"] < 0):
            raise ConfigError(f"votes={votes} must be use: targets or auxiliary, and weight: a number from 0")
        if votes and votes["use"] == "targets" and votes["weight"] > 1:
            raise ConfigError(f"votes.weight={votes['weight']} is a share of the target and must lie in 0 … 1")
        self.classes = tuple(classes)
        self.auxiliary = votes is not None and votes["use"] == "auxiliary"
        self.teachers: Callable[[Tensor], Tensor] | None = None
        self.teacher_weight = 0.0
        self.backbone = models.create(classes=len(classes) * (1 + self.auxiliary), channels=channels, **model)
        self.hparams["model"] = {**model, "pretrained": False}  # a checkpoint brings its own weights
        if self.auxiliary:
            self._head(self.backbone)  # tells at once where there is none
        self.to(memory_format=torch.channels_last)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.mixes: list[nn.Module] = []
        if mixup:
            self.mixes.append(v2.MixUp(alpha=mixup))
        if cutmix:
            self.mixes.append(v2.CutMix(alpha=cutmix))
        self.accuracy = MulticlassAccuracy(len(classes), average="micro")
        self.f1 = MulticlassF1Score(len(classes), average="macro")
        self._images, self._seconds, self._started = 0, 0.0, 0.0
        self._minutes, self._began = 0.0, time.perf_counter()
        self.train_accuracy = MulticlassAccuracy(len(classes), average="micro")
        self.train_loss = MeanMetric(nan_strategy="disable")  # looking for them would make a GPU wait
        self.loss = MeanMetric(nan_strategy="disable")

    def forward(self, x: Tensor) -> Tensor:
        return self._heads(x)[:, : len(self.classes)]

    def _heads(self, x: Tensor) -> Tensor:
        # logits in half precision would cost the loss its last digits
        return self.backbone(x.contiguous(memory_format=torch.channels_last)).float()

    def deployable(self) -> nn.Module:
        """The backbone with one head, float32 (N, C, S, S) → logits (N, K): what an artifact is made of."""
        if not self.auxiliary:
            return self.backbone
        backbone, classes = copy.deepcopy(self.backbone), len(self.classes)
        head = self._head(backbone)[1]
        head.weight = nn.Parameter(head.weight.detach()[:classes].clone())
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias.detach()[:classes].clone())
        head.out_features = classes
        return backbone

    def head_weights(self) -> set[str]:
        """The names, in the backbone, of the weights that make logits."""
        name, head = self._head(self.backbone)
        return {f"{name}.{key}" for key in head.state_dict()}

    def _head(self, backbone: nn.Module) -> tuple[str, nn.Linear]:
        outputs = len(self.classes) * (1 + self.auxiliary)
        found = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
        if not found:
            raise ConfigError(f"{self.hparams['model']['name']} does not end in a linear layer, which this needs")
        return found[-1]

    def teach(self, teachers: Callable[[Tensor], Tensor], weight: float) -> None:
        """Let `teachers`, uint8 (N, C, H, W) → probabilities (N, K), be the share `weight` of the targets, above 0
        to 1."""
        if not 0 < weight <= 1:
            raise ConfigError(f"teacher_weight={weight} must lie in 0 … 1, above 0")
        self.teachers, self.teacher_weight = teachers, weight

    def prepare(self, images: Tensor, size: int | None = None) -> Tensor:
        """uint8 (N, C, H, W) → float32 (N, C, S, S), normalised, as the artifact does it."""
        size = size or self.hparams["input_size"]
        x = images.float()
        if x.shape[-2:] != (size, size):
            x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        return (x / 255 - self.mean) / self.std

    def train_size(self) -> int:
        """Side in pixels of the images of the present training step."""
        done = self.global_step / max(1, self._total_steps())
        shares = [share for start, share in self.hparams["progressive"] if done >= start]
        return self._side(shares[-1] if shares else 1.0)

    def sizes(self) -> set[int]:
        """All sides in pixels that the backbone will see."""
        return {self._side(share) for share in (1.0, *(share for _, share in self.hparams["progressive"]))}

    def _side(self, share: float) -> int:
        size = self.hparams["input_size"]
        return size if share == 1 else max(16, round(size * share / 8) * 8)

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, labels, *votes = batch
        x, targets = self.prepare(images, self.train_size()), labels
        if votes or self.teachers or self.mixes:
            targets = self._targets(images, labels, *votes)
        if self.mixes:
            mix = self.mixes[int(torch.randint(len(self.mixes), ()))]
            x, targets = mix(x, targets)
        heads = self._heads(x)
        loss = self._loss(heads, targets)
        self.train_accuracy(heads[:, : len(self.classes)], labels)
        self.train_loss(loss.detach(), len(labels))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def _targets(self, images: Tensor, labels: Tensor, votes: Tensor | None = None) -> Tensor:
        """Probabilities (N, K), or (N, 2 K) where the second head has targets of its own."""
        if votes is not None and votes.shape[1] > len(self.classes):
            return votes  # those of both heads, as `distil.taught` has made them
        targets = F.one_hot(labels, len(self.classes)).float()
        if votes is not None and not self.auxiliary:
            targets = torch.lerp(targets, votes, float(self.hparams["votes"]["weight"]))
        if self.teachers:
            targets = torch.lerp(targets, self.teachers(images), self.teacher_weight)
        return torch.cat([targets, votes], 1) if votes is not None and self.auxiliary else targets

    def _loss(self, heads: Tensor, targets: Tensor) -> Tensor:
        classes = len(self.classes)
        own = targets if targets.dim() == 1 else targets[:, :classes]
        smoothing = self.hparams["label_smoothing"]
        loss = F.cross_entropy(heads[:, :classes], own, weight=self.class_weights, label_smoothing=smoothing)
        if self.auxiliary:
            loss = loss + self.hparams["votes"]["weight"] * F.cross_entropy(heads[:, classes:], targets[:, classes:])
        return loss

    def on_train_epoch_start(self) -> None:
        for metric in (self.train_accuracy, self.train_loss):  # not in the middle of a resumed epoch
            metric.reset()

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # dropout and MixUp then depend on the step alone, so that a resumed run goes on as if it had not stopped
        torch.manual_seed(self.hparams["seed"] * 1_000_003 + self.global_step)
        self._started = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self._seconds += time.perf_counter() - self._started
        self._images += len(batch[1])
        if self.global_step % 50 == 0:  # seldom, since a GPU has to wait for the answer
            self._check_finite(dict(self.backbone.named_parameters()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save what is not finite, so that the last checkpoint is one to go on from."""
        for key in ("state_dict", "current_model_state", "optimizer_states"):
            self._check_finite(checkpoint.get(key))
        checkpoint["effort"] = {"images": self._images, "seconds": self._seconds, "minutes": self.minutes()}
        checkpoint["epoch_so_far"] = [dict(m.metric_state) for m in (self.train_accuracy, self.train_loss)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        effort = checkpoint.get("effort", {"images": 0, "seconds": 0.0, "minutes": 0.0})
        self._images, self._seconds, self._minutes = effort["images"], effort["seconds"], effort["minutes"]
        metrics = (self.train_accuracy, self.train_loss)
        for metric, state in zip(metrics, checkpoint.get("epoch_so_far", ()), strict=False):
            for name, value in state.items():
                setattr(metric, name, value.to(metric.device))

    def _check_finite(self, values: Any) -> None:
        if isinstance(values, dict | list | tuple):
            for value in values.values() if isinstance(values, dict) else values:
                self._check_finite(value)
        elif isinstance(values, Tensor) and values.is_floating_point() and not bool(values.isfinite().all()):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingError(
                f"the training has diverged by step {self.global_step} (learning rate {rate:.3g}): the weights are no "
                "finite numbers any more; lower optimizer.lr or gradient_clip_val, last.ckpt is from before"
            )

    def minutes(self) -> float:
        """Of wall time that the training of this run has taken, all its processes one after the other together."""
        return self._minutes + (time.perf_counter() - self._began) / 60

    def images_per_second(self) -> float:
        """Images of this process trained on, by the seconds its training steps took."""
        return self._images / self._seconds if self._images else 0.0

    def on_validation_epoch_start(self) -> None:
        # Under DDP each process has batch-norm statistics of its own images; those of rank zero are kept and judged.
        if self.trainer.world_size > 1:
            for buffer in self.backbone.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: tuple[Tensor, ...], _: int) -> None:
        self._judge(batch, "val")

    def on_validation_end(self) -> None:
        if not self.trainer.is_global_zero:
            return
        found = self.trainer.callback_metrics
        log.info(
            "epoch %d of %s: val/accuracy %.4f, val/loss %.4f, %.0f images/s",
            self.current_epoch + 1,
            self.trainer.max_epochs,
            found["val/accuracy"],
            found["val/loss"],
            self.images_per_second(),
        )

    def test_step(self, batch: tuple[Tensor, ...], _: int) -> None:
        self._judge(batch, "test")

    def _judge(self, batch: tuple[Tensor, ...], split: str) -> None:
        images, labels = batch[:2]
        logits = self(self.prepare(images))
        self.accuracy(logits, labels)
        self.f1(logits, labels)
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
        # By image: Lightning's sync_dist rounds half an image away, and torchmetrics drops weights beside "disable".
        self.loss(F.cross_entropy(logits, labels, reduction="none"))
        self.log(f"{split}/loss", self.loss, **options)
        self.log(f"{split}/accuracy", self.accuracy, prog_bar=True, **options)
        self.log(f"{split}/f1_macro", self.f1, **options)

    def _total_steps(self) -> int:
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            raise ConfigError("without an end there is no schedule; give trainer.max_epochs or +trainer.max_steps")
        return int(steps)

    def configure_optimizers(self) -> Any:
        """SGD or AdamW as configured; biases and norms are not decayed (He et al. 2019, section 3.1)."""
        node = dict(self.hparams["optimizer"] or {"_target_": "torch.optim.SGD", "lr": 0.01})
        groups = param_groups_weight_decay(self.backbone, weight_decay=node.get("weight_decay", 0.0))
        optimizer = targets.build(node, "optimizer", groups)
        if not self.hparams["scheduler"]:
            return optimizer
        node = {k: self._total_steps() if v == "total_steps" else v for k, v in self.hparams["scheduler"].items()}
        try:
            scheduler = targets.build(node, "scheduler", optimizer)
        except ConfigError as error:
            if not isinstance(error.__cause__, ZeroDivisionError):  # OneCycleLR whose way up is one step long
                raise
            steps = self._total_steps()
            raise ConfigError(
                f"scheduler: {steps} steps are too few for it; raise trainer.max_epochs, or set scheduler=cosine"
            ) from None
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
