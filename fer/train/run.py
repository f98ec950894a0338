"""One training run, from its config to the artifact: data, model, training, report, export."""

import csv
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from omegaconf import DictConfig, ListConfig, OmegaConf

from fer import config, models, plots
from fer.artifact import formats, publish, trust
from fer.artifact.export import export
from fer.artifact.metadata import git_commit
from fer.checks import check_choice, check_flag, check_number, check_path, paths_of
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.errors import ArtifactError, ConfigError
from fer.evaluate import report
from fer.files import expand
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier
from fer.train import distil, initial_weights, leaderboard, quantize, rehearsal, resume
from fer.train.callbacks import Compile, FiniteWeights, History
from fer.train.rehearsal import Rehearsal
from fer.train.trainer import build, fit, keep_best

log = logging.getLogger("train")
_GROUPS = (
    "data", "augment", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "evaluate", "export",
    "distillation", "target_distribution",
)  # fmt: skip
_OF_THE_DATA = (
    "name", "batch_size", "workers", "device", "balanced", "steps", "votes", "drop_non_faces", "drop_duplicates",
)  # fmt: skip
_OF_THE_MODEL = (
    "model", "input_size", "progressive", "label_smoothing", "prior", "mixup", "cutmix", "freeze", "layer_decay",
    "optimizer", "scheduler", "seed",
)  # fmt: skip
_WORST = 100
"""Rows of mistakes.csv that become a table in W&B."""
_NOT_RECORDED = ("run_dir", "logger", "resume", "trust", "dirpath", "default_root_dir")


