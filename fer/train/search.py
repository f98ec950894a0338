"""Hyperparameter searches, `search=<space>`: Optuna proposes trials, prunes them and stores them on disk."""

import json
import logging
import shlex
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fer import config
from fer.checks import check_number
from fer.errors import ConfigError, TrainingError
from fer.evaluate import report
from fer.metrics import mode_of
from fer.train import leaderboard, resume, sweep
from fer.train import run as experiment

try:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import Trial, TrialState
    from optuna_integration import PyTorchLightningPruningCallback
    from sqlalchemy import URL
except ModuleNotFoundError as error:
    raise ConfigError(f'search= needs {error.name}: pip install -e ".[sweep]"') from error

log = logging.getLogger("train")
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def run(cfg: DictConfig) -> dict[str, float]:
    """Run trials until the study in `cfg.run_dir` has `cfg.search.trials` of them, then write their leaderboard.

    Trials that were running when a search was killed continue from their last checkpoints.

    Returns:
        The metrics of the best trial.

    Raises:
        ConfigError: A value or the space cannot be used.
        TrainingError: No trial finished.
    """
    if config.in_sweep():
        raise ConfigError("search= chooses the values itself; remove -m, or sweep without search=")
    if not cfg.monitor.startswith(("val/", "val_votes/")):
        raise ConfigError(f"monitor={cfg.monitor} must be a figure of val, such as val/accuracy, for search=")
    check_number("search.trials", cfg.search.trials, 1, whole=True)
    check_number("search.seed", cfg.search.seed, whole=True)
    given = [o for o in HydraConfig.get().overrides.task if not o.startswith(("search", "+search", "resume="))]
    space, folder = _space(cfg.search.space, given), Path(cfg.run_dir)
    with resume.alone_in(folder):
        study = _study(cfg.search, folder, cfg.monitor)
        left = [Trial(study, trial._trial_id) for trial in study.get_trials(states=(TrialState.RUNNING,))]
        while (number := len(study.get_trials(states=_ENDED))) < cfg.search.trials:
            log.info("trial %d of %d", number + 1, cfg.search.trials)
            _run_trial(study, left.pop() if left else study.ask(space), given, folder)
        return _conclude(study, given, folder, cfg.monitor)


def _space(node: DictConfig, given: list[str]) -> dict[str, Any]:
    """Return the distribution of each parameter. Hydra raises an error if one is not an override of train.py."""
    space: dict[str, Any] = {}
    for name, values in cast(dict[str, Any], OmegaConf.to_container(node) if node else {}).items():
        try:
            space[name] = distribution = _distribution(values)
        except (AttributeError, TypeError, ValueError) as error:
            form = "a list of values, or low and high, with log: true or a step if you like"
            raise ConfigError(f"search.space: {name}={values} must be {form} ({error})") from error
        firsts = distribution.choices if isinstance(distribution, CategoricalDistribution) else [distribution.low]
        for value in firsts:
            compose("train", [*given, f"{name}={value}"])
    if not space:
        raise ConfigError("search.space is empty; give it parameters, such as optimizer.lr: {low: 0.01, high: 0.3}")
    return space


def _distribution(values: Any) -> CategoricalDistribution | FloatDistribution | IntDistribution:
    if isinstance(values, list):
        return CategoricalDistribution([_text(value) for value in values])
    whole = all(isinstance(values.get(key, 1), int) for key in ("low", "high", "step"))
    return IntDistribution(**values) if whole else FloatDistribution(**values)


def _text(value: Any) -> str:
    """Return a value in the syntax of overrides."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | bool | None) else str(value)


def _study(search: DictConfig, folder: Path, monitor: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = URL.create("sqlite", database=str((folder / "trials.db").resolve())).render_as_string()
    direction = f"{mode_of(monitor)}imize"
    study = optuna.create_study(storage=storage, study_name="search", direction=direction, load_if_exists=True)
    study.pruner = config.build(search.pruner, "search.pruner")
    # a sampler that started again with the same seed would propose the same values again
    study.sampler = config.build(search.sampler, "search.sampler", seed=search.seed + len(study.trials))
    return study


def _run_trial(study: optuna.Study, trial: Trial, given: list[str], folder: Path) -> None:
    own = [f"{name}={value}" for name, value in trial.params.items()]
    cfg = compose("train", ["evaluate.test=false", *given, *own, "resume=auto"])  # the test split is opt-in
    cfg.run_dir = str(folder / str(trial.number))
    if cfg.logger.get("wandb"):
        cfg.logger.wandb |= {"group": folder.name, "name": config.name_of(own)[:128]}
    try:
        metrics = experiment.run(cfg, [PyTorchLightningPruningCallback(trial, cfg.monitor)])
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        log.info("this trial is pruned")
    except Exception as error:
        trial.set_user_attr("cause", sweep.cause_of(error, "trial"))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, metrics[cfg.monitor])


def _conclude(study: optuna.Study, given: list[str], folder: Path, monitor: str) -> dict[str, float]:
    rows = []
    best_of = min if mode_of(monitor) == "min" else max
    for trial in study.get_trials(states=_ENDED):
        values = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in trial.params.items()}
        note, metrics = trial.user_attrs.get("cause", ""), []
        if trial.state == TrialState.PRUNED:
            note = f"pruned after epoch {(trial.last_step or 0) + 1}"
            metrics = [{monitor: best_of(trial.intermediate_values.values())}]
        elif trial.state == TrialState.COMPLETE:
            metrics = [leaderboard.read_metrics(folder / str(trial.number) / "metrics.json")]
        rows.append(leaderboard.Row([f"{k}={v}" for k, v in values.items()], metrics, note))
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise TrainingError(f"no trial finished; the last: {rows[-1].note or 'without a cause'}")
    leaderboard.write(rows, folder, f"search {folder.name}, best {monitor} first", monitor=monitor)
    best = study.best_trial
    print("best:", shlex.join(["python", "train.py", *given, *(f"{k}={v}" for k, v in best.params.items())]))
    figures = leaderboard.read_metrics(folder / str(best.number) / "metrics.json")
    report.write_metrics(figures, folder / "metrics.json")
    return figures
