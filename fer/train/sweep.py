"""`train.py -m`: a job that fails stays the only one that does, and a leaderboard over the seeds ends the sweep."""

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fer.errors import FerError
from fer.train import leaderboard
from fer.train import run as experiment

log = logging.getLogger("train")
FAILED = "failed.txt"


def job(cfg: DictConfig) -> dict[str, float]:
    """One job of a sweep: its metrics or, where it fails, nothing and the one-line cause in `failed.txt`."""
    cause = Path(cfg.run_dir) / FAILED
    cause.unlink(missing_ok=True)  # of an earlier try
    try:
        return experiment.run(cfg)
    except Exception as error:
        if isinstance(error, FerError):
            text = " ".join(str(error).split())
            log.error("this job failed: %s", text)
        else:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            log.exception("this job failed")
        cause.write_text(text + "\n", encoding="utf-8")
        return {}


def rows(folder: Path) -> list[leaderboard.Row]:
    """What the jobs in a sweep folder came to: a row for each configuration over its seeds, one for each failed job."""
    jobs: dict[Path, list[str]] = {}
    for path in sorted(folder.glob("**/.hydra/overrides.yaml")):
        overrides = [str(override) for override in OmegaConf.load(path)]
        jobs[path.parent.parent] = [o for o in overrides if not o.startswith("resume=")]
    found: dict[tuple[str, ...], leaderboard.Row] = {}
    failures = []
    for place, told in zip(jobs, leaderboard.varying(list(jobs.values())), strict=True):
        metrics, cause = place / "metrics.json", place / FAILED
        if metrics.exists() and not cause.exists():
            try:
                figures = leaderboard.read_metrics(metrics)
            except FerError as error:
                failures.append(leaderboard.Row(told, note=str(error)))
                continue
            configuration = tuple(o for o in told if not o.startswith("seed="))
            found.setdefault(configuration, leaderboard.Row(configuration)).metrics.append(figures)
        else:
            note = cause.read_text(encoding="utf-8").strip() if cause.exists() else "did not finish"
            failures.append(leaderboard.Row(told, note=note))
    return [*found.values(), *failures]


class Leaderboard(Callback):
    """Ends a sweep with its leaderboard; where jobs failed with their number, and exit status 1."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        found = rows(folder)
        leaderboard.write(found, folder, f"sweep {folder.name}")
        failed = sum(not row.metrics for row in found)
        if failed:
            done = sum(len(row.metrics) for row in found)
            print(f"{failed} of {failed + done} jobs failed; hydra.sweep.dir={folder} resume=auto tries these again")
            raise SystemExit(1)