def run(cfg: DictConfig, watchers: Sequence[L.Callback] = ()) -> dict[str, float]:
    """Train, evaluate and export one model.

    Args:
        cfg: conf/train.yaml, composed.
        watchers: Further callbacks, such as one that prunes a trial.

    Returns:
        The contents of `metrics.json`; an empty dict in all processes but the first.

    Raises:
        FerError: Something that the user can fix.
    """
    _check(cfg)
    _quiet(profile=bool(cfg.trainer.get("profiler")))
    folder = Path(cfg.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with resume.alone_in(folder):
        if cfg.resume and resume.finished(folder):
            log.info("this run is finished")
            return leaderboard.read_metrics(folder / "metrics.json")
        if not cfg.resume:
            resume.check_unused(folder)
        return _run(cfg, folder, watchers)


def _run(cfg: DictConfig, folder: Path, watchers: Sequence[L.Callback]) -> dict[str, float]:
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = EmotionDataModule(
        reader=config.reader(cfg.data.reader),
        augment=config.build(cfg.augment.pipeline, "augment", _convert_="all"),  # OmegaConf's lists are slow to walk
        seed=cfg.seed,
        **{name: cfg.data[name] for name in _OF_THE_DATA},
    )
    data.setup()
    if cfg.monitor.startswith("val_votes/") and data.splits["val"].majority is None:
        raise ConfigError(f"monitor={cfg.monitor} needs votes; set data.votes=fer2013new.csv")
    model, kept = classifier(cfg, data)
    also = paths_of("export.also", cfg.export.also)
    folders = quantize.read_folders(also, data.classes, cfg.input_size, data.channels)

    last = folder / "checkpoints" / resume.LAST
    ckpt_path = str(last) if cfg.resume and last.is_file() else None
    if ckpt_path:
        resume.check_same_run(ckpt_path, model)
    history, loggers = History(cfg.monitor), _loggers(cfg, folder, ckpt_path)
    trainer = build(cfg, [history, FiniteWeights(), Compile(cfg.compile), *watchers], loggers)
    loggers = [logger for logger in loggers if logger in trainer.loggers]  # fast_dev_run has none
    _check_processes(trainer, config.in_sweep() or bool(watchers))  # before any is started

    try:
        fit(trainer, model, data, ckpt_path, cfg.trainer)
        best = keep_best(trainer, folder)
        if not trainer.is_global_zero:
            return {}
        figures = rehearsal.mix_weights(best, kept, data.splits["val"], cfg.keep) if kept else {}
        judged = checkpoints.load(str(best)).to(trainer.strategy.root_device)
        judged.divide_by_prior(cfg.export.prior)
        test, by_votes = cfg.evaluate.test and trainer.limit_test_batches != 0, cfg.monitor.startswith("val_votes/")
        metrics = report.judge(judged, data.splits, folder, test, by_votes)
        metrics |= _facts(cfg, trainer, judged, history) | figures
        report.write_metrics(metrics, folder / "metrics.json")
        if history.epochs:
            plots.curves(history.epochs, cfg.name, folder / "curves.png", cfg.monitor)
        exported = _export(cfg, best, data.splits, folders)
        publish.write_card(folder)
        _log(loggers, metrics, folder, exported)
        report.show(metrics, exported)
        return metrics
    except SystemExit:
        if trainer.interrupted:  # by Ctrl-C; Lightning has shut everything down
            raise KeyboardInterrupt from None
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # or the next job of a sweep would log into this run
                logger.experiment.finish()


def _quiet(profile: bool) -> None:
    """Silence warnings that a user can do nothing about, but not the table of a profiler."""
    for message in (
        "does not have many workers",  # on a CPU, training without loader processes is fastest
        "number of training batches",  # losses are logged by epoch, whatever the interval
        "dirpath has changed",  # of a run whose folder was moved before it is continued
        "could not find the monitored key",  # the callback Monitors says it, as of the next
        "which is not available but strict is set to",
        "exists and is not empty",  # Hydra has already put .hydra/ and train.log there
        "broadcast_buffers. is deprecated",  # 2026-11: torch 2.14 has another name for it, which 2.9 does not know
        "module.s. in eval mode at the start",  # a frozen backbone
        "treespec, LeafSpec",  # 2026-11: Lightning 2.6 with torch 2.14
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no list of absent accelerators
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO if profile else logging.WARNING)


def _check(cfg: DictConfig) -> None:
    """Check the values used in this file; data, model, optimiser and trainer check their own."""
    config.check_groups(cfg, *_GROUPS)
    check_path("run_dir", cfg.run_dir, optional=False)
    check_path("init_from", cfg.init_from)
    check_choice("resume", cfg.resume, (None, "auto"))
    for flag in ("trust", "class_weights", "evaluate.test", "export.flip", "export.onnx", "export.int8"):
        check_flag(flag, OmegaConf.select(cfg, flag))
    check_number("seed", cfg.seed, 0, 2**32 - 1, whole=True)
    check_number("threads", cfg.threads, 1, 4096, whole=True, optional=True)
    if cfg.trainer.max_epochs != -1:  # no end, which needs max_steps
        check_number("trainer.max_epochs", cfg.trainer.max_epochs, 1, whole=True, optional=True)
    check_number("keep", cfg.keep, 0, 0.95)
    if cfg.keep and not cfg.init_from:
        raise ConfigError(f"keep={cfg.keep} keeps answers of a model to start from; set init_from=bundled, or keep=0")
    if cfg.keep and cfg.target_distribution.use == "auxiliary":
        raise ConfigError("keep needs target_distribution.use=mixed; set it, or keep=0")
    check_choice("distillation.images", cfg.distillation.images, ("augmented", "original"))
    check_number("distillation.weight", cfg.distillation.weight, 0, 1, above=True)
    check_choice("target_distribution.use", cfg.target_distribution.use, ("mixed", "auxiliary"))
    most = 1 if cfg.target_distribution.use == "mixed" else math.inf
    check_number("target_distribution.weight", cfg.target_distribution.weight, 0, most)
    formats.get(cfg.export.format)
    check_number("export.crop_margin", cfg.export.crop_margin, -0.4, 2)
    check_number("export.prior", cfg.export.prior, 0, 2)
    if cfg.export.int8 and not cfg.export.onnx and cfg.export.format != "onnx":
        raise ConfigError("export.int8=true quantises model.onnx; set export.onnx=true")
    if paths_of("export.also", cfg.export.also) and not cfg.export.int8:
        raise ConfigError("export.also judges the int8 model; set export.int8=true, or remove it")
    if not isinstance(cfg.monitor, str):
        raise ConfigError(f"monitor={cfg.monitor} must name a metric, such as val/accuracy")
    if cfg.callbacks.get("checkpoint") is None:
        raise ConfigError("callbacks.checkpoint=null leaves nothing to evaluate and export; remove it")
    if "{" not in str(OmegaConf.select(cfg, "callbacks.checkpoint.filename")):  # else others overwrite the best
        top = OmegaConf.select(cfg, "callbacks.checkpoint.save_top_k")
        check_choice("callbacks.checkpoint.save_top_k", 1 if top is None else top, (0, 1))


def classifier(cfg: DictConfig, data: EmotionDataModule) -> tuple[EmotionClassifier, Rehearsal | None]:
    """Create the model of the config, with its initial weights and teachers, for data that is set up.

    Soft labels of the original images become part of the target distributions of `data`, and with `keep`, other faces
    with the answers of the initial weights, which are also returned, become part of its training images.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    train, weight, original = data.splits["train"], cfg.distillation.weight, cfg.distillation.images == "original"
    teachers = paths_of("distillation.teachers", cfg.distillation.teachers)
    if cfg.trust:
        trust.accept(teachers)
        trust.accept([cfg.init_from], initial_weights.FILES)
    target_distribution = values["target_distribution"]
    if teachers and original:
        soft_labels = distil.soft_labels(teachers, train, _device(cfg.trainer))
        train = data.splits["train"] = distil.mix(train, soft_labels, weight, target_distribution)
        if train.targets is not None and train.targets.shape[1] == len(train.classes):
            target_distribution = {"use": "mixed", "weight": 1.0}  # the labels are part of it already
    mean, std = data.statistics()
    class_weights = data.class_weights() if cfg.class_weights else None
    learnt = None if train.targets is None else target_distribution
    if cfg.keep:  # what is learnt of the rehearsed images are distributions, and `draw_from` mixes those of the others
        learnt = {"use": "mixed", "weight": 1.0}
    model = EmotionClassifier(
        classes=list(data.classes),
        channels=data.channels,
        mean=list(mean),
        std=list(std),
        class_weights=class_weights,
        class_prior=data.class_prior(target_distribution, class_weights),
        target_distribution=learnt,
        data={"name": data.name, "fingerprint": train.fingerprint},
        config=_recorded(values),
        git_commit=git_commit(),
        **{name: values[name] for name in _OF_THE_MODEL},
    )
    if cfg.export.prior:
        model.head_weights()  # raises if there is no head to put it in
    models.check_sizes(model.backbone, data.channels, model.sizes())
    known = initial_weights.start_from(model, cfg.init_from) if cfg.init_from else []
    kept = rehearsal.prepare(model, known, train) if cfg.keep else None
    if kept:
        data.draw_from(kept.train, cfg.keep, target_distribution["weight"])
    if teachers and not original:
        model.distil(distil.teachers(teachers, data.classes), weight)
    return model, kept


def _device(options: DictConfig) -> str:
    """Return the device of the trainer, which is not built yet, as in `fer.artifact.device_of`."""
    if options.accelerator == "cpu":
        return "cpu"
    gpus = options.devices
    return f"cuda:{gpus[0]}" if isinstance(gpus, ListConfig) and torch.cuda.is_available() else "auto"


def _recorded(value: Any) -> Any:
    """Return a config without the user's folders: only the last name of absolute paths is kept.

    Relative paths stay, so that a run can be repeated.
    """
    if isinstance(value, dict):
        return {key: _recorded(item) for key, item in value.items() if key not in _NOT_RECORDED}
    if isinstance(value, list):
        return [_recorded(item) for item in value]
    return Path(value).name if isinstance(value, str) and expand(value).is_absolute() else value


def _loggers(cfg: DictConfig, folder: Path, ckpt_path: str | None) -> list[Any]:
    """Build the loggers. For a resumed run, they continue its curves."""
    if ckpt_path:
        log.info("continue from %s", ckpt_path)
    earlier = {"id": resume.wandb_id(folder), "resume": "allow"} if ckpt_path and resume.wandb_id(folder) else {}
    loggers: list[Any] = []
    for name, node in cfg.logger.items():
        if node is not None and cfg.trainer.get("logger") is not False:
            loggers.append(config.build(node, "logger", **(earlier if name == "wandb" else {})))
            if ckpt_path and isinstance(loggers[-1], CSVLogger):
                resume.restore_rows(loggers[-1], folder, checkpoints.read(ckpt_path)["global_step"])
    return loggers


def _check_processes(trainer: L.Trainer, one_of_many: bool) -> None:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if one_of_many and trainer.world_size > 1 and not (environment and environment.creates_processes_externally):
        # Lightning would start each with the command line of the whole sweep.
        raise ConfigError(
            "a job of a sweep or search cannot start processes of its own; set trainer.devices=1, or let "
            "hydra/launcher=submitit_slurm start them with hydra.launcher.tasks_per_node"
        )


def _facts(cfg: DictConfig, trainer: L.Trainer, model: EmotionClassifier, history: History) -> dict[str, float]:
    """Return the speed, duration and seed of the training, and the cost of the model."""
    parameters, macs = models.cost(model.deployable(), model.hparams["channels"], cfg.input_size)
    facts = {
        "train/images_per_second": history.images_per_second(),
        "train/images_per_second_of_wall_time": history.images_per_second(wall=True),
        "train/warm_up_seconds": history.warm_up,
        "train/epochs": float(trainer.current_epoch),
        "train/minutes": history.minutes(),
        "train/seed": float(cfg.seed),
        "model/parameters": float(parameters),
        "model/macs": float(macs),
    }
    if history.epochs and "val/loss" in history.epochs[0]:
        facts["val/loss_epoch_1"] = history.epochs[0]["val/loss"]  # a repetition can be compared after one epoch
    return facts


def _export(cfg: DictConfig, best: Path, splits: dict[str, Split], folders: dict[str, Split]) -> Path:
    """Write the artifacts of a run and return that of `export.format`, which is the last; see `resume.finished`."""
    chosen = {name: cfg.export[name] for name in ("flip", "prior", "crop_margin")}
    main, onnx = (best.parents[1] / f"model{formats.get(name).suffix}" for name in (cfg.export.format, "onnx"))
    copy = onnx.with_suffix(".int8.onnx")
    for path in (onnx, copy):
        path.unlink(missing_ok=True)  # of an earlier export of this run
    if main == onnx:
        export(best, main, format="onnx", **chosen)
    elif cfg.export.onnx:
        try:
            export(best, onnx, format="onnx", **chosen)
        except ArtifactError as error:  # networks vary
            log.warning("no model.onnx: %s", str(error).rpartition("; try ")[0] or error)
    if cfg.export.int8 and onnx.is_file():
        val = splits["val"]
        by_votes = {"val_votes": val.by_majority()} if val.majority is not None and (val.majority >= 0).any() else {}
        try:
            figures = quantize.quantize(onnx, copy, splits["train"].images, {"val": val} | by_votes | folders)
            log.info("model.int8.onnx: %.1f %% of its answers are those of model.onnx", 100 * figures["int8/agreement"])
        except ArtifactError as error:
            log.warning("no model.int8.onnx: %s", error)
    return main if main == onnx else export(best, main, format=cfg.export.format, **chosen)


def _log(loggers: list[Any], metrics: dict[str, float], folder: Path, exported: Path) -> None:
    for logger in loggers:
        logger.log_metrics({f"best/{name}": value for name, value in metrics.items()})
        if isinstance(logger, WandbLogger):
            for picture in sorted(folder.glob("*.png")):
                logger.log_image(picture.stem, [str(picture)])
            with (folder / "mistakes.csv").open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            typed = [[int(row[0]), *row[1:4], *map(float, row[4:])] for row in rows[:_WORST]]
            logger.log_table("worst_mistakes", columns=header, data=typed)
            logger.experiment.log_artifact(str(exported), name=f"{logger.experiment.id}-model", type="model")
        logger.finalize("success")
