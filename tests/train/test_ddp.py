"""Two processes on the CPU, started as a user starts them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import ROOT, TINY

from fer import artifact
from fer.data import synthetic
from fer.evaluate import report
from fer.models import checkpoints

# 17 of val: two batches for one process, one for the other
SMALL = [o.replace("val=21", "val=17") for o in TINY if o != "trainer.accelerator=cpu"]
SMALL += ["callbacks.progress=null", "+trainer.enable_progress_bar=false", "optimizer.lr=0.2", "trainer.max_epochs=2"]


def program(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "train.py", *SMALL, *overrides],
        capture_output=True, text=True, cwd=ROOT, timeout=200, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    done = program("trainer=ddp_cpu", "data.batch_size=8", "callbacks.ema.decay=0.6", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1 of 2") == 1  # one process speaks
    return folder


def test_the_report_is_that_of_one_process_on_an_odd_number_of_images(finished, tmp_path):
    splits = synthetic.read(train=64, val=17, test=21)
    model = checkpoints.load(str(finished / "checkpoints" / "best.ckpt"))
    alone = report.judge(model, splits, tmp_path, test=True)
    together = json.loads((finished / "metrics.json").read_text())
    assert {name: together[name] for name in alone} == alone
    assert (finished / "confusion_matrix.png").read_bytes() == (tmp_path / "confusion_matrix.png").read_bytes()


def test_the_curve_that_chooses_the_epoch_counts_every_image_once(finished):
    with (finished / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/accuracy"]]
    judged = json.loads((finished / "metrics.json").read_text())
    best = max(rows, key=lambda row: float(row["val/accuracy"]))
    for name in ("val/accuracy", "val/f1_macro", "val/loss"):
        assert float(best[name]) == pytest.approx(judged[name], abs=1e-6)


def test_one_artifact_is_left(finished):
    assert [path.name for path in finished.rglob("*.ts")] == ["model.ts"]
    assert artifact.read_metadata(finished / "model.ts").config["trainer"]["devices"] == 2
    assert not list(finished.rglob("*.part"))


def test_more_processes_than_images_is_one_line_and_starts_none(tmp_path):
    done = program("trainer=ddp_cpu", "trainer.devices=18", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == (
        "error: 18 processes are more than the 17 images of val; lower trainer.devices or trainer.num_nodes\n"
    )
    assert not list(tmp_path.glob("train_ddp_process_*"))


def test_a_job_of_a_sweep_does_not_start_the_sweep_anew(tmp_path):
    done = program("trainer=ddp_cpu", "seed=1,2", f"hydra.sweep.dir={tmp_path}", "--multirun")
    assert done.returncode == 1
    assert "cannot start processes of its own" in (tmp_path / "0" / "failed.txt").read_text()
    assert not list(tmp_path.rglob("train_ddp_process_*"))
