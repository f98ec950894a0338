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

# 17 images of val: two batches for one process, one for the other
OVERRIDES = [o.replace("val=21", "val=17") for o in TINY if o != "trainer.accelerator=cpu"]
OVERRIDES += ["callbacks.progress=null", "+trainer.enable_progress_bar=false", "optimizer.lr=0.2", "trainer=ddp_cpu"]
OVERRIDES += ["data.batch_size=8", "callbacks.ema.decay=0.6"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    completed = subprocess.run(
        [sys.executable, "train.py", *OVERRIDES, f"hydra.run.dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, timeout=200, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.count("epoch 1 of 1") == 1  # only one process logs
    return folder


def test_the_report_is_that_of_one_process_on_an_odd_number_of_images(finished, tmp_path):
    splits = synthetic.read(train=64, val=17, test=21)
    model = checkpoints.load(str(finished / "checkpoints" / "best.ckpt"))
    alone = report.judge(model, splits, tmp_path, test=True)
    together = json.loads((finished / "metrics.json").read_text())
    assert {name: together[name] for name in alone} == alone


def test_validation_counts_every_image_once(finished):
    with (finished / "metrics.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["val/accuracy"])
    judged = json.loads((finished / "metrics.json").read_text())
    for name in ("val/accuracy", "val/f1_macro", "val/loss"):
        assert float(row[name]) == pytest.approx(judged[name], abs=1e-6)


def test_one_artifact_is_left(finished):
    assert [path.name for path in finished.rglob("*.ts")] == ["model.ts"]
    assert artifact.read_metadata(finished / "model.ts").config["trainer"]["devices"] == 2
    assert not list(finished.rglob("*.part*"))
