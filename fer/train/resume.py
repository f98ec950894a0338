"""`resume=auto`: finding what was stopped, and going on with it in its own folder."""

import csv
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from fer import artifact
from fer.errors import ConfigError
from fer.models.checkpoints import load
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)

RUNS = Path("runs")
AUTO = "resume=auto"
_LOCK = ".running"


def finished(folder: Path) -> bool:
    """Whether the run in `folder` came to its end: its metrics are there and, written after them, its artifact; of a
    search, its leaderboard."""
    ends = ("leaderboard.csv", *(f"model{format.suffix}" for format in artifact.FORMATS.values()))
    return (folder / "metrics.json").exists() and any((folder / name).exists() for name in ends)


def arguments(given: list[str]) -> list[str]:
    """The command line of train.py, with the folder of the newest unfinished run of the same overrides added.

    That is a run that is not `finished` or, with `-m`, a sweep without `leaderboard.csv`, which no other process is
    at, but for one of this very run. Unchanged without `resume=auto`, where the folder is given, and where there is
    nothing to go on with. Raises `ConfigError` for a folder that holds another run.
    """
    sweep = bool({"-m", "--multirun"} & set(given))
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    values = dict(argument.split("=", 1) for argument in given if "=" in argument)
    first = not getattr(rank_zero_only, "rank", 0)  # the others of its processes may find its checkpoint already
    if first and key in values and not sweep and AUTO not in given and "${" not in values[key]:
        # before Hydra writes its own files over those of the run that is there
        check_unused(Path(values[key].strip("'\"")).absolute(), values.get("ckpt_path"))
    if AUTO not in given or key in values:
        return given
    wanted = _same([a for a in given if not a.startswith(("-", "hydra", "+hydra", "resume="))], sweep)
    found = [folder for folder in (_sweeps() if sweep else _runs()) if _overrides(folder, sweep) == wanted]
    newest = max(found, key=lambda folder: folder.name, default=None)
    return given if newest is None else [*given, f"{key}='{newest}'"]


def check_unused(folder: Path, ckpt_path: str | None) -> None:
    """Raises `ConfigError` where `folder` holds another run than the one to go on with at `ckpt_path`, if any.

    Two runs in one folder would be taken for one: the checkpoint of the first with the temperature of the second.
    """
    held = folder / "checkpoints"
    continued = ckpt_path is not None and Path(ckpt_path).resolve().parent == held.resolve()
    if not continued and ((folder / "metrics.json").exists() or any(held.glob("*.ckpt"))):
        raise ConfigError(f"{folder} holds a run already; go on with it by resume=auto, or set another hydra.run.dir")


def _runs() -> Iterator[Path]:
    for path in RUNS.glob("*/*/.hydra"):
        folder = path.parent
        if not finished(folder) and not _is_running(folder):
            yield folder


def _sweeps() -> Iterator[Path]:
    for path in RUNS.glob("sweeps/*/multirun.yaml"):
        folder = path.parent
        if not (folder / "leaderboard.csv").exists() and not any(map(_is_running, folder.glob("*/"))):
            yield folder


def _same(overrides: list[str], sweep: bool) -> tuple[list[str], list[str]]:
    """Equal for two command lines that mean the same; the order of what a sweep varies numbers its jobs."""
    return sorted(overrides), [o for o in overrides if sweep and ("," in o or "(" in o)]


def _overrides(folder: Path, sweep: bool) -> tuple[list[str], list[str]] | None:
    try:
        if sweep:
            listed = OmegaConf.load(folder / "multirun.yaml").hydra.overrides.task
        else:
            listed = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
        return _same([str(override) for override in listed if not str(override).startswith("resume=")], sweep)
    except Exception:  # a file cut short, or written by something else
        return None


def _is_running(folder: Path) -> bool:
    if getattr(rank_zero_only, "rank", 0):  # it is the first process of this run that holds the folder
        return False
    try:
        with FileLock(folder / _LOCK, blocking=False, mode=0o644):
            return False
    except Timeout:
        return True
    except OSError:
        return False


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the run folder against other processes; a killed one lets go of it. Raises `ConfigError` if it is held."""
    lock = FileLock(folder / _LOCK, blocking=False, mode=0o644)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another process is training in {folder}; wait for it or give another hydra.run.dir"
        ) from None
    try:
        yield
    finally:
        lock.release()
        (folder / _LOCK).unlink(missing_ok=True)


def wandb_id(folder: Path) -> str | None:
    """The id of the newest W&B run in a run folder, so that going on adds to its curves."""
    names = sorted(path.name for path in (folder / "wandb").glob("*run-*-*"))
    match = re.fullmatch(r"(?:offline-)?run-[\d_]+-(.+)", names[-1]) if names else None
    return match[1] if match else None


def restore_rows(logger: CSVLogger, folder: Path, steps: int) -> None:
    """Let `logger` go on with the rows of `metrics.csv` from before `steps`; by itself it begins by deleting them."""
    path, part = folder / "metrics.csv", folder / ".metrics.csv.part"
    source = path if path.exists() else part  # a kill between the steps below leaves the part alone
    if not source.exists():
        return
    with source.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = [row for row in reader if None not in row.values() and int(row["step"]) < steps]
    whole = folder / ".metrics.csv.whole"
    with whole.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    whole.replace(part)
    logger.experiment.metrics_keys = names
    part.replace(path)


LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


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
