"""The LightningModule: loss, metrics and optimiser around a backbone."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.utilities.distributed import gather_all_tensors
from torchvision.transforms import v2

from fer import config, metrics, models
from fer.checks import check_flag, check_number
from fer.errors import ConfigError
from fer.models import optimization


class EmotionClassifier(L.LightningModule):
    """A backbone that learns emotions: float32 (N, C, S, S), normalised → logits float32 (N, K).

    All arguments are plain values and are stored in the checkpoint.

    Args:
        model: `name` and arguments for `fer.models.create`.
        classes: The K names.
        channels: 1 or 3.
        input_size: Side in pixels of the square images that the backbone sees.
        mean, std: One value per channel, of pixels scaled to 0–1.
        progressive: Pairs (share of training done, share of `input_size`): early steps train on smaller and cheaper
            images (progressive resizing, Howard 2018).
        label_smoothing: 0 to below 1 (Szegedy et al. 2016, section 7).
        class_weights: K factors of the loss.
        class_prior: Share of each of the K classes in what is learnt.
        prior: Exponent of logit adjustment: how much of `class_prior` the loss takes out of the answers, 0 to 1
            (Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10).
        mixup, cutmix: Alpha of the Beta distribution, 0 for none (Zhang et al. 2018; Yun et al. 2019).
        target_distribution: How target distributions are learnt, None if the data has none. With `use` "mixed" they
            are mixed with the labels and `weight` is their share; with "auxiliary" they have a second head and `weight`
            is the factor of its loss.
        freeze: Train the head alone. The features stay as they are, the statistics of batch norm as well.
        layer_decay: The rate of each layer is that of the next one times this, above 0 to 1 (Clark et al. 2020,
            "ELECTRA", appendix A).
        optimizer: Hydra node with `_target_`.
        scheduler: Hydra node with `_target_`, and `interval` ("step" or "epoch") and `monitor` for Lightning. A value
            "total_steps" becomes the number of optimiser steps of the run.
        seed: Seed of the randomness of the training, such as dropout.
        data, config, git_commit: Only recorded in the checkpoint.

    Raises:
        ConfigError: A value is out of range, or the backbone cannot be created.
    """

    mean: Tensor
    std: Tensor
    class_weights: Tensor | None
    log_prior: Tensor

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
        class_prior: Sequence[float] | None = None,
        prior: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        target_distribution: dict[str, Any] | None = None,
        freeze: bool = False,
        layer_decay: float = 1.0,
        optimizer: dict[str, Any] | None = None,
        scheduler: dict[str, Any] | None = None,
        seed: int = 0,
        data: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        git_commit: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_number("input_size", input_size, 8, 4096, whole=True)
        check_number("label_smoothing", label_smoothing, 0, 1)
        if label_smoothing == 1:
            raise ConfigError("label_smoothing=1 leaves nothing of the labels to learn; set a number below 1")
        check_number("prior", prior, 0, 2)
        check_flag("freeze", freeze)
        check_number("layer_decay", layer_decay, 0, 1, above=True)
        check_number("mixup", mixup, 0, 1000)
        check_number("cutmix", cutmix, 0, 1000)
        _check_progressive(progressive)
        for name in ("lr", "weight_decay"):
            check_number(f"optimizer.{name}", (optimizer or {}).get(name, 0.0))
        self.classes = tuple(classes)
        self.auxiliary = target_distribution is not None and target_distribution["use"] == "auxiliary"
        self.teachers: Callable[[Tensor], Tensor] | None = None
        self.teacher_weight = 0.0
        self.backbone = models.create(classes=len(classes) * (1 + self.auxiliary), channels=channels, **model)
        self.hparams["model"] = {**model, "pretrained": False}  # weights come from the checkpoint
        if self.auxiliary:
            self._heads_of(self.backbone)  # raises if there is none
        if freeze:
            self._freeze()
        self.to(memory_format=torch.channels_last)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("log_prior", _log_prior(class_prior, len(classes)), persistent=False)
        mixes = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.mixes: list[nn.Module] = [mix(alpha=alpha) for mix, alpha in mixes if alpha]
        self._validated: list[tuple[Tensor, ...]] = []
        self._compiled: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        self._trained: list[tuple[Tensor, Tensor, Tensor]] = []

    def _freeze(self) -> None:
        head = self.head_weights()
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in head)

    def train(self, mode: bool = True) -> "EmotionClassifier":
        """Change to training or evaluation. A frozen backbone stays in evaluation."""
        super().train(mode)
        if self.hparams.get("freeze"):
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self._first(self._heads(x))

    def _first(self, heads: Tensor) -> Tensor:
        """Return the logits of the classes, (N, K), without those of a second head."""
        return heads[:, : len(self.classes)] if self.auxiliary else heads

    def _heads(self, x: Tensor) -> Tensor:
        dtype = next(self.backbone.parameters()).dtype  # other than float32 with trainer.precision=bf16-true
        # Logits in half precision would make the loss less exact.
        return self.backbone(x.to(dtype, memory_format=torch.channels_last)).float()

    def deployable(self) -> nn.Module:
        """Return the backbone with one head, float32 (N, C, S, S) → logits (N, K), for an artifact."""
        if not self.auxiliary:
            return self.backbone
        backbone, classes = copy.deepcopy(self.backbone), len(self.classes)
        for head in self._heads_of(backbone).values():
            head.out_features = classes
            for parameter in head.parameters():
                parameter.data = parameter.data[:classes].clone()
        return backbone

    def divide_by_prior(self, exponent: float) -> None:
        """Divide the answers by the class prior to the power of `exponent`, by the bias of the head.

        Raises:
            ConfigError: The backbone does not end in a linear layer, or the prior is not known.
        """
        if not exponent:
            return
        if self.hparams["class_prior"] is None:
            raise ConfigError(f"prior={exponent}: this checkpoint of an earlier version does not have it; set prior=0")
        for head in self._heads_of(self.backbone).values():
            bias = head.weight.new_zeros(head.out_features) if head.bias is None else head.bias.detach().clone()
            bias[: len(self.classes)] -= exponent * self.log_prior.to(bias.dtype)
            head.bias = nn.Parameter(bias)

    def head_weights(self) -> set[str]:
        """Return the names of the weights of the head."""
        heads = self._heads_of(self.backbone)
        return {f"{name}.{key}" for name, head in heads.items() for key in head.state_dict()}

    def _heads_of(self, backbone: nn.Module) -> dict[str, nn.Linear]:
        """Return the last linear layer by its name; of distilled transformers, both, whose mean the logits are."""
        outputs = len(self.classes) * (1 + self.auxiliary)
        found = {n: m for n, m in backbone.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs}
        if not found:
            raise ConfigError(f"{self.hparams['model']['name']} does not end in a linear layer, as this needs")
        return {name: head for name, head in found.items() if name.startswith("head") or name == [*found][-1]}

    def distil(self, teachers: Callable[[Tensor], Tensor], weight: float) -> None:
        """Learn from `teachers`, uint8 (N, C, H, W) → probabilities (N, K), as the share `weight` of the targets."""
        self.teachers, self.teacher_weight = teachers, weight

    def prepare(self, images: Tensor, size: int | None = None) -> Tensor:
        """Resize and normalise as the artifact does: uint8 (N, C, H, W) → float32 (N, C, S, S)."""
        size = size or self.hparams["input_size"]
        x = images.float()
        if x.shape[-2:] != (size, size):
            x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        return (x / 255 - self.mean) / self.std

    def train_size(self) -> int:
        """Return the side in pixels of the images of the current training step."""
        if not self.hparams["progressive"]:
            return self.hparams["input_size"]
        done = self.global_step / max(1, self._total_steps())
        shares = [share for start, share in self.hparams["progressive"] if done >= start]
        return self._side(shares[-1] if shares else 1.0)

    def sizes(self) -> set[int]:
        """Return the sides in pixels of all images that the backbone will see."""
        return {self._side(share) for share in (1.0, *(share for _, share in self.hparams["progressive"]))}

    def _side(self, share: float) -> int:
        size = self.hparams["input_size"]
        return size if share == 1 else max(16, round(size * share / 8) * 8)

    def compile_step(self, **options: Any) -> None:
        """Compile forward pass and loss of training. `options` are those of `torch.compile`."""
        self._compiled = torch.compile(self._forward_and_loss, dynamic=False, **options)

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        if batch_idx == 0:  # Lightning does not call `on_train_epoch_start` for the first epoch of a resumed run
            # Dropout and MixUp depend on epoch and process alone, so a resumed run ends with the same weights. torch
            # keeps 32 bits of a seed on the CPU, so that all numbers are mixed into them.
            entropy = self.hparams["seed"], self.current_epoch, self.global_rank
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            self._trained.clear()

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()  # what was returned for the last batch may be overwritten
        images, labels, *distributions = batch
        x, targets = self.prepare(images, self.train_size()), labels
        if distributions or self.teachers or self.mixes:
            targets = self._targets(images, labels, *distributions)
        if self.mixes:
            mix = self.mixes[int(torch.randint(len(self.mixes), ()))]
            x, targets = mix(x, targets)
        loss, logits = (self._compiled or self._forward_and_loss)(x, targets)
        if self._compiled:  # the next replay of a CUDA graph overwrites them
            loss, logits = loss.clone(), logits.clone()
        # `self.log` in every step would take as long as the loss and its gradient.
        self._trained.append((loss.detach(), logits, labels))
        return loss

    def train_metrics(self) -> dict[str, Tensor]:
        """Return the means over the images of the epoch so far."""
        losses, logits, labels = zip(*self._trained, strict=True)
        sizes = torch.tensor([len(part) for part in labels], device=losses[0].device)
        correct = torch.cat(logits).argmax(1) == torch.cat(labels)
        return {
            "train/loss": (torch.stack(losses) * sizes).sum() / sizes.sum(),
            "train/accuracy": correct.float().mean(),
        }

    def _forward_and_loss(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        heads = self._heads(x)
        return self._loss(heads, targets), self._first(heads).detach()

    def _targets(self, images: Tensor, labels: Tensor, distributions: Tensor | None = None) -> Tensor:
        """Return probabilities (N, K), or (N, 2 K) with the targets of a second head."""
        if distributions is not None and distributions.shape[1] > len(self.classes):
            return distributions  # of both heads already, see `fer.train.distil.mix`
        targets = F.one_hot(labels, len(self.classes)).float()
        distributions = None if distributions is None else distributions.float()  # Lightning casts those of bf16-true
        if distributions is not None and not self.auxiliary:
            targets = torch.lerp(targets, distributions, float(self.hparams["target_distribution"]["weight"]))
        if self.teachers:
            targets = torch.lerp(targets, self.teachers(images), self.teacher_weight)
        return torch.cat([targets, distributions], 1) if distributions is not None and self.auxiliary else targets

    def _loss(self, heads: Tensor, targets: Tensor) -> Tensor:
        classes = len(self.classes)
        own = targets if targets.dim() == 1 else targets[:, :classes]
        smoothing = self.hparams["label_smoothing"]
        weight = None if self.class_weights is None else self.class_weights.to(heads.dtype)
        logits = self._first(heads)
        if self.hparams["prior"]:
            logits = logits + self.hparams["prior"] * self.log_prior
        loss = F.cross_entropy(logits, own, weight=weight, label_smoothing=smoothing)
        if self.auxiliary:
            factor = self.hparams["target_distribution"]["weight"]
            loss = loss + factor * F.cross_entropy(heads[:, classes:], targets[:, classes:])
        return loss

    def on_validation_epoch_start(self) -> None:
        # Under DDP, batch-norm statistics differ between processes; those of rank zero are saved, so validate them.
        if self.trainer.world_size > 1:
            for buffer in self.backbone.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: tuple[Tensor, ...], _: int) -> None:
        images, *labels = batch
        self._validated.append((self(self.prepare(images)), *labels))

    def on_validation_epoch_end(self) -> None:
        """Log every metric that is one number as `val/<name>`, and by the majority of votes as `val_votes/<name>`.

        Under DDP, each image counts once.
        """
        logits, *labels = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        if self.trainer.world_size > 1:
            logits, *labels = (torch.cat(gather_all_tensors(part)) for part in (logits, *labels))
        probabilities = logits.softmax(1).cpu().numpy()
        for split, true in zip(("val", "val_votes"), (part.cpu().numpy() for part in labels), strict=False):
            known = true >= 0
            if not known.any():  # a limit on the batches of validation
                continue
            figures = metrics.compute(probabilities[known], true[known], self.classes)
            for name, value in figures.items():
                if name in metrics.METRICS:  # the report at the end has those by class
                    self.log(f"{split}/{name}", value, prog_bar=name == "accuracy", sync_dist=True)

    def _total_steps(self) -> int:
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            raise ConfigError("the learning-rate schedule needs an end; set trainer.max_epochs or +trainer.max_steps")
        if steps < 1:
            raise ConfigError("trainer.max_steps or trainer.limit_train_batches leaves no step to train; raise it")
        return int(steps)

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule; see `fer.models.optimization`."""
        values = self.hparams
        groups = optimization.parameter_groups(self.backbone, values["optimizer"], values["layer_decay"])
        optimizer = config.build(values["optimizer"], "optimizer", groups)
        optimizer._step_supports_amp_scaling = False  # of fused ones; else Lightning refuses to clip in mixed precision
        if not values["scheduler"]:
            return optimizer
        scheduler = optimization.schedule(optimizer, values["scheduler"], self._total_steps)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _log_prior(prior: Sequence[float] | None, classes: int) -> Tensor:
    """Return log(prior x K), float32 (K,), which is 0 for classes of average size and for classes without images."""
    shares = torch.full((classes,), 1 / classes) if prior is None else torch.tensor(prior, dtype=torch.float32)
    return torch.where(shares > 0, shares * classes, 1.0).log()


def _check_progressive(pairs: Any) -> None:
    try:
        for start, share in pairs:
            check_number("progressive", start, 0, 1)
            check_number("progressive", share, 0, 1, above=True)
    except (TypeError, ValueError):
        raise ConfigError(
            f"progressive={pairs} must be a list of [share of training done, share of input_size], [] for none"
        ) from None
