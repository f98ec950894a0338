"""One run: from its config to data, training, report and artifact."""

import csv
import errno
import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from fer import config as targets
from fer import models, plots
from fer.artifact import formats, trust
from fer.artifact.export import export
from fer.artifact.metadata import git_commit
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.errors import ConfigError, TrainingError
from fer.evaluate import report
from fer.files import expand
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier
from fer.train import distil, initial_weights, leaderboard, resume
from fer.values import check_values

log = logging.getLogger("train")
_WORST = 100
"""Rows of mistakes.csv that become a table in W&B."""


def _quiet() -> None:
    """Keep to what a user can act on; each line has its reason."""
    for message in (
        "does not have many workers",  # a CPU trains fastest with no loader processes beside it
        "number of training batches",  # losses are logged by epoch, whatever the interval
        "Experiment logs directory",  # Hydra has already put .hydra/ and train.log there
        "dirpath has changed",  # ckpt_path= into a new folder: it gets a best.ckpt of its own
        "exists and is not empty",  # the folder of a resumed run
        "dataloader is not resumable",  # a run stopped inside an epoch repeats some of its images
        "broadcast_buffers. is deprecated",  # 2026-11: torch 2.14 has another name for it, which 2.9 does not know
        "treespec, LeafSpec",  # 2026-11: Lightning 2.6 with torch 2.14
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no list of absent accelerators


def classifier(cfg: DictConfig, data: EmotionDataModule) -> EmotionClassifier:
    """The classifier that the config describes, for data that is set up."""
    mean, std = data.statistics()
    values = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    not_of_the_model = ("run_dir", "logger", "ckpt_path", "resume", "checkpoint", "trust")
    recorded = {k: v for k, v in values.items() if k not in not_of_the_model}
    recorded["data"] = _without_folders(values["data"])
    recorded["init_from"] = _without_home(values["init_from"])
    recorded["teacher"] = [_without_home(path) for path in values["teacher"]]
    recorded["trainer"] = {k: v for k, v in values["trainer"].items() if k not in ("default_root_dir", "plugins")}
    recorded["callbacks"] = {k: v for k, v in values["callbacks"].items() if k in ("ema", "early_stopping")}
    return EmotionClassifier(
        model=values["model"],
        classes=list(data.classes),
        channels=data.channels,
        input_size=values["input_size"],
        mean=list(mean),
        std=list(std),
        progressive=values["progressive"],
        label_smoothing=values["label_smoothing"],
        class_weights=data.class_weights() if values["class_weights"] else None,
        mixup=values["mixup"],
        cutmix=values["cutmix"],
        votes=_votes(values, data.splits["train"]),
        optimizer=values["optimizer"],
        scheduler=values["scheduler"],
        seed=values["seed"],
        augment=values["augment"]["name"],
        data={"name": data.name, "fingerprint": data.splits["train"].fingerprint},
        config=recorded,
        git_commit=git_commit(),
    )


def _without_folders(data: dict[str, Any]) -> dict[str, Any]:
    """Where somebody keeps the data is nothing to hand on with a model: of `root` and `votes` the last name is left."""
    named = {key: Path(data[key]).name for key in ("root", "votes") if data.get(key)}
    reader = data["reader"] | ({"root": named["root"]} if "root" in named and "root" in data["reader"] else {})
    return data | named | {"reader": reader}


def _without_home(path: str | None) -> str | None:
    """Likewise of models that were started from; a place in the project is kept, so that a run can be repeated."""
    return path if path is None or not expand(path).is_absolute() else Path(path).name


def _votes(values: dict[str, Any], train: Split) -> dict[str, Any] | None:
    """How targets are learnt; those that `distil.taught` has mixed already are learnt as they are."""
    if train.targets is None:
        return None
    mixed = values["teacher"] and values["teacher_sees"] == "originals"
    one_head = train.targets.shape[1] == len(train.classes)
    return {"use": "targets", "weight": 1.0} if mixed and one_head else values["votes"]


def run(cfg: DictConfig, watchers: Sequence[L.Callback] = ()) -> dict[str, float]:
    """One run, from data to artifact: returns what `metrics.json` holds. Raises `FerError` where a user can help.

    watchers: callbacks beside those of the config, such as one that ends a trial early.
    """
    _quiet()
    targets.check_groups(
        cfg, "data", "augment", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "export", "votes"
    )
    check_values(cfg)
    folder = Path(cfg.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if cfg.resume not in (None, "auto"):
        raise ConfigError(f"resume={cfg.resume} is unknown; give resume=auto, or ckpt_path=<a checkpoint>")
    with resume.alone_in(folder) if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
        if cfg.resume and resume.finished(folder):
            log.info("this run is finished")
            return leaderboard.read_metrics(folder / "metrics.json")
        if not cfg.resume and getattr(rank_zero_only, "rank", 0) == 0:
            resume.check_unused(folder, cfg.ckpt_path)
        try:
            return _run(cfg, folder, watchers)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            place = f" for {error.filename}" if error.filename else ""
            raise TrainingError(
                f"no room{place} ({error.strerror}); free some, and the same command with resume=auto goes on"
            ) from error


def _run(cfg: DictConfig, folder: Path, watchers: Sequence[L.Callback]) -> dict[str, float]:
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    formats.get(cfg.export.format)
    if cfg.teacher_sees not in ("augmented", "originals"):
        raise ConfigError(f"teacher_sees={cfg.teacher_sees} is unknown; choose augmented or originals")
    if cfg.trust:
        trust.accept([cfg.init_from, *cfg.teacher])
    if cfg.callbacks.get("checkpoint") is None:
        raise ConfigError("callbacks.checkpoint=null leaves nothing to judge and export; take it out")

    data = EmotionDataModule(
        reader=targets.reader(cfg.data.reader),
        name=cfg.data.name,
        # converted, since OmegaConf's lists are slow to walk
        augment=targets.build(cfg.augment.pipeline, "augment", _convert_="all"),
        batch_size=cfg.data.batch_size,
        workers=cfg.data.workers,
        balanced=cfg.data.balanced,
        votes=cfg.data.votes,
        drop_non_faces=cfg.data.drop_non_faces,
        drop_duplicates=cfg.data.drop_duplicates,
        seed=cfg.seed,
    )
    data.setup()
    if cfg.teacher and cfg.teacher_sees == "originals":
        answers = distil.soft_labels(cfg.teacher, data.splits["train"])
        data.splits["train"] = distil.taught(data.splits["train"], answers, cfg.teacher_weight, cfg.votes)
    model = classifier(cfg, data)
    models.check_sizes(model.backbone, data.channels, model.sizes())
    if cfg.init_from:
        initial_weights.start_from(model, cfg.init_from)
    if cfg.teacher and cfg.teacher_sees == "augmented":
        model.teach(distil.Teachers(cfg.teacher, data.classes), cfg.teacher_weight)
    ckpt_path = (resume.newest(folder / "checkpoints") if cfg.resume else None) or cfg.ckpt_path
    if ckpt_path:
        resume.check_same_run(ckpt_path, model)
    callbacks = {name: node for name, node in targets.build(cfg.callbacks, "callbacks").items() if node is not None}
    loggers = _loggers(cfg, folder, ckpt_path)
    trainer = targets.build(cfg.trainer, "trainer", callbacks=[*callbacks.values(), *watchers], logger=loggers)
    _check_processes(trainer, data, targets.in_sweep() or bool(watchers))  # before any is started
    try:
        _fit(trainer, model, data, ckpt_path)
        if not trainer.is_global_zero:
            return {}
        epochs = callbacks["curves"].rows if callbacks.get("curves") else []
        if epochs:
            plots.curves(epochs, cfg.name, folder / "curves.png")
        return _conclude(cfg, trainer, model, data, resume.best_of(callbacks["checkpoint"], ckpt_path), epochs)
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # or the next job of a sweep would log into this run
                logger.experiment.finish()


def _check_processes(trainer: L.Trainer, data: EmotionDataModule, one_of_many: bool) -> None:
    data.check_world(trainer.world_size)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if one_of_many and trainer.world_size > 1 and not (environment and environment.creates_processes_externally):
        # Lightning starts them with the command line of the first: each would begin the sweep anew.
        raise ConfigError(
            "a job of a sweep or search cannot start processes of its own; set trainer.devices=1, or let "
            "hydra/launcher=submitit_slurm start them with hydra.launcher.tasks_per_node"
        )


def _loggers(cfg: DictConfig, folder: Path, ckpt_path: str | None) -> list[Any]:
    """The loggers; those of a resumed run go on with its curves."""
    going_on = ckpt_path is not None and Path(ckpt_path).parent.parent == folder
    node = OmegaConf.create(cast(dict[str, Any], OmegaConf.to_container(cfg.logger, resolve=True)))
    if going_on:
        log.info("go on from %s", ckpt_path)
        earlier = resume.wandb_id(folder)
        if earlier and node.get("wandb"):
            node.wandb |= {"id": earlier, "resume": "allow"}
    loggers = [logger for logger in targets.build(node, "logger").values() if logger is not None]
    for logger in loggers:
        if going_on and isinstance(logger, CSVLogger):
            resume.restore_rows(logger, folder, resume.step_of(str(ckpt_path)))
    return loggers


def _fit(trainer: L.Trainer, model: EmotionClassifier, data: EmotionDataModule, ckpt_path: str | None) -> None:
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning has put everything away after Ctrl-C
            raise KeyboardInterrupt from None
        raise


def _conclude(
    cfg: DictConfig,
    trainer: L.Trainer,
    model: EmotionClassifier,
    data: EmotionDataModule,
    best: str,
    epochs: list[dict[str, float]],
) -> dict[str, float]:
    folder = Path(cfg.run_dir)
    model.cpu()
    metrics = report.judge(
        checkpoints.load(best).to(trainer.strategy.root_device), data.splits, folder, test=cfg.evaluate.test
    )
    metrics["train/images_per_second"] = model.images_per_second()
    metrics["train/epochs"] = float(trainer.current_epoch)
    metrics["train/minutes"] = model.minutes()
    metrics["train/seed"] = float(cfg.seed)
    if epochs and epochs[0]["epoch"] == 1 and "val/loss" in epochs[0]:
        metrics["val/loss_epoch_1"] = epochs[0]["val/loss"]  # what a repetition can be held against after one epoch
    parameters, macs = models.cost(model.deployable(), data.channels, cfg.input_size)
    metrics |= {"model/parameters": float(parameters), "model/macs": float(macs)}
    report.write_metrics(metrics, folder / "metrics.json")
    exported = export(best, folder / f"model{formats.get(cfg.export.format).suffix}", **cfg.export)
    _log(trainer.loggers, metrics, folder, exported)
    report.show(metrics, exported)
    (folder / "checkpoints" / resume.PREVIOUS).unlink(missing_ok=True)  # nothing is to be resumed any more
    return metrics


def _log(loggers: list[Any], metrics: dict[str, float], folder: Path, exported: Path) -> None:
    for logger in loggers:
        logger.log_metrics({f"best/{name}": value for name, value in metrics.items()})
        if isinstance(logger, WandbLogger):
            for picture in ("curves", "confusion_matrix", "reliability", "mistakes", "gradcam"):
                if (folder / f"{picture}.png").exists():
                    logger.log_image(picture, [str(folder / f"{picture}.png")])
            with (folder / "mistakes.csv").open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            typed = [[int(row[0]), *row[1:4], *map(float, row[4:])] for row in rows[:_WORST]]
            logger.log_table("worst_mistakes", columns=header, data=typed)
            logger.experiment.log_artifact(str(exported), name=f"{logger.experiment.id}-model", type="model")
        logger.finalize("success")
