"""Sweeps of the real configuration."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from samples import ROOT, TINY, config

from fer.config import CONF, _gpu_of_this_process, _jobs_at_once, build
from fer.errors import ConfigError
from fer.train import __main__ as program
from fer.train import run as experiment
from fer.train import sweep

QUIET = ["callbacks.progress=null", "+trainer.enable_progress_bar=false", "hydra/job_logging=none"]
GRID = [
    *(o for o in TINY if not o.startswith("+model=")),
    *QUIET,
    "model=vgg_small",
    "model.widths=[8,16]",
    "model.depths=[1,1]",
    "seed=1,2",
]
ALIKE = ("val/accuracy", "val/accuracy_sd", "val/loss", "parameters", "macs", "configuration", "seeds")


def run_sweep(folder: Path, *overrides: str) -> int:
    """Run `train.py -m` in this process and return the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "-m", *overrides, f"hydra.sweep.dir={folder}"])
        try:
            program.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def figures(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("basic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert run_sweep(folder, *GRID) == 0
    return folder


def test_a_sweep_ends_with_a_leaderboard_on_val(finished):
    (row,) = figures(finished)
    assert (row["configuration"], row["seeds"]) == ("", "2")
    seeds = [json.loads((finished / str(job) / "metrics.json").read_text()) for job in range(2)]
    assert float(row["val/loss"]) == pytest.approx(sum(metrics["val/loss"] for metrics in seeds) / 2)
    assert not [name for metrics in seeds for name in metrics if name.startswith("test/")]
    assert str(finished) not in (finished / "leaderboard.md").read_text()


def test_joblib_gives_the_same_figures(finished, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    command = [sys.executable, "train.py", "-m", *GRID, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    completed = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}"],
        capture_output=True, text=True, cwd=ROOT, timeout=500, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    one, other = ([{key: row[key] for key in ALIKE} for row in figures(folder)] for folder in (finished, tmp_path))
    assert one == other


@pytest.mark.parametrize(
    ("launcher", "values"),
    [
        ("joblib", {"n_jobs": _jobs_at_once()}),
        ("ray", {"ray.init.address": "local", "ray.remote.num_gpus": int(torch.cuda.is_available())}),
        ("submitit_slurm", {"gpus_per_node": 1, "submitit_folder": "jobs/.submitit/%j"}),
    ],
)
@pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema")  # as in fer.config.program
def test_every_launcher_has_a_config_that_its_plugin_accepts(launcher, values):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"hydra/launcher={launcher}", "hydra.sweep.dir=jobs"], return_hydra_config=True)
    assert {key: OmegaConf.select(cfg.hydra.launcher, key) for key in values} == values


@pytest.fixture
def gpus(monkeypatch):
    """Give this machine CUDA GPUs: `gpus(number, GiB each, cores)`."""

    def fake(number: int, memory: float = 80, cores: int = 16) -> None:
        properties = SimpleNamespace(total_memory=int(memory * 2**30))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)

    yield fake
    _gpu_of_this_process.cache_clear()


@pytest.mark.parametrize(
    ("machine", "jobs"),
    [
        ((0, 0, 16), 16),
        ((1, 80, 16), 6),
        ((1, 23.6, 16), 5),
        ((1, 2, 8), 1),
        ((1, 80, 4), 4),
        ((4, 80, 128), 24),
        ((8, 80, 4), 8),
    ],
)
def test_jobs_at_once_are_bounded_by_gpus_their_memory_and_cores(machine, jobs, gpus):
    gpus(*machine)
    assert _jobs_at_once() == jobs


@pytest.fixture
def job(monkeypatch):
    """Compose the config of a job: `job(number, launcher)`."""

    def compose_job(number: int, *overrides: str, launcher: str = "joblib.Joblib"):
        node = {"launcher": {"_target_": f"{launcher}Launcher"}, "job": {"num": number}, "overrides": {"task": []}}
        monkeypatch.setattr("fer.config.in_sweep", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(node | {"sweep": {"dir": "jobs"}}))
        return config("data=synthetic", *overrides)

    return compose_job


def test_jobs_of_joblib_are_spread_over_gpus_and_stay_there_with_their_process(job, gpus):
    gpus(2)
    for number, gpu in ((0, 0), (1, 1), (5, 1)):
        _gpu_of_this_process.cache_clear()  # as in a new process
        assert job(number).trainer.devices == [gpu]
        assert job(number + 3).trainer.devices == [gpu]
    trainer = build(job(0).trainer, "trainer", _convert_="all", logger=False)
    assert (trainer.strategy.root_device, trainer.world_size) == (torch.device("cuda", 1), 1)


