"""Lightning's trainer: every switch of `trainer.<key>` works or is refused in one line, whatever it leaves of a run."""

import logging
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

from fer import config
from fer.checks import check_number
from fer.data.datamodule import EmotionDataModule
from fer.errors import ConfigError, TrainingError
from fer.train import resume
from fer.train.callbacks import Monitors

log = logging.getLogger("train")
_LIGHTNING = Path(L.__file__).parent


def build(cfg: DictConfig, further: Sequence[L.Callback], loggers: Sequence[Any]) -> L.Trainer:
    """Build the trainer of a config.

    Args:
        cfg: conf/train.yaml, composed. Of its callbacks, those that the trainer's switches make useless are left out.
        further: More callbacks.
        loggers: Those that the config describes.

    Raises:
        ConfigError: Lightning refuses a value.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 wherever float32 remains
        torch.backends.cudnn.benchmark = True  # Lightning turns it off where trainer.deterministic is set
    options = cfg.trainer
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning would divide by zero
        check_number(f"trainer.{name}", options.get(name, 1), 1, whole=True, optional=name.startswith("check"))
    check_number("trainer.val_check_interval", options.get("val_check_interval"), above=True, optional=True)
    if not isinstance(options.get("max_time"), str | DictConfig | None):
        raise ConfigError(
            f"trainer.max_time={options.max_time} must be days:hours:minutes:seconds, such as 00:08:00:00"
        )
    if options.get("callbacks"):
        raise ConfigError("trainer.callbacks is not read; add each as +callbacks.<name>={_target_: …}")
    if options.get("logger"):
        raise ConfigError("trainer.logger is not read; set logger=csv or logger=wandb, or trainer.logger=false")
    if repr(options.get("limit_test_batches")) not in ("None", "0", "0.0", "1.0"):
        log.warning("trainer.limit_test_batches: only 0 has a meaning; the report is on the whole test split")
    useless = {
        ModelCheckpoint: options.get("enable_checkpointing") is False,
        ProgressBar: options.get("enable_progress_bar") is False,
        LearningRateMonitor: not loggers,
    }
    kinds = tuple(kind for kind, applies in useless.items() if applies)
    built = config.build(cfg.callbacks, "callbacks")
    callbacks = {name: node for name, node in built.items() if node is not None and not isinstance(node, kinds)}
    metrics = {name: getattr(node, "monitor", None) for name, node in callbacks.items()}
    followed = {"monitor" if m == cfg.monitor else f"callbacks.{name}.monitor": m for name, m in metrics.items()}
    monitors = Monitors(followed | {"scheduler.monitor": cfg.scheduler.get("monitor")})
    all_callbacks = [*further, *callbacks.values(), monitors]  # the progress bar shows what `further` log
    try:
        further_options = {"callbacks": all_callbacks, "logger": list(loggers), "precision": _precision(options)}
        return config.build(options, "trainer", _convert_="all", **further_options)
    except ConfigError as error:
        raise ConfigError(f"{error}; given: {_given(options)}") from error


def _precision(options: DictConfig) -> Any:
    """Return trainer.precision, for "auto" bf16-mixed where it is faster: on a GPU, and on a CPU with AMX.

    Lightning does not know "auto". Without AMX, bf16 may take ten times as long on a CPU.
    """
    if options.get("precision") != "auto":
        return options.get("precision")
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu or torch.cpu._is_amx_tile_supported() else "32-true"


def _given(options: DictConfig) -> str:
    """Return the values that are not those of conf/trainer/auto.yaml: Lightning's messages may not name the key."""
    usual: Any = OmegaConf.to_container(OmegaConf.load(config.CONF / "trainer" / "auto.yaml"))
    values: Any = OmegaConf.to_container(options)
    return ", ".join(f"trainer.{key}={value}" for key, value in values.items() if (key, value) not in usual.items())


def fit(
    trainer: L.Trainer, model: L.LightningModule, data: EmotionDataModule, ckpt_path: str | None, options: DictConfig
) -> None:
    """Train, from the checkpoint `ckpt_path` if there is one. `options` are the values of the trainer, for messages.

    Raises:
        ConfigError: Lightning refuses a value only when the training starts.
        TrainingError: Nothing was trained, or the model cannot be compiled.
    """
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if not isinstance(error, MisconfigurationException) and not raised_in.is_relative_to(_LIGHTNING):
            raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if data.overfits:  # what Lightning names instead would not help
            reason = reason.replace("limit_train_batches", "overfit_batches")
        raise ConfigError(
            f"trainer: {reason}; see conf/trainer and conf/callbacks; given: {_given(options)}"
        ) from error
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"compile: {reason[:200]}; install a C++ compiler, or set compile=false") from error
    if not trainer.global_step:
        raise TrainingError("no step was trained; raise trainer.max_steps, limit_train_batches or max_time")


def keep_best(trainer: L.Trainer, folder: Path) -> Path:
    """Return best.ckpt of a run folder, after the training. Without a best epoch, it holds the last weights.

    A warning says so, and names what had no metric to follow. All processes of a run call this together.
    """
    best, lines = folder / "checkpoints" / resume.BEST, []
    for monitors in cast(Any, trainer).callbacks:
        if isinstance(monitors, Monitors) and (idle := monitors.idle(trainer)):
            lines.append(f"no value was logged for {', '.join(idle)}")
    if not trainer.strategy.broadcast(best.is_file()):
        kept = [c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
        if path := next(filter(None, kept), None):  # under another name
            if trainer.is_global_zero:
                shutil.copyfile(path, best)
        else:
            lines.append("no epoch was kept as the best: best.ckpt, the report and the artifact are of the last step")
            trainer.save_checkpoint(best)
    if lines and trainer.is_global_zero:
        log.warning("; ".join(lines))
    return best
