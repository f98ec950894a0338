"""Sweeps, `train.py -m`: other jobs continue when one fails, and a leaderboard over the seeds is written at the end."""

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fer.errors import FerError
from fer.train import leaderboard

log = logging.getLogger("train")
# File in the folder of a failed job, with the cause in one line.
FAILED = "failed.txt"


def cause_of(error: Exception, what: str) -> str:
    """Log why a job or trial failed and return it in one line. Bugs are logged with their traceback."""
    text = " ".join(str(error).split())
    if isinstance(error, FerError):
        log.error("this %s failed: %s", what, text)
        return text
    log.error("this %s failed", what, exc_info=error)
    return f"{type(error).__name__}: {text}"


def job(cfg: DictConfig) -> dict[str, float]:
    """Run one job of a sweep and return its metrics. If it fails, write the cause and return no metrics."""
    from fer.train import run as experiment  # takes seconds; Hydra imports this file first, wherever jobs run

    cause = Path(cfg.run_dir) / FAILED
    cause.unlink(missing_ok=True)  # from an earlier attempt
    try:
        return experiment.run(cfg)
    except Exception as error:
        cause.write_text(cause_of(error, "job") + "\n", encoding="utf-8")
        return {}


def rows(folder: Path) -> list[leaderboard.Row]:
    """Return a row for each configuration over its seeds, then a row for each job that failed."""
    jobs = {
        path.parent.parent: [str(o) for o in OmegaConf.load(path) if not str(o).startswith("resume=")]
        for path in sorted(folder.glob("**/.hydra/overrides.yaml"))
    }
    configurations: dict[tuple[str, ...], leaderboard.Row] = {}
    failures = []
    for path, overrides in zip(jobs, leaderboard.varying(list(jobs.values())), strict=True):
        cause = path / FAILED
        try:
            if cause.exists() or not (path / "metrics.json").exists():
                raise FerError(cause.read_text(encoding="utf-8").strip() if cause.exists() else "did not finish")
            metrics = leaderboard.read_metrics(path / "metrics.json")
        except FerError as error:
            failures.append(leaderboard.Row(overrides, note=str(error)))
        else:
            key = tuple(o for o in overrides if not o.startswith("seed="))
            configurations.setdefault(key, leaderboard.Row(key)).metrics.append(metrics)
    return [*configurations.values(), *failures]


class Leaderboard(Callback):
    """Write the leaderboard when a sweep ends. If jobs failed, print how many and exit with status 1."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        board = rows(folder)
        leaderboard.write(board, folder, f"sweep {folder.name}, best {config.monitor} first", monitor=config.monitor)
        if failed := sum(not row.metrics for row in board):
            jobs = failed + sum(len(row.metrics) for row in board)
            print(f"{failed} of {jobs} jobs failed; hydra.sweep.dir={folder} resume=auto tries these again")
            raise SystemExit(1)
