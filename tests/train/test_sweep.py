"""Whole sweeps of the real configuration, by each launcher."""

import csv
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from samples import ROOT, TINY, config

import fer.config
from fer.train import sweep

GRID = [
    *(o for o in TINY if not o.startswith("+model=")),
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
    "model=resnet_small,vgg_small",
    "model.widths=[8,16]",
    "model.depths=[1,1]",
    "augment=none,light",
    "seed=1,2",
]


# a token of the tests' own: Ray would otherwise write one into the user's home
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def program(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "train.py", "-m", *overrides, f"hydra.sweep.dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip


def figures(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("images_per_second", "minutes"):
            row.pop(name)
    return rows


@pytest.fixture(scope="module")
def one_after_the_other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("basic")
    done = program(folder, *GRID)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_sweep_ends_with_a_leaderboard(one_after_the_other):
    folder, shown = one_after_the_other
    rows = figures(folder)
    assert [row["seeds"] for row in rows] == ["2"] * 4
    names = {f"model={m} augment={a}" for m in ("resnet_small", "vgg_small") for a in ("none", "light")}
    assert {row["configuration"] for row in rows} == names
    accuracies = [float(row["val/accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(float(row["val/accuracy_sd"]) >= 0 and int(row["macs"]) > 0 for row in rows)
    assert f"sweep {folder.name}" in shown
    assert str(folder) not in (folder / "leaderboard.md").read_text()


@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_other_launchers_give_the_same_figures(launcher, one_after_the_other, tmp_path):
    pytest.importorskip({"joblib": "hydra_plugins.hydra_joblib_launcher", "ray": "ray"}[launcher])
    ray = ["hydra.launcher.ray.init.num_cpus=2", "hydra.launcher.ray.remote.max_calls=0"]  # a new process takes long
    small = {"joblib": ["hydra.launcher.n_jobs=2"], "ray": ray}[launcher]
    done = program(tmp_path, *GRID, f"hydra/launcher={launcher}", *small)
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path) == figures(one_after_the_other[0])


def test_a_ray_head_node_that_runs_already_takes_the_jobs(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    place = tempfile.mkdtemp(prefix="ray")  # where no other Ray looks, and short, since its sockets lie there
    head = subprocess.Popen(
        [ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2",
         "--include-dashboard=false", f"--temp-dir={place}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    try:
        _wait_for(port, head)
        grid = [o for o in GRID if not o.startswith(("model=", "augment="))]
        there = [
            f"hydra.launcher.ray.init.address=127.0.0.1:{port}",
            "+hydra.launcher.ray.init._node_ip_address=127.0.0.1",
        ]
        done = program(tmp_path, *grid, "hydra/launcher=ray", *there, "model=vgg_small")
        assert done.returncode == 0, done.stderr
        assert [row["seeds"] for row in figures(tmp_path)] == ["2"]
        assert head.poll() is None  # the cluster is not the sweep's to end
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(3)  # for the node behind it
                return
        time.sleep(0.5)
    raise AssertionError("no Ray head node")


@pytest.fixture(scope="module")
def with_a_failure(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("failing")
    few = [o for o in GRID if not o.startswith(("model=", "augment=", "seed="))]
    return folder, program(folder, *few, "model=vgg_small", "model.drop_rate=x,0.1")


def test_a_failed_job_is_one_marked_row(with_a_failure):
    folder, done = with_a_failure
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "1 of 2 jobs failed" in done.stdout
    assert "this job failed" in (folder / "0" / "train.log").read_text()
    good, bad = figures(folder)
    assert (good["configuration"], good["seeds"], good["note"]) == ("model.drop_rate=0.1", "1", "")
    assert (bad["configuration"], bad["seeds"], bad["val/accuracy"]) == ("model.drop_rate=x", "0", "")
    assert bad["note"].startswith("model.name=vgg_small does not take these arguments")
    metrics = json.loads((folder / "1" / "metrics.json").read_text())
    assert not [name for name in metrics if name.startswith("test/")]  # a sweep ranks on val


def test_the_same_folder_with_resume_tries_failed_jobs_again(with_a_failure, tmp_path):
    folder = shutil.copytree(with_a_failure[0], tmp_path / "again")
    before = (folder / "1" / "metrics.json").stat().st_mtime_ns
    few = [o for o in GRID if not o.startswith(("model=", "augment=", "seed="))]
    done = program(folder, *few, "model=vgg_small", "model.drop_rate=0.2,0.1", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert {row["configuration"] for row in figures(folder)} == {"model.drop_rate=0.2", "model.drop_rate=0.1"}
    assert (folder / "1" / "metrics.json").stat().st_mtime_ns == before


def test_rows_gather_seeds_and_name_what_did_not_finish(tmp_path):
    for number, (overrides, accuracy) in enumerate(
        [(["a=1", "seed=1"], 0.5), (["a=1", "seed=2"], 0.7), (["a=2", "seed=1"], None)]
    ):
        place = tmp_path / str(number)
        (place / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create([*overrides, "resume=auto", "b=3"]), place / ".hydra" / "overrides.yaml")
        if accuracy:
            (place / "metrics.json").write_text(json.dumps({"val/accuracy": accuracy}))
    one, other = sweep.rows(tmp_path)
    (tmp_path / "2" / "metrics.json").write_text("[1]")
    assert "metrics.json holds no metrics of a run (no JSON object)" in sweep.rows(tmp_path)[1].note
    assert (list(one.overrides), one.mean("val/accuracy")) == (["a=1"], pytest.approx(0.6))
    assert (list(other.overrides), other.note) == (["a=2", "seed=1"], "did not finish")


def test_a_job_is_known_to_wandb_by_what_it_varies(tmp_path, monkeypatch):
    node = {"overrides": {"task": ["model=vgg_small", "+a=True", "augment=light", "seed=2"]}, "mode": "MULTIRUN"}
    OmegaConf.save(
        {"hydra": {"overrides": {"task": ["model=vgg_small", "+a=true", "seed=1,2"]}}}, tmp_path / "multirun.yaml"
    )
    node["sweep"] = {"dir": str(tmp_path)}
    monkeypatch.setattr(fer.config, "in_sweep", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(node))
    cfg = config("logger=wandb", "data=synthetic")
    assert cfg.logger.wandb.name == "augment=light seed=2"
    assert cfg.logger.wandb.tags == ["augment=light", "seed=2"]
    assert cfg.logger.wandb.group == tmp_path.name
    assert cfg.threads == 1


def test_a_single_run_has_no_group():
    cfg = config("logger=wandb", "data=synthetic", "name=mine")
    assert (cfg.logger.wandb.name, cfg.logger.wandb.group, cfg.logger.wandb.tags, cfg.threads) == (
        "mine",
        None,
        [],
        None,
    )
