"""Searches of the real configuration: spaces, pruning, and what a killed search goes on with."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import ROOT, TINY, config, options

pytest.importorskip("optuna")

import optuna
from hydra import initialize_config_dir
from optuna.trial import TrialState

SPACE = "+search.space={optimizer.lr:{low:1e-7,high:0.3,log:true},augment:[none,light],model.widths:[[8,16],[4,8]]}"
SMALL = [
    *(o for o in TINY if not o.startswith(("+model=", "+data.reader.train", "+data.reader.val"))),
    "+data.reader.train=320",  # enough for good rates to learn something in four epochs, and bad ones to fall behind
    "+data.reader.val=70",
    "model.depths=[1,1]",
    "trainer.max_epochs=4",
    "callbacks.progress=null",
    "callbacks.ema=null",
    "+trainer.enable_progress_bar=false",
    "search=custom",
    "search.pruner.n_startup_trials=1",
    "search.pruner.n_warmup_steps=0",
]


def command(folder: Path, *overrides: str) -> list[str]:
    return [sys.executable, "train.py", *SMALL, *overrides, f"hydra.run.dir={folder}"]


def program(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *overrides), capture_output=True, text=True, cwd=ROOT, timeout=200, env=ENVIRONMENT
    )


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    if not (folder / "trials.db").exists():
        return []
    try:
        return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/trials.db").get_trials()
    except Exception:  # half made as yet
        return []


FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture(scope="module")
def killed_and_restarted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("search")
    process = subprocess.Popen(
        command(folder, SPACE, "search.trials=8"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    )  # fmt: skip
    end = time.monotonic() + 120
    while sum(t.state in FINISHED for t in trials(folder)) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    while not any(t.state == TrialState.RUNNING for t in trials(folder)) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sum(t.state in FINISHED for t in trials(folder)) < 8
    done = program(folder, SPACE, "search.trials=8", "resume=auto")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_killed_search_ends_with_all_its_trials(killed_and_restarted):
    states = [trial.state for trial in trials(killed_and_restarted[0])]
    assert sum(state in FINISHED for state in states) == 8
    assert not [state for state in states if state in (TrialState.RUNNING, TrialState.WAITING)]


def test_what_was_running_is_tried_again_with_its_values(killed_and_restarted):
    given_up = [t for t in trials(killed_and_restarted[0]) if t.user_attrs.get("abandoned")]
    assert given_up
    for trial in given_up:
        again = [t for t in trials(killed_and_restarted[0]) if t.params == trial.params and t.state in FINISHED]
        assert again or not trial.params


def test_no_values_are_proposed_twice(killed_and_restarted):
    rates = [t.params["optimizer.lr"] for t in trials(killed_and_restarted[0]) if t.state in FINISHED]
    assert len(set(rates)) == len(rates)


def test_a_pruned_trial_has_fewer_epochs(killed_and_restarted):
    folder = killed_and_restarted[0]

    def epochs(trial: optuna.trial.FrozenTrial) -> int:
        with (folder / trial.user_attrs["folder"] / "metrics.csv").open(newline="") as file:
            return sum(bool(row["val/accuracy"]) for row in csv.DictReader(file))

    pruned = [t for t in trials(folder) if t.state == TrialState.PRUNED]
    assert pruned
    assert all(epochs(t) < 4 for t in pruned)
    assert all(epochs(t) == 4 for t in trials(folder) if t.state == TrialState.COMPLETE)
    assert not any((folder / t.user_attrs["folder"] / "metrics.json").exists() for t in pruned)


def test_the_leaderboard_has_every_trial_and_the_best_is_a_command(killed_and_restarted):
    folder, shown = killed_and_restarted
    with (folder / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert [row for row in rows if row["note"].startswith("pruned after epoch")]
    (line,) = [line for line in shown.splitlines() if line.startswith("best: ")]
    words = shlex.split(line.removeprefix("best: "))
    assert words[:2] == ["python", "train.py"]
    best = max((t for t in trials(folder) if t.state == TrialState.COMPLETE), key=lambda t: t.value)
    assert config(*words[2:]).optimizer.lr == best.params["optimizer.lr"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val/accuracy"] == best.value
    assert not [name for name in metrics if name.startswith("test/")]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("+search.space={}", "search.space names no parameter"),
        ("+search.space={optimizer.lrr:[1,2]}", "search.space: optimizer.lrr=1 is no override"),
        ("+search.space={augment:[light,lite]}", "search.space: augment=lite is no override"),
        ("+search.space={optimizer.lr:{low:1,high:0}}", "optimizer.lr must have a list of values, or low and high"),
        ("+search.space={optimizer.lr:{low:0,high:1,log:true}}", "optimizer.lr must have a list of values"),
        ("+search.space={optimizer.lr:0.1}", "optimizer.lr must have a list of values"),
        ("+search.space={optimizer.lr:{low:0.1,high:0.3,step:0}}", "optimizer.lr must have a list of values"),
        ("+search.space={optimizer.lr:{low:0.1,high:0.3,step:fine}}", "optimizer.lr must have a list of values"),
        ("+search.space={optimizer.lr:{low:0.1,high:inf}}", "optimizer.lr must have a list of values"),
        (f"{SPACE} search.trials=many", "search.trials=many must be a whole number from 1"),
        (f"{SPACE} search.trials=0", "search.trials=0 must be a whole number from 1"),
        (f"{SPACE} search.seed=any", "search.seed=any must be a whole number from 0"),
    ],
)
def test_a_space_that_cannot_be_is_one_line(space, words, tmp_path, monkeypatch, capsys):
    import train

    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *space.split(" "), f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit) as done:
        train.main()
    assert done.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {words}" if words.startswith("search") else "error: search.space: ")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "trials.db").exists()


@pytest.mark.parametrize("name", [name for name in options("search") if name != "custom"])
def test_every_space_is_one_that_train_takes(name):
    from fer.train import search

    cfg = config(f"search={name}", "data=synthetic")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert set(search._checked(cfg.search, ["data=synthetic"])) == set(cfg.search.space)


def test_ends_that_are_whole_numbers_with_a_step_that_is_not_are_no_whole_numbers():
    from fer.train import search

    asked = []

    class Trial:
        def suggest_int(self, name, **values):
            asked.append("int")

        def suggest_float(self, name, **values):
            asked.append("float")

    for values in ({"low": 0, "high": 1, "step": 0.05}, {"low": 1, "high": 9}, {"low": 0.0, "high": 1}):
        search._suggest(Trial(), "mixup", values)
    assert asked == ["float", "int", "float"]
