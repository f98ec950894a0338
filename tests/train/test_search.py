"""Searches of the real configuration: spaces, pruning, and how a killed search goes on."""

import csv
import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from samples import ROOT, TINY, config, options

pytest.importorskip("optuna")

import optuna
from hydra import initialize_config_dir
from optuna.trial import FrozenTrial, TrialState

from fer.errors import TrainingError
from fer.train import __main__ as program
from fer.train import run as experiment
from fer.train import search

SPACE = "+search.space={optimizer.lr:{low:1e-7,high:0.3,log:true},augment:[none,light],model.widths:[[8,16],[4,8]]}"
SMALL = [
    *(o for o in TINY if not o.startswith("+model=")),
    "model.depths=[1,1]",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
    "hydra/job_logging=none",
    "search=custom",
    "search.pruner.n_startup_trials=1",
    "search.pruner.n_warmup_steps=0",
]


def run_search(folder: Path, *overrides: str) -> int:
    """Run `train.py search=…` in this process and return the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *SMALL, *overrides, f"hydra.run.dir={folder}"])
        try:
            program.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def trials(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/trials.db").get_trials()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_trains_its_trials_and_names_the_best(tmp_path, capsys):
    assert run_search(tmp_path, SPACE, "search.trials=2") == 0
    assert len(rows(tmp_path)) == 2
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("best: ")]
    words = shlex.split(line.removeprefix("best: "))
    assert words[:2] == ["python", "train.py"]
    best = max((t for t in trials(tmp_path) if t.state == TrialState.COMPLETE), key=lambda t: t.value)
    cfg = config(*(word for word in words[2:] if not word.startswith("hydra")))
    assert cfg.optimizer.lr == best.params["optimizer.lr"]
    assert list(cfg.model.widths) == json.loads(best.params["model.widths"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["val/accuracy"] == best.value
    assert not [name for name in metrics if name.startswith("test/")]


@pytest.fixture
def fake_run(monkeypatch) -> list[tuple[str, float, int]]:
    """Let a trial be as accurate as its learning rate is high, over four epochs.

    Returns the name of the folder, the learning rate and the number of epochs of each training. What is in
    `fake_run.fail` is raised by the training of that number.
    """
    ran = Trainings()

    def run(cfg, watchers):
        folder = Path(cfg.run_dir)
        folder.mkdir(exist_ok=True)
        start = int((folder / "epochs").read_text()) if (folder / "epochs").exists() else 0
        ran.append((folder.name, cfg.optimizer.lr, 4 - start))
        for epoch in range(start, 4):
            if epoch == 2 and len(ran) in ran.fail:
                raise ran.fail.pop(len(ran))
            metrics = dict.fromkeys(("val/accuracy", "val_votes/loss"), cfg.optimizer.lr * (1 + epoch))
            (folder / "epochs").write_text(str(epoch + 1))
            trainer = SimpleNamespace(
                sanity_checking=False, callback_metrics={name: torch.tensor(v) for name, v in metrics.items()}
            )
            watchers[0].on_validation_end(trainer, SimpleNamespace(current_epoch=epoch))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return metrics

    monkeypatch.setattr(experiment, "run", run)
    return ran


class Trainings(list[tuple[str, float, int]]):
    def __init__(self) -> None:
        self.fail: dict[int, BaseException] = {}


def test_a_killed_search_goes_on_where_it_was(fake_run, tmp_path):
    fake_run.fail[1] = KeyboardInterrupt()
    assert run_search(tmp_path, SPACE, "search.trials=6") == 130
    (interrupted,) = trials(tmp_path)
    assert interrupted.state == TrialState.RUNNING
    assert run_search(tmp_path, SPACE, "search.trials=6", "resume=auto") == 0
    assert fake_run[:2] == [("0", interrupted.params["optimizer.lr"], 4), ("0", interrupted.params["optimizer.lr"], 2)]
    states = [trial.state for trial in trials(tmp_path)]
    assert len(states) == len(rows(tmp_path)) == 6
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    rates = [trial.params["optimizer.lr"] for trial in trials(tmp_path)]
    assert len(set(rates)) == 6  # a sampler that begins again would propose the same
    assert list(trials(tmp_path)[0].intermediate_values) == [0, 1, 2, 3]


def test_a_search_follows_what_is_monitored(fake_run, tmp_path, capsys):
    assert run_search(tmp_path, SPACE, "search.trials=4", "monitor=val_votes/loss") == 0
    lowest = min(trial.params["optimizer.lr"] for trial in trials(tmp_path))
    assert f"optimizer.lr={lowest:.4g}" in rows(tmp_path)[0]["configuration"]
    assert f"optimizer.lr={lowest}" in next(line for line in capsys.readouterr().out.splitlines() if "best: " in line)
    assert run_search(tmp_path / "other", SPACE, "search.trials=4", "monitor=train/loss") == 2
    assert "monitor=train/loss must be a figure of val" in capsys.readouterr().err


def test_a_trial_that_falls_behind_is_pruned(fake_run, tmp_path):
    run_search(tmp_path, SPACE, "search.trials=6")
    pruned = [trial for trial in trials(tmp_path) if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert len(trial.intermediate_values) < 4
    notes = [row["note"] for row in rows(tmp_path) if row["note"]]
    assert len(notes) == len(pruned)
    assert all(note.startswith("pruned after epoch") for note in notes)


def test_a_failed_trial_is_a_row_and_the_others_go_on(fake_run, tmp_path):
    fake_run.fail[1] = TrainingError("the loss\nis NaN")
    fake_run.fail[2] = ValueError("of no kind")
    assert run_search(tmp_path, SPACE, "search.trials=4") == 0
    assert {"the loss is NaN", "ValueError: of no kind"} <= {row["note"] for row in rows(tmp_path)}


def test_a_search_without_a_finished_trial_is_an_error(fake_run, tmp_path, capsys):
    fake_run.fail[1] = TrainingError("the loss is NaN")
    assert run_search(tmp_path, SPACE, "search.trials=1") == 2
    assert "no trial finished; the last: the loss is NaN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "status", "words"),
    [
        ("+search.space={}", 2, "search.space"),
        ("+search.space={optimizer.lrr:[1,2]}", 1, "optimizer.lrr"),
        ("+search.space={augment:[light,lite]}", 1, "lite"),
        ("+search.space={optimizer.lr:{low:1,high:0}}", 2, "optimizer.lr"),
        ("+search.space={optimizer.lr:{low:0,high:1,log:true}}", 2, "optimizer.lr"),
        ("+search.space={optimizer.lr:0.1}", 2, "optimizer.lr"),
        ("+search.space={optimizer.lr:[]}", 2, "optimizer.lr"),
        ("+search.space={optimizer.lr:{low:0.1,high:0.3,step:0}}", 2, "optimizer.lr"),
        ("+search.space={optimizer.lr:{low:0.1,high:0.3,step:fine}}", 2, "optimizer.lr"),
        (f"{SPACE} search.trials=many", 2, "search.trials=many"),
        (f"{SPACE} search.trials=0", 2, "search.trials=0"),
        (f"{SPACE} search.seed=any", 2, "search.seed=any"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_line(space, status, words, tmp_path, capsys):
    assert run_search(tmp_path, *space.split(" ")) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "trials.db").exists()


@pytest.mark.parametrize("name", [name for name in options("search") if name != "custom"])
def test_every_space_of_the_configs_is_one_that_train_takes(name):
    cfg = config(f"search={name}", "data=synthetic")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert set(search._space(cfg.search.space, ["data=synthetic"])) == set(cfg.search.space)


def test_only_whole_ends_and_steps_give_whole_numbers():
    def kinds(values: dict[str, float]) -> str:
        return type(search._distribution(values)).__name__

    assert kinds({"low": 0, "high": 1, "step": 0.05}) == "FloatDistribution"
    assert kinds({"low": 1, "high": 9}) == "IntDistribution"
    assert kinds({"low": 0.0, "high": 1}) == "FloatDistribution"
