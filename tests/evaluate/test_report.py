import csv
import json

import numpy as np
import torch

from fer.data.base import Split
from fer.evaluate import gradcam
from fer.evaluate import judge as report
from fer.models.classifier import EmotionClassifier


def test_metrics_file_is_flat_and_sorted(tmp_path):
    report.write_metrics({"b": 1.0, "a": 0.5}, tmp_path / "metrics.json")
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_neither_a_file_name_nor_a_picture_costs_a_training_its_report(tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise ValueError("too many values to unpack")

    monkeypatch.setattr(gradcam, "draw", broken)
    names = tuple(f"caf\udce9{k}.jpg" for k in range(4))  # of an archive in another encoding
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    split = Split(images, np.array([0, 1, 0, 1]), ("a", "b"), names=names)
    torch.manual_seed(0)
    model = EmotionClassifier(
        model={"name": "resnet_small", "widths": [8], "depths": [1]}, classes=["a", "b"], channels=1, input_size=48,
        mean=[0.5], std=[0.25],
    ).eval()  # fmt: skip
    metrics = report.judge(model, {"train": split, "val": split, "test": split}, tmp_path, test=False)
    with (tmp_path / "mistakes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == round(4 * (1 - metrics["val/accuracy"]))
    assert all(row["file"].startswith("caf\\udce9") for row in rows)
    assert "no gradcam.png: too many values to unpack" in caplog.text
