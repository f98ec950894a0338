import csv
import io
import json
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fer import artifact, metrics
from fer.artifact.export import export
from fer.data.base import Split
from fer.evaluate import gradcam, report
from fer.evaluate.predict import Predictions
from fer.train import leaderboard


@pytest.fixture
def top2():
    """A metric registered from outside, and one by class."""

    @metrics.metric("top2", title="top two")
    def top2(probabilities, labels):
        return (np.argsort(probabilities, 1)[:, -2:] == labels[:, None]).any(1).mean()

    @metrics.metric("share", title="predicted share", per_class=True)
    def share(probabilities, labels):
        return probabilities.mean(0)

    yield
    del metrics.METRICS["top2"], metrics.METRICS["share"]


def test_a_registered_metric_is_everywhere(top2, classifier, splits, run, tmp_path, capsys, no_pictures):
    result = report.judge(classifier, splits, tmp_path, test=False)
    assert 0 < result["val/top2"] < 1
    assert 0 < result["val/share/happy"] < 1
    result |= {"train/minutes": 1.0, "train/images_per_second": 100.0, "train/warm_up_seconds": 31.2}
    report.show(result, tmp_path / "model.ts")
    compared = run("models=bundled", "robustness=false")
    assert "top2" in compared["models"]["fast"]
    printed = capsys.readouterr().out
    assert (printed.count("top two"), printed.count("predicted share")) == (2, 2)
    assert "top two" in (tmp_path / "out" / "report.md").read_text()
    assert "top2" in (tmp_path / "out" / "metrics.json").read_text()
    images = torch.from_numpy(splits["val"].images.copy())[:, None]
    loader = DataLoader(TensorDataset(images, torch.from_numpy(splits["val"].labels)), batch_size=8)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (validated,) = trainer.validate(classifier, loader, verbose=False)
    assert validated["val/top2"] == pytest.approx(result["val/top2"])
    assert "val/share/happy" not in validated  # metrics by class are in the report only
    leaderboard.write([leaderboard.Row(["a=1"], [result])], tmp_path, "sweep")
    assert "val/top2" in (tmp_path / "leaderboard.csv").read_text()
    assert "top two" in (tmp_path / "leaderboard.md").read_text()


def test_figures_before_and_after_the_temperature_and_with_mirror_images():
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], dtype=np.float32))
    predictions = Predictions(logits, logits[::-1].copy(), np.array([0, 1, 0]), temperature=2.0)
    figures = report.figures_of(predictions, ("a", "b"))
    assert figures["loss"] == pytest.approx(metrics.nll(predictions.raw, predictions.labels))
    assert figures["nll"] == pytest.approx(metrics.nll(predictions.calibrated, predictions.labels))
    assert figures["ece_raw"] == pytest.approx(metrics.ece(predictions.raw, predictions.labels))
    assert figures["ece"] == pytest.approx(metrics.ece(predictions.calibrated, predictions.labels))
    assert (figures["accuracy"], figures["accuracy_flip"]) == (pytest.approx(2 / 3), 1)
    assert (figures["support/a"], figures["support/b"]) == (2, 1)


def test_a_run_has_all_its_metrics_and_files(run_folder, splits):
    values = json.loads((run_folder / "metrics.json").read_text())
    names = ["accuracy", "accuracy_flip", "f1_macro", "ece", "ece_raw", "loss", "recall/happy"]
    assert {f"{split}/{name}" for split in ("val", "test") for name in names} < values.keys()
    assert list(values) == sorted(values)
    assert values["test/accuracy_without_duplicates"] == values["test/accuracy"]  # drawn faces have no duplicates
    for name in ("confusion_matrix", "reliability", "mistakes", "gradcam"):
        assert (run_folder / f"{name}.png").stat().st_size > 1000
    with (run_folder / "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == round(len(splits["test"]) * (1 - values["test/accuracy"]))
    assert all(row["true"] != row["predicted"] for row in rows)
    sure = [float(row[row["true"]]) for row in rows]
    assert sure == sorted(sure)


def test_the_temperature_of_an_artifact_that_averages_is_fitted_with_mirror_images(run_folder, splits, tmp_path):
    val, checkpoint = splits["val"], run_folder / "checkpoints" / "best.ckpt"
    images = torch.from_numpy(val.images.copy())[:, None]

    def nll(temperature: float | None) -> float:
        path = export(checkpoint, tmp_path / "m.ts", flip=True, temperature=temperature)
        return metrics.nll(artifact.load(path)(images).numpy(), val.labels)

    values = json.loads((run_folder / "metrics.json").read_text())
    fitted = artifact.read_metadata(export(checkpoint, tmp_path / "m.ts", flip=True)).temperature
    assert fitted == values["val/temperature_flip"] != values["val/temperature"]
    assert nll(None) == pytest.approx(nll(fitted))
    # Not to the last digit: a share of each label is spread over all classes when it is fitted.
    assert nll(None) <= min(nll(values["val/temperature"]), nll(fitted * 1.1), nll(fitted / 1.1)) + 1e-5
    assert artifact.read_metadata(export(checkpoint, tmp_path / "m.ts")).temperature == values["val/temperature"]
    shutil.copytree(run_folder / "checkpoints", tmp_path / "old" / "checkpoints")
    (tmp_path / "old" / "metrics.json").write_text('{"val/temperature": 1.25}')
    older = export(tmp_path / "old" / "checkpoints" / "best.ckpt", tmp_path / "m.ts", flip=True)
    assert artifact.read_metadata(older).temperature == 1.25


def test_test_is_read_only_where_asked(classifier, splits, tmp_path, no_pictures):
    figures = report.judge(classifier, {name: splits[name] for name in ("train", "val")}, tmp_path, test=False)
    assert not [key for key in figures if key.startswith("test/")]


def test_a_picture_that_fails_does_not_cost_the_report(classifier, splits, tmp_path, monkeypatch, caplog, no_pictures):
    def fail(*_):
        raise ValueError("too many\nvalues")

    monkeypatch.setattr(gradcam, "draw", fail)
    assert "val/accuracy" in report.judge(classifier, splits, tmp_path, test=False)
    assert "no gradcam.png: too many values" in caplog.text


def test_file_names_in_another_encoding_are_written(splits):
    names = tuple(f"caf\udce9{k}.jpg" for k in range(21))
    split = Split(splits["val"].images, splits["val"].labels, splits["val"].classes, names=names)
    wrong = np.eye(7, dtype=np.float32)[(split.labels + 1) % 7]
    text = report.mistakes(Predictions(wrong, wrong, split.labels, 1.0), split)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["file"] for row in rows) == sorted(names)
