"""`resume=auto`: find the run that was stopped and continue it in its own folder."""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from fer.artifact.formats import FORMATS
from fer.errors import ConfigError
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier

RUNS = Path("runs")
AUTO = "resume=auto"
LAST, BEST = "last.ckpt", "best.ckpt"
_LOCK = ".running"


def finished(folder: Path) -> bool:
    """Whether the run in `folder` has ended.

    It then has its metrics and, written after them, its artifact, or its leaderboard if it is a search.
    """
    ends = ("leaderboard.csv", *(f"model{format.suffix}" for format in FORMATS.values()))
    return (folder / "metrics.json").exists() and any((folder / name).exists() for name in ends)


def arguments(given: list[str]) -> list[str]:
    """Add the folder of the newest unfinished run with the same overrides to the command line of train.py.

    Unfinished is a run that is not `finished`, or with `-m` a sweep without `leaderboard.csv`, that no other process
    works on. The command line is unchanged without `resume=auto`, if it names a folder, and if there is no such run.

    Raises:
        ConfigError: The folder that the command line names holds another run.
    """
    sweep = bool({"-m", "--multirun"} & set(given))
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    values = dict(argument.split("=", 1) for argument in given if "=" in argument)
    if key in values and not sweep and AUTO not in given and "${" not in values[key]:
        # now, before Hydra overwrites the files of the run that is there
        check_unused(Path(values[key].strip("'\"")).absolute())
    if AUTO not in given or key in values:
        return given
    wanted = _comparable([a for a in given if not a.startswith(("-", "hydra", "+hydra"))], sweep)
    same = [folder for folder in _unfinished(sweep) if _overrides(folder, sweep) == wanted]
    newest = max(same, key=lambda folder: folder.name, default=None)
    return given if newest is None else [*given, f"{key}='{newest}'"]


def is_first_process() -> bool:
    """Whether this is the first, or only, process of a run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_unused(folder: Path) -> None:
    """Raise `ConfigError` if `folder` holds a run.

    The further processes of a run do not check: they may see its first checkpoint already.
    """
    used = (folder / "metrics.json").exists() or any((folder / "checkpoints").glob("*.ckpt"))
    if used and is_first_process():
        raise ConfigError(f"{folder} holds a run already; continue it with resume=auto, or set another hydra.run.dir")


def _unfinished(sweep: bool) -> Iterator[Path]:
    for path in RUNS.glob("sweeps/*/multirun.yaml" if sweep else "*/*/.hydra"):
        folder = path.parent
        ended = (folder / "leaderboard.csv").exists() if sweep else finished(folder)
        if not ended and not any(map(is_running, folder.glob("*/") if sweep else [folder])):
            yield folder


def _comparable(overrides: list[str], sweep: bool) -> tuple[list[str], list[str]]:
    """Return what is equal for two command lines with the same meaning.

    Order matters for the values that a sweep varies: it numbers the jobs.
    """
    kept = [override for override in overrides if not override.startswith("resume=")]
    return sorted(kept), [override for override in kept if sweep and ("," in override or "(" in override)]


def _overrides(folder: Path, sweep: bool) -> tuple[list[str], list[str]] | None:
    try:
        file = OmegaConf.load(folder / ("multirun.yaml" if sweep else ".hydra/overrides.yaml"))
        overrides = file.hydra.overrides.task if sweep else file
        return _comparable([str(override) for override in overrides], sweep)
    except Exception:  # a file that was cut short
        return None


def is_running(folder: Path) -> bool:
    """Whether another run is at work in `folder`."""
    try:
        with alone_in(folder):
            return False
    except ConfigError:
        return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a run folder; the system releases the lock of a killed process.

    Only the first process of a run holds the lock, and the further ones do not ask for it.

    Raises:
        ConfigError: Another run holds it.
    """
    if not is_first_process():
        yield
        return
    try:
        with FileLock(folder / _LOCK, blocking=False, mode=0o644):
            try:
                yield
            finally:
                (folder / _LOCK).unlink(missing_ok=True)
    except Timeout:
        raise ConfigError(
            f"another process is training in {folder}; wait for it or give another hydra.run.dir"
        ) from None


def wandb_id(folder: Path) -> str | None:
    """Return the id of the newest W&B run in a run folder."""
    names = sorted(path.name for path in (folder / "wandb").glob("*run-*-*"))
    match = re.fullmatch(r"(?:offline-)?run-[\d_]+-(.+)", names[-1]) if names else None
    return match[1] if match else None


def restore_rows(logger: CSVLogger, folder: Path, steps: int) -> None:
    """Keep the rows of `metrics.csv` from before `steps`; the logger alone would delete them all."""
    path = folder / "metrics.csv"
    if path.exists():
        with path.open(newline="") as file:  # a row that was cut short lacks values
            rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) < steps]
        logger.experiment.metrics = [{name: value for name, value in row.items() if value} for row in rows]
        logger.save()


def check_same_run(path: str, model: EmotionClassifier) -> None:
    """Raise `ConfigError` if the checkpoint is of a run with other values.

    A schedule and an optimiser's state fit only the run that they come from.
    """
    old, new = checkpoints.load(path).hparams, model.hparams
    pairs = [(name, old.get(name), new[name]) for name in new if name not in ("config", "git_commit")]
    for group, key in (("trainer", "max_epochs"), ("data", "batch_size")):
        pairs.append((f"{group}.{key}", old["config"][group][key], new["config"][group][key]))
    pairs.append(("augment", old["config"]["augment"]["name"], new["config"]["augment"]["name"]))
    for name, before, now in pairs:
        if before != now:
            raise ConfigError(f"{path} comes from a run with {name}={before}, not {now}; set the same")