@pytest.mark.parametrize(
    ("count", "overrides", "launcher", "devices"),
    [
        (0, [], "joblib.Joblib", 1),
        (1, [], "joblib.Joblib", 1),
        (2, ["trainer=cpu"], "joblib.Joblib", 1),
        (2, ["trainer=gpu"], "joblib.Joblib", [1]),
        (2, ["trainer=ddp"], "joblib.Joblib", "auto"),
        (2, ["trainer.devices=[0]"], "joblib.Joblib", [0]),
        (2, [], "basic.Basic", 1),
        (2, [], "ray.Ray", 1),
        (2, [], "submitit.Slurm", 1),
    ],
)
def test_all_other_jobs_take_the_devices_that_they_are_given(count, overrides, launcher, devices, job, gpus):
    gpus(count)
    assert job(1, *overrides, launcher=launcher).trainer.devices == devices


def test_a_single_run_takes_one_device(gpus):
    gpus(2)
    assert config("data=synthetic").trainer.devices == 1


@pytest.fixture
def fake_run(monkeypatch) -> list[str]:
    """Let a job end at once with its learning rate as accuracy, and fail above 1; returns the folders that ran."""
    ran: list[str] = []

    def run(cfg, watchers=()):
        folder, accuracy = Path(cfg.run_dir), cfg.optimizer.lr + cfg.seed / 100
        if not (folder / "metrics.json").exists():
            ran.append(folder.name)
            if accuracy > 1:
                raise ConfigError(f"lr={cfg.optimizer.lr} in {folder} is\ntoo high")
            (folder / "metrics.json").write_text(json.dumps({"val/accuracy": accuracy}))
        return {"val/accuracy": accuracy}

    monkeypatch.setattr(experiment, "run", run)
    return ran


def test_a_failed_job_is_one_row_with_its_cause_and_is_tried_again(fake_run, tmp_path, capsys):
    grid = ["data=synthetic", "seed=1,2", *QUIET]
    assert run_sweep(tmp_path, *grid, "optimizer.lr=0.1,0.2,5") == 1
    assert "2 of 6 jobs failed" in capsys.readouterr().out
    best, second, *failed = figures(tmp_path)
    assert [best["configuration"], second["configuration"]] == ["optimizer.lr=0.2", "optimizer.lr=0.1"]
    assert (best["seeds"], float(best["val/accuracy"])) == ("2", pytest.approx(0.215))
    assert [row["configuration"] for row in failed] == [f"seed={seed} optimizer.lr=5" for seed in (1, 2)]
    assert all(re.fullmatch(r"lr=5\S* in …/\d is too high", row["note"]) for row in failed)
    fake_run.clear()
    assert run_sweep(tmp_path, *grid, "optimizer.lr=0.1,0.2,0.3", "resume=auto") == 0
    assert len(fake_run) == 2
    assert [row["configuration"] for row in figures(tmp_path)] == [f"optimizer.lr={lr}" for lr in (0.3, 0.2, 0.1)]


def test_jobs_that_did_not_finish_or_are_damaged_are_named(tmp_path):
    for number, overrides in enumerate((["a=1", "seed=1"], ["a=1", "seed=2"], ["a=2", "seed=1"], ["a=3", "seed=1"])):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        saved = OmegaConf.create([*overrides, "resume=auto", "b=3"])
        OmegaConf.save(saved, tmp_path / str(number) / ".hydra" / "overrides.yaml")
    for number, accuracy in ((0, 0.5), (1, 0.7)):
        (tmp_path / str(number) / "metrics.json").write_text(json.dumps({"val/accuracy": accuracy}))
    (tmp_path / "3" / "metrics.json").write_text("[1]")
    good, unfinished, damaged = sweep.rows(tmp_path)
    assert (list(good.overrides), good.mean("val/accuracy")) == (["a=1"], pytest.approx(0.6))
    assert (list(unfinished.overrides), unfinished.note) == (["a=2", "seed=1"], "did not finish")
    assert "metrics.json" in damaged.note


def test_a_job_is_known_to_wandb_by_its_overrides(tmp_path, monkeypatch):
    node = {"overrides": {"task": ["augment=light", "seed=2", "resume=auto"]}, "sweep": {"dir": str(tmp_path)}}
    monkeypatch.setattr("fer.config.in_sweep", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(node))
    cfg = config("logger=wandb", "data=synthetic")
    assert cfg.logger.wandb.name == "augment=light seed=2"
    assert cfg.logger.wandb.tags == ["augment=light", "seed=2"]
    assert cfg.logger.wandb.group == tmp_path.name
    assert cfg.threads == 1


def test_a_single_run_has_no_group():
    cfg = config("logger=wandb", "data=synthetic", "name=mine")
    wandb = cfg.logger.wandb
    assert (wandb.name, wandb.group, wandb.tags, cfg.threads) == ("mine", None, [], None)
