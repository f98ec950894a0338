"""The benchmark's own arithmetic and its repetition of a training, on drawn faces."""

import importlib.util

import pytest
from test_train import ROOT, tiny

from fer import artifact, experiment


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("fer2013_benchmark", ROOT / "benchmarks" / "fer2013.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metadata_is_enough_to_repeat_the_first_epoch(bench, tmp_path):
    tiny(tmp_path / "first", "trainer.max_epochs=3", "augment=strong", "mixup=0.2", "optimizer.lr=0.03")
    metadata = artifact.read_metadata(tmp_path / "first" / "model.ts")
    again = experiment.run(bench.recorded(metadata, str(tmp_path / "again")), watchers=[bench._OneEpoch()])
    assert again["val/loss_epoch_1"] == metadata.metrics["val/loss_epoch_1"]
    assert again["train/epochs"] == 1
    assert not [name for name in again if name.startswith("test/")]


def test_table_shows_every_figure_in_per_cent(bench):
    test = {"accuracy": 0.71, "error": 0.0076, "flip": 0.72, "no_twins": 0.7, "f1_macro": 0.69, "ece": 0.021}
    test |= {"recall/angry": 0.5, "recall/fear": 0.25}
    one = {"parameters": 1_400_000, "macs": 133e6, "ms": 1.94, "val": {"accuracy": 0.705}, "test": test}
    text = bench.markdown({"fast": one, "accurate": one}, ("angry", "fear"))
    row = "1.40 M | 133 | 1.9 | 70.50 | **71.00** ± 0.76 | 72.00 | 70.00 | 69.00 | 0.021 |"
    assert f"| `fast.ts` | {row}\n| `accurate.ts` | {row}\n" in text
    assert "| `fast.ts` | 50.0 | 25.0 |" in text
