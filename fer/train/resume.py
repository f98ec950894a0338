"""`resume=auto`: continue the newest unfinished run in its own folder."""

import csv
import re
from collections.abc import Iterable, Iterator
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
_STEPS = ("max_epochs", "max_steps", "accumulate_grad_batches", "limit_train_batches", "overfit_batches")
"""Keys of the trainer that decide how many steps a run has."""


def finished(folder: Path) -> bool:
    """Whether the run, sweep or search in `folder` has ended.

    A finished run has its metrics and, written after everything else, the artifact of its `export.format`; the others
    have a leaderboard.
    """
    try:
        names = [OmegaConf.load(folder / ".hydra" / "config.yaml").export.format]
    except Exception:  # a run without Hydra, a sweep, or a file that was cut short
        names = list(FORMATS)
    models = (folder / f"model{FORMATS[name].suffix}" for name in names if name in FORMATS)
    run = (folder / "metrics.json").exists() and any(path.exists() for path in models)
    return run or (folder / "leaderboard.csv").exists()


def arguments(given: list[str]) -> list[str]:
    """Add the folder of the newest unfinished run with the same overrides to the command line of train.py.

    With `-m` it is a sweep. Runs that another process works on are left alone. The command line is unchanged without
    `resume=auto`, if it names a folder, and if there is no such run.

    Raises:
        ConfigError: The folder in the command line contains another run.
    """
    sweep = bool({"-m", "--multirun"} & set(given))
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    values = dict(argument.split("=", 1) for argument in given if "=" in argument)
    if key in values and not sweep and AUTO not in given and "${" not in values[key]:
        # check before Hydra overwrites files of the other run
        check_unused(Path(values[key].strip("'\"")).absolute())
    if AUTO not in given or key in values:
        return given
    wanted = _comparable([a for a in given if not a.startswith(("-", "hydra", "+hydra"))], sweep)
    written = "multirun.yaml" if sweep else ".hydra/hydra.yaml"
    same = [folder for folder in RUNS.glob("*/*") if _overrides(folder / written, sweep) == wanted]
    left = [f for f in same if not finished(f) and not any(is_running(p.parent) for p in f.glob(f"**/{_LOCK}"))]
    newest = max(left, key=lambda folder: folder.name, default=None)
    return given if newest is None else [*given, f"{key}='{newest}'"]


def _comparable(overrides: Iterable[str], sweep: bool) -> list[str]:
    """Return overrides, equal for equivalent command lines. In a sweep, their order numbers the jobs."""
    kept = [override for override in overrides if not override.startswith("resume=")]
    return kept if sweep else sorted(kept)


def _overrides(file: Path, sweep: bool) -> list[str] | None:
    try:
        return _comparable(map(str, OmegaConf.load(file).hydra.overrides.task), sweep)
    except Exception:  # there is no such file, or it was cut short
        return None


def is_first_process() -> bool:
    """Whether this is the first, or only, process of a run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_unused(folder: Path) -> None:
    """Raise `ConfigError` if `folder` contains a run.

    Only the first process of a run checks: the others may see its first checkpoint already.
    """
    used = (folder / "metrics.json").exists() or any((folder / "checkpoints").glob("*.ckpt"))
    if used and is_first_process():
        raise ConfigError(f"{folder} contains a run; continue it with resume=auto, or set another hydra.run.dir")


def is_running(folder: Path) -> bool:
    """Whether another process is training in `folder`."""
    try:
        with alone_in(folder):
            return False
    except ConfigError:
        return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a run folder; the system releases the lock if the process is killed.

    Only the first process of a run takes the lock.

    Raises:
        ConfigError: Another run has the lock.
    """
    if not is_first_process():
        yield
        return
    try:
        with FileLock(folder / _LOCK, blocking=False, mode=0o644):
            yield  # the file stays: a process that has opened it would lock a deleted one, and the next a new one
    except Timeout:
        raise ConfigError(
            f"another process is training in {folder}; wait for it or set another hydra.run.dir"
        ) from None


def wandb_id(folder: Path) -> str | None:
    """Return the id of the newest W&B run in a run folder."""
    names = sorted(path.name for path in (folder / "wandb").glob("*run-*-*"))
    match = re.fullmatch(r"(?:offline-)?run-[\d_]+-(.+)", names[-1]) if names else None
    return match[1] if match else None


def restore_rows(logger: CSVLogger, folder: Path, steps: int) -> None:
    """Keep the rows of `metrics.csv` before step `steps`; the logger would delete all of them."""
    path = folder / "metrics.csv"
    if path.exists():
        with path.open(newline="") as file:  # a row that was cut short lacks values
            rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) < steps]
        logger.experiment.metrics = [{name: value for name, value in row.items() if value} for row in rows]
        logger.save()


def check_same_run(path: str, model: EmotionClassifier) -> None:
    """Raise `ConfigError` if the checkpoint comes from a run with other values.

    The state of its optimiser and schedule would not fit.
    """
    old, new = checkpoints.load(path).hparams, model.hparams
    if "compile" not in old["config"]:  # the state of its callbacks is another one
        raise ConfigError(f"{path} is of an older version of fer; train anew, with init_from={path} from its weights")
    pairs = [(name, old.get(name), new[name]) for name in new if name not in ("config", "git_commit")]
    for group, *keys in (("trainer", *_STEPS), ("data", "batch_size")):
        pairs += [(f"{group}.{key}", *(values["config"][group].get(key) for values in (old, new))) for key in keys]
    pairs.append(("augment", old["config"]["augment"]["name"], new["config"]["augment"]["name"]))
    for name, before, now in pairs:
        if before != now:
            raise ConfigError(f"{path} comes from a run with {name}={before}, not {now}; set the same")
