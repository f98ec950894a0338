"""`search=<space>`: trials that Optuna proposes, ends early where they fall behind, and keeps on disk."""

import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fer import config as targets
from fer.errors import ConfigError, FerError, TrainingError
from fer.evaluate import report
from fer.train import leaderboard, resume
from fer.train import run as experiment
from fer.train.leaderboard import KEY
from fer.values import number

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
    from optuna_integration import PyTorchLightningPruningCallback
    from sqlalchemy import URL
except ModuleNotFoundError as error:
    raise ConfigError(f'search= needs {error.name}: pip install -e ".[sweep]"') from error

log = logging.getLogger("train")

_FOLDER, _ABANDONED = "folder", "abandoned"


def run(cfg: DictConfig) -> dict[str, float]:
    """All trials that are still to do in `cfg.run_dir`, then their leaderboard; returns the best one's metrics.

    Trials that a killed process left running are given up and tried again with the same values, from their last
    checkpoint. Raises `ConfigError` for a space that cannot be, `TrainingError` where every trial fails.
    """
    if targets.in_sweep():
        raise ConfigError("search= chooses the values itself; take -m out, or sweep without search=")
    given = [o for o in HydraConfig.get().overrides.task if not o.startswith(("search", "+search", "resume="))]
    space = _checked(cfg.search, given)
    folder = Path(cfg.run_dir)
    with resume.alone_in(folder):
        study = _study(cfg.search, folder)
        for left in study.get_trials(states=(TrialState.RUNNING,)):
            _give_up(study, left)
        while len(tried := _tried(study)) < cfg.search.trials:
            trial = study.ask()
            log.info("trial %d of %d", len(tried) + 1, cfg.search.trials)
            _run_trial(study, trial, given, _overrides(trial, space), folder)
        return _conclude(study, given, space, folder)


def _checked(search: DictConfig, given: list[str]) -> dict[str, Any]:
    space = OmegaConf.to_container(search.space, resolve=True)
    if not isinstance(space, dict) or not space:
        raise ConfigError("search.space names no parameter; give it some, such as optimizer.lr: {low: 0.01, high: 0.3}")
    for name, least in (("trials", 1), ("seed", 0)):
        if not number(least, 10**9, whole=True)(search[name]):
            raise ConfigError(f"search.{name}={search[name]} must be a whole number from {least} to a billion")
    firsts = []
    for key, values in space.items():
        name = str(key)
        if isinstance(values, list) and values:
            firsts += [f"{name}={_text(value)}" for value in values]
        elif (
            isinstance(values, dict)
            and {"low", "high"} <= values.keys() <= {"low", "high", "log", "step"}
            and all(number(-1e300, 1e300)(values[end]) for end in ("low", "high"))
            and values["low"] < values["high"]
            and ("step" not in values or (number(0)(values["step"]) and values["step"] > 0))
            and not (values.get("log") and (values["low"] <= 0 or "step" in values))
        ):
            firsts.append(f"{name}={values['low']}")
        else:
            form = "a list of values, or low and high (low < high; log for low > 0, or a step > 0)"
            raise ConfigError(f"search.space: {name} must have {form}, not {values}")
    for override in firsts:
        try:
            compose("train", [*given, override])
        except (HydraException, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"search.space: {override} is no override that train.py takes ({reason})") from error
    return {str(name): values for name, values in space.items()}


def _study(search: DictConfig, folder: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=str((folder / "trials.db").resolve()))
    study = optuna.create_study(
        storage=url.render_as_string(),
        study_name="search",
        direction="maximize",
        pruner=targets.build(search.pruner, "search.pruner"),
        load_if_exists=True,
    )
    # A sampler that began anew with the same seed would propose what has been tried already.
    study.sampler = targets.build(search.sampler, "search.sampler", seed=search.seed + len(study.trials))
    return study


def _give_up(study: optuna.Study, trial: FrozenTrial) -> None:
    place = trial.user_attrs.get(_FOLDER, str(trial.number))
    seen = {str(step): value for step, value in trial.intermediate_values.items()}
    Trial(study, trial._trial_id).set_user_attr(_ABANDONED, True)
    study.tell(trial.number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs={_FOLDER: place, "seen": seen})


def _tried(study: optuna.Study) -> list[FrozenTrial]:
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [trial for trial in study.get_trials(states=ended) if _ABANDONED not in trial.user_attrs]


def _overrides(trial: Trial, space: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_suggest(trial, name, values)}" for name, values in space.items()]


def _suggest(trial: Trial, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, [_text(value) for value in values])
    whole = all(isinstance(values.get(key, 1), int) for key in ("low", "high", "step"))
    suggest: Any = trial.suggest_int if whole else trial.suggest_float
    return suggest(name, **values)


def _text(value: Any) -> str:
    """A value as it stands behind the = of an override."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | bool | None) else str(value)


def _run_trial(study: optuna.Study, trial: Trial, given: list[str], own: list[str], folder: Path) -> None:
    place = folder / trial.user_attrs.get(_FOLDER, str(trial.number))
    trial.set_user_attr(_FOLDER, place.name)
    for step, value in trial.user_attrs.get("seen", {}).items():  # of the trial that this one goes on with
        trial.report(value, int(step))
    cfg = compose("train", ["evaluate.test=false", *given, *own, "resume=auto"])  # the test split only where asked for
    cfg.run_dir = str(place)
    if cfg.logger.get("wandb"):
        cfg.logger.wandb |= {"group": folder.name, "name": leaderboard.name_of(own)[:128]}
    try:
        metrics = experiment.run(cfg, [PyTorchLightningPruningCallback(trial, KEY)])
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        log.info("this trial is pruned")
    except Exception as error:
        if isinstance(error, FerError):
            log.error("this trial failed: %s", error)
        else:
            log.exception("this trial failed")
        trial.set_user_attr("cause", " ".join(f"{error or type(error).__name__}".split()))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, metrics[KEY])


def _conclude(study: optuna.Study, given: list[str], space: Mapping[str, Any], folder: Path) -> dict[str, float]:
    rows = []
    for trial in _tried(study):
        shown = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items()]
        note, metrics = trial.user_attrs.get("cause", ""), []
        if trial.state == TrialState.PRUNED:
            note = f"pruned after epoch {(trial.last_step or 0) + 1}"
            metrics = [{KEY: max(trial.intermediate_values.values())}]
        elif trial.state == TrialState.COMPLETE:
            metrics = [leaderboard.read_metrics(folder / trial.user_attrs[_FOLDER] / "metrics.json")]
        rows.append(leaderboard.Row(shown, metrics, note))
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise TrainingError(f"no trial was finished; the last: {rows[-1].note or 'without a cause'}")
    leaderboard.write(rows, folder, f"search {folder.name}")
    best = study.best_trial
    command = ["python", "train.py", *given, *(f"{name}={best.params[name]}" for name in space)]
    print(f"best: {shlex.join(command)}")
    figures = leaderboard.read_metrics(folder / best.user_attrs[_FOLDER] / "metrics.json")
    report.write_metrics(figures, folder / "metrics.json")
    return figures
