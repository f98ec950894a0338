"""`train.py -m`: a job that fails stays the only one that does, and a leaderboard over the seeds ends the sweep."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from fer.errors import FerError
from fer.train import leaderboard
from fer.train import run as experiment

log = logging.getLogger("train")
# conf/hydra/launcher/joblib.yaml completes the schema that the launcher registers under this very name
warnings.filterwarnings("ignore", "(?s).*hydra/launcher/.* is validated against ConfigStore schema")

FAILED = "failed.txt"


def _threads() -> int | None:
    return 1 if experiment.in_sweep() else None


def _own_overrides() -> list[str]:
    """The overrides of this job that the sweep varies, where this is one."""
    if not experiment.in_sweep():
        return []
    hydra = HydraConfig.get()
    overrides = [str(o) for o in hydra.overrides.task if not str(o).startswith("resume=")]
    written = Path(hydra.sweep.dir) / "multirun.yaml"
    listed = list(OmegaConf.load(written).hydra.overrides.task) if written.exists() else []
    parsed = OverridesParser.create().parse_overrides(listed)
    # in the form that a sweep hands them to its jobs
    asked = {f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in parsed if not o.is_sweep_override()}
    return [o for o in overrides if o not in asked] or overrides


def _wandb_name(otherwise: str) -> str:
    return leaderboard.name_of(_own_overrides())[:128] or otherwise  # W&B takes no longer ones


def _wandb_tags() -> ListConfig:
    return ListConfig([leaderboard.name_of([override])[:64] for override in _own_overrides()])  # no plain list resolves


def _wandb_group() -> str | None:
    return Path(HydraConfig.get().sweep.dir).name[:128] if experiment.in_sweep() else None


def _jobs_at_once() -> int:
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


OmegaConf.register_new_resolver("jobs_at_once", _jobs_at_once, replace=True)
OmegaConf.register_new_resolver("gpus_of_a_job", lambda: int(torch.cuda.is_available()), replace=True)
OmegaConf.register_new_resolver("one_in_sweep", _threads, replace=True)
OmegaConf.register_new_resolver("job_name", _wandb_name, replace=True)
OmegaConf.register_new_resolver("job_tags", _wandb_tags, replace=True)
OmegaConf.register_new_resolver("sweep_name", _wandb_group, replace=True)


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
