"""Whole sweeps of the real configuration, by each launcher."""

import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from test_train import ROOT, TINY

from fer import sweep

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


def program(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "train.py", "-m", *overrides, f"hydra.sweep.dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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
    small = {"joblib": "hydra.launcher.n_jobs=2", "ray": "hydra.launcher.ray.init.num_cpus=2"}[launcher]
    done = program(tmp_path, *GRID, f"hydra/launcher={launcher}", small)
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path) == figures(one_after_the_other[0])


def test_a_ray_head_node_that_runs_already_takes_the_jobs(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    head = subprocess.Popen(
        [ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2",
         "--include-dashboard=false", f"--temp-dir={tmp_path_factory_short(tmp_path)}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        grid = [o for o in GRID if not o.startswith("model=") and not o.startswith("augment=")]
        done = program(
            tmp_path, *grid, "hydra/launcher=ray", f"hydra.launcher.ray.init.address=127.0.0.1:{port}", "model=vgg_small"
        )
        assert done.returncode == 0, done.stderr
        assert [row["seeds"] for row in figures(tmp_path)] == ["2"]
        assert head.poll() is None  # the cluster is not ours to end
    finally:
        head.terminate()
        head.wait(60)
