"""Models that have learnt nothing, which is enough to evaluate them, and the command's config."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from samples import ROOT
from torch import nn

from fer import artifact, plots
from fer.artifact.export import export
from fer.artifact.metadata import Metadata
from fer.data import synthetic
from fer.data.base import Split
from fer.evaluate import report
from fer.evaluate import run as evaluate
from fer.labels import EMOTIONS
from fer.models.classifier import EmotionClassifier

SIZES = {"train": 64, "val": 21, "test": 21}
DATA = ["data=synthetic", *(f"+data.reader.{name}={size}" for name, size in SIZES.items())]


@pytest.fixture(scope="session")
def splits() -> dict[str, Split]:
    return synthetic.read(**SIZES)


@pytest.fixture(scope="session")
def classifier() -> EmotionClassifier:
    torch.manual_seed(0)
    return EmotionClassifier(
        model={"name": "resnet_small", "widths": [8, 16], "depths": [1, 1]}, classes=list(EMOTIONS), channels=1,
        input_size=48, mean=[0.5], std=[0.05],
    ).eval()  # fmt: skip


def save_checkpoint(classifier: EmotionClassifier, path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(classifier)
    trainer.save_checkpoint(path)


@pytest.fixture
def checkpoint(classifier, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Save the classifier as if it had been trained with this config."""

    def save(**config: Any) -> Path:
        monkeypatch.setitem(classifier.hparams, "config", config)
        save_checkpoint(classifier, tmp_path / "best.ckpt")
        return tmp_path / "best.ckpt"

    return save


@pytest.fixture(scope="session")
def run_folder(classifier, splits, tmp_path_factory) -> Path:
    """What a run leaves, without its training."""
    folder = tmp_path_factory.mktemp("some_run") / "today"
    (folder / "checkpoints").mkdir(parents=True)
    save_checkpoint(classifier, folder / "checkpoints" / "best.ckpt")
    report.write_metrics(report.judge(classifier, splits, folder, test=True), folder / "metrics.json")
    export(folder / "checkpoints" / "best.ckpt", folder / "model.ts")
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Write an artifact with random weights."""

    def make(path: Path, seed: int, classes=EMOTIONS, format: str = "torchscript", **changes: Any) -> Path:
        torch.manual_seed(seed)
        channels = changes.get("channels", 1)
        body = nn.Sequential(nn.Conv2d(channels, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
        backbone = nn.Sequential(body, nn.Linear(72, len(classes)))
        values = {"channels": 1, "input_size": 48, "mean": (0.5,), "std": (0.05,), "temperature": 1.5} | changes
        return artifact.save(backbone, Metadata(classes=classes, **values), path, format)

    return make


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Draw nothing: matplotlib takes longer than everything else."""
    for name in ("confusion_matrix", "reliability", "mistakes", "sheet"):
        monkeypatch.setattr(plots, name, lambda *_, **__: None)


@pytest.fixture
def run(tmp_path) -> Callable[..., dict[str, Any]]:
    """Run `python -m fer.evaluate` on drawn faces, in this process."""

    def run(*overrides: str, out: Path = tmp_path / "out", data: list[str] = DATA) -> dict[str, Any]:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return evaluate.run(compose("evaluate", [*data, "device=cpu", *overrides, f"out='{out}'"]))

    return run
