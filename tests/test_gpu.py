"""Training, export and inference on a CUDA GPU; skipped without one.

`FER_TEST_DEVICE=cpu pytest tests/test_gpu.py` runs the same on the CPU, which shows that the tests themselves work.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from samples import ROOT, TINY, black_clip, config, golden_images, run_program, tiny

from fer import artifact
from fer.train import run as experiment

DEVICE = os.environ.get("FER_TEST_DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
SMALL = [
    f"trainer.accelerator={'gpu' if ON_GPU else 'cpu'}",
    "data.device=true",
    "progressive=[]",
    "callbacks.ema.decay=0.5",
    "callbacks.ema.every_n_steps=1",
    "augment=light",
    "model.drop_rate=0",  # a compiled network draws other numbers
    "optimizer.lr=0.1",
    "trainer.precision=32-true",
    "trainer.max_epochs=8",
]
CLOSE = 5e-3
"""Between probabilities of a GPU and a CPU: convolutions with TF32 keep 10 bits of each factor."""
REPEATED = 0.01 if ON_GPU else 1e-7
"""Between losses of two runs: on a GPU, gradients are summed in an order that differs."""

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    tiny(folder, *SMALL, "compile=false")
    return folder


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def losses_of(folder: Path) -> list[float]:
    """Return the training loss of every epoch."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def program(*words: str, options: tuple[str, ...] = ()) -> None:
    completed = subprocess.run(
        [sys.executable, "train.py", *options, *TINY, *SMALL, "callbacks.progress=null", *words],
        capture_output=True, text=True, cwd=ROOT, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr


def test_a_training_learns_and_ends_with_an_artifact(trained):
    first, *_, last = losses_of(trained)
    assert last < first - 0.08
    assert metrics_of(trained)["train/images_per_second"] > 0
    assert artifact.read_metadata(trained / "model.ts").config["data"]["device"] is True


def test_a_compiled_training_ends_alike(trained, tmp_path):
    tiny(tmp_path, *SMALL, "compile=true")
    assert losses_of(tmp_path) == pytest.approx(losses_of(trained), abs=0.01)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_mixed_precision_trains(optimizer, trained, tmp_path):
    tiny(tmp_path, *SMALL, f"optimizer={optimizer}", "optimizer.lr=0.01", "trainer.precision=bf16-mixed")
    first, *_, last = losses_of(tmp_path)
    assert last < first - 0.04


class _Dies(L.Callback):
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("killed")


def test_a_killed_training_resumes_where_it_was(trained, tmp_path):
    cfg = config(*TINY, *SMALL, "compile=false", "resume=auto", run_dir=tmp_path)
    with pytest.raises(RuntimeError, match="killed"):
        experiment.run(cfg, watchers=[_Dies()])
    assert not (tmp_path / "metrics.json").exists()
    experiment.run(cfg)
    assert losses_of(tmp_path) == pytest.approx(losses_of(trained), abs=REPEATED)


@pytest.mark.parametrize("file", ["model.ts", "bundled"])
def test_an_artifact_gives_the_probabilities_of_the_cpu(file, trained):
    path = artifact.BUNDLED if file == "bundled" else trained / file
    images = golden_images(1, 48, 16)
    expected = artifact.load(path)(images)
    probabilities = artifact.load(path, DEVICE)(images)
    assert probabilities.device.type == "cpu"
    assert torch.allclose(probabilities, expected, atol=CLOSE)
    assert torch.allclose(artifact.load(path, DEVICE)(images.to(DEVICE)), expected, atol=CLOSE)


def test_evaluation_on_the_device_agrees_with_that_of_the_training(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["data=synthetic", "+data.reader.train=64", "+data.reader.val=21", "+data.reader.test=21"]
    words = [f"models={trained / 'model.ts'}", *data, "robustness=false", f"device={DEVICE}", "out=out"]
    run_program(["-m", "fer.evaluate", *words], monkeypatch)
    assert "95 % interval" in capsys.readouterr().out


def test_a_video_is_processed_on_the_device(tmp_path, monkeypatch):
    black_clip(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    run_program(["infer.py", "source=clip.mp4", "view=none", "log=log.jsonl", f"device={DEVICE}"], monkeypatch)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5


def test_ddp_trains_on_one_device(tmp_path):
    kind = "ddp" if ON_GPU else "ddp_cpu"
    program(f"trainer={kind}", "trainer.devices=1", "compile=false", f"hydra.run.dir={tmp_path}")
    assert 0 < metrics_of(tmp_path)["val/loss"] < 3


def test_jobs_of_a_sweep_share_the_device(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    jobs = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    program(*jobs, "compile=false", options=("-m",))
    first, second = (metrics_of(tmp_path / str(job)) for job in range(2))
    assert first["val/loss"] != second["val/loss"]


@pytest.mark.parametrize("compiled", [False, True])
def test_teachers_stay_on_the_device(compiled, trained, tmp_path):
    teachers = f"distillation.teachers=['{trained}/checkpoints/best.ckpt','{trained}/model.ts']"
    metrics = tiny(tmp_path, *SMALL, teachers, f"compile={compiled}")
    assert 0 < metrics["val/loss"] < 3
