"""The benchmark's own arithmetic and its repetition of a training, on drawn faces."""

import importlib.util

import pytest
from samples import ROOT, tiny

from fer import artifact
from fer.data import synthetic
from fer.train import run as experiment


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("fer2013_benchmark", ROOT / "benchmarks" / "fer2013.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metadata_is_enough_to_repeat_the_first_epoch(bench, tmp_path):
    tiny(tmp_path / "first", "trainer.max_epochs=3", "augment=camera", "mixup=0.2", "optimizer.lr=0.03")
    metadata = artifact.read_metadata(tmp_path / "first" / "model.ts")
    again = experiment.run(bench.recorded(metadata, str(tmp_path / "again")), watchers=[bench._OneEpoch()])
    assert again["val/loss_epoch_1"] == metadata.metrics["val/loss_epoch_1"]
    assert again["train/epochs"] == 1
    assert not [name for name in again if name.startswith("test/")]


def test_table_shows_every_figure_in_per_cent(bench):
    test = {"accuracy": 0.71, "error": 0.0076, "flip": 0.72, "without_duplicates": 0.7, "f1_macro": 0.69, "ece": 0.021}
    test |= {"recall/angry": 0.5, "recall/fear": 0.25}
    val = {"accuracy": 0.705, "flip": 0.715}
    one = {"parameters": 1_400_000, "macs": 133e6, "ms": 1.94, "averages_flips": False, "val": val, "test": test}
    text = bench.markdown({"fast": one, "both": one | {"averages_flips": True}}, ("angry", "fear"))
    row = "| `{}.ts` | 1.40 M | 133 | 1.9 | {} | 70.00 | 69.00 | 0.021 |\n"
    first, second = "70.50 | **71.00** ± 0.76 | 72.00", "71.50 | 71.00 | **72.00** ± 0.76"
    assert row.format("fast", first) + row.format("both", second) in text
    assert "| `fast.ts` | 50.0 | 25.0 |" in text


def test_runs_are_released_with_cards_and_a_table(bench, tmp_path, monkeypatch, capsys):
    splits = synthetic.read(train=64, val=21, test=21)
    monkeypatch.setattr(bench, "data", lambda: splits)
    monkeypatch.setattr(bench, "WEIGHTS", tmp_path)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "THREADS", 1)
    monkeypatch.setattr(bench, "milliseconds", lambda call: 1.0)
    for page in ("README.md", "fast.md", "accurate.md", "ensemble.md"):
        (tmp_path / page).write_text(f"before\n{bench.BEGIN}old\n{bench.END}after\n")
    for seed, name in enumerate(("fast", "accurate")):
        tiny(tmp_path / "runs" / name, f"seed={seed}", "evaluate.test=false")
        bench.release(tmp_path / "runs" / name, name)
    bench.ensemble([tmp_path / "fast.ts", tmp_path / "accurate.ts"], [1.0, 1.2])
    bench.table()

    metadata = artifact.read_metadata(tmp_path / "fast.ts")
    assert {"val/accuracy", "test/accuracy", "test/accuracy_without_duplicates", "val/loss_epoch_1"} <= set(
        metadata.metrics
    )
    line = (
        f"| accuracy | {100 * metadata.metrics['val/accuracy']:.1f} | {100 * metadata.metrics['test/accuracy']:.1f} |"
    )
    card = (tmp_path / "fast.md").read_text()
    assert line in card and card.startswith("before\n") and card.endswith("after\n") and "old" not in card
    assert "the mean of 2 networks over 4 views of it" in (tmp_path / "ensemble.md").read_text()
    readme = (tmp_path / "README.md").read_text()
    assert all(f"| `{name}.ts` | 0.0" in readme for name in ("fast", "accurate", "ensemble"))
    judged = bench.judged(bench.released(), splits)["ensemble"]
    recorded = artifact.read_metadata(tmp_path / "ensemble.ts").metrics
    assert judged["test"]["accuracy"] == pytest.approx(recorded["test/accuracy"], abs=0.05)
    assert judged["test"]["ece"] == pytest.approx(recorded["test/ece"], abs=0.02)
