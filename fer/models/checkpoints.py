"""Checkpoints of runs: writing them whole, loading one, going on or starting from one."""

import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from fer import artifact
from fer.errors import ArtifactError, ConfigError, TrainingError
from fer.files import expanded, regular
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


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


def load(path: str) -> EmotionClassifier:
    """The classifier of a checkpoint, in eval mode on the CPU. Raises `ArtifactError` where it is not one of ours."""
    try:
        place = regular(expanded(path))
        model = EmotionClassifier.load_from_checkpoint(place, map_location="cpu", weights_only=True).eval()
        _check_config(model.hparams["config"])
        return model
    except FileNotFoundError:
        raise ArtifactError(f"no checkpoint {path}; give the path of a run's checkpoints/best.ckpt") from None
    except Exception as error:  # unpickling raises almost anything
        why = getattr(error, "strerror", None) or str(error)
        first = (why.strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArtifactError(f"{path} is not a checkpoint of train.py ({first}); give a run's best.ckpt") from None


def _check_config(config: object) -> None:
    groups = [config]
    if isinstance(config, dict):
        groups += [config.get(name) for name in ("model", "data", "trainer", "export")]
    if not all(group is None or isinstance(group, dict) for group in groups):
        raise ValueError("its config is no configuration")


def newest(folder: Path) -> str | None:
    """Path of the checkpoint in `folder` with the most steps; torn ones are passed over. None where there is none."""
    found = [(step, str(path)) for path, step in _readable(folder)]
    return max(found)[1] if found else None


def _readable(folder: Path) -> Iterator[tuple[Path, int]]:
    for name in (BEST, PREVIOUS, LAST):
        path = folder / name
        if path.is_file():
            try:
                yield path, step_of(str(path))
            except Exception as error:  # unpickling raises almost anything
                log.warning("%s is torn (%s) and is passed over", path.name, type(error).__name__)


def step_of(path: str) -> int:
    """How many optimiser steps the checkpoint at `path` has behind it."""
    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])


def batches_of(path: str) -> int:
    """How many training batches the checkpoint at `path` has behind it, in all epochs together."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return int(state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])


def start_from(model: EmotionClassifier, path: str) -> None:
    """Give `model` the weights of a checkpoint or TorchScript artifact ("bundled": the one included).

    In the head, classes that both know keep their weights and others start anew. Mean and standard deviation are taken
    over too. Raises `ArtifactError` where the file is neither, `ConfigError` where it is of another network.
    """
    path = str(artifact.BUNDLED) if path == "bundled" else path
    if Path(path).suffix == ".ckpt":
        source = load(path)
        weights: dict[str, Tensor] = dict(source.deployable().state_dict())
        theirs, classes = source.hparams["model"], source.classes
        mean, std = source.mean, source.std
    else:
        metadata = artifact.read_metadata(path)
        weights = artifact.backbone_weights(path)
        config = metadata.config.get("members", [metadata.config])[0]
        theirs, classes = config.get("model", {}), metadata.classes
        mean, std = torch.tensor(metadata.mean).view(1, -1, 1, 1), torch.tensor(metadata.std).view(1, -1, 1, 1)
    own, head = model.backbone.state_dict(), model.head_weights()
    fits = {name for name, value in weights.items() if name in own and own[name].shape == value.shape}
    shapes = {name: (len(classes), *own[name].shape[1:]) for name in head}
    other_head = any(name not in weights or weights[name].shape != shape for name, shape in shapes.items())
    if own.keys() - fits - head or other_head or mean.shape != model.mean.shape:
        arguments = " ".join(f"model.{name}={value}" for name, value in theirs.items() if name != "pretrained")
        raise ConfigError(f"init_from={path} is of another network; set {arguments} data.channels={mean.shape[1]}")
    known = [name for name in model.classes if name in classes]
    for name in head:
        values = own[name].clone()
        values[[model.classes.index(k) for k in known]] = weights[name][[classes.index(k) for k in known]]
        weights[name] = values
    fits |= head
    model.backbone.load_state_dict({name: weights[name] for name in fits}, strict=False)
    model.mean, model.std = mean, std
    model.hparams["mean"], model.hparams["std"] = mean.flatten().tolist(), std.flatten().tolist()
    log.info("start from %s, which knows %d of the %d classes", path, len(known), len(model.classes))


def check_same_run(path: str, model: EmotionClassifier) -> None:
    """Raises `ConfigError` where the checkpoint at `path` comes from another run than `model` is made for.

    A schedule and an optimiser's state only fit the run that they come from.
    """
    old, new = load(path).hparams, model.hparams
    if not old.get("config"):
        raise ConfigError(f"{path} does not say which training it is from; only init_from can begin with it")
    pairs = [(name, old.get(name), new[name]) for name in new if name not in ("config", "git_commit")]
    for group, key in (("trainer", "max_epochs"), ("data", "batch_size")):
        pairs.append((f"{group}.{key}", old["config"][group][key], new["config"][group][key]))
    for name, before, now in pairs:
        if before != now:
            raise ConfigError(f"{path} comes from a run with {name}={before}, not {now}; set the same")


def best_of(checkpoint: Any, ckpt_path: str | None) -> str:
    """Path of the best checkpoint of this run or, copied into its folder, of the run that it continues.

    checkpoint: the `ModelCheckpoint` of this run. ckpt_path: what the run was continued from, or None.
    """
    if ckpt_path:
        states = torch.load(ckpt_path, map_location="cpu", weights_only=True)["callbacks"]
        earlier = states.get(checkpoint.state_key, {})
        path, score = Path(earlier.get("best_model_path") or "none"), earlier.get("best_model_score")
        here = Path(checkpoint.dirpath) / BEST
        reached = checkpoint.best_model_score
        if score is not None and path.is_file() and (reached is None or score > reached) and path != here:
            shutil.copyfile(path, here)
            return str(here)
    return str(checkpoint.best_model_path)
