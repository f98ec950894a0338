"""The included artifacts are what their cards say."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import ROOT, benchmark, golden_images

from fer import artifact
from fer.labels import EMOTIONS
from fer.train import quantize

WEIGHTS = Path(artifact.BUNDLED).parent
LIMITS = {"fast": 1_500_000, "accurate": 5_000_000, "fer2013": 5_000_000}
"""Most parameters of each."""
INCLUDED = sorted(path.stem for path in WEIGHTS.glob("*.ts"))
RELEASED = [name for name in INCLUDED if "press/accuracy" in artifact.read_metadata(name).metrics]
"""Those that benchmarks/models.py has written."""

included = pytest.mark.parametrize("name", INCLUDED)


@pytest.fixture(scope="module")
def bench():
    with benchmark("models") as module:
        yield module


def test_they_are_small_together():
    assert set(INCLUDED) == set(LIMITS)
    assert {path.suffix for path in WEIGHTS.iterdir() if path.is_file()} == {".ts", ".onnx", ".md", ".png"}
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir() if path.is_file()) < 75_000_000
    assert artifact.BUNDLED.name == "fast.ts"
    assert artifact.BUNDLED.stat().st_size < 8_000_000


@included
def test_artifact_knows_itself(name):
    meta = artifact.read_metadata(WEIGHTS / f"{name}.ts")
    assert meta.classes == EMOTIONS
    assert (meta.channels, meta.input_size, meta.flip, meta.crop_margin) == (1, 48, False, 0)
    assert meta.parameters < LIMITS[name]
    assert meta.data["name"] == "fer2013"
    assert {"val/accuracy", "test/accuracy"} <= meta.metrics.keys()
    assert re.fullmatch("[0-9a-f]{40}", meta.git_commit)
    assert not [v for v in str(meta.config).split("'") if v.startswith("/")]


@included
def test_card_and_tables_are_those_of_the_metadata(name, bench):
    meta = bench.released()[name]
    card = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    assert bench.BEGIN + bench.card(meta) + bench.END in card
    assert "Art. 5(1)(f)" in card
    for page in bench.PAGES:
        assert bench.row_of(name, meta) in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RELEASED)
def test_any_program_can_run_the_file(name):
    with warnings.catch_warnings(action="ignore"):
        network = torch.jit.load(WEIGHTS / f"{name}.ts")
    assert {value.dtype for value in network.state_dict().values() if value.is_floating_point()} == {torch.float32}
    images = golden_images(1, 48)
    assert torch.allclose(network(images), artifact.load(name)(images), atol=1e-5)


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_onnx_says_the_same_in_float32_and_about_the_same_in_int8(name):
    own, onnx, int8 = (artifact.load(WEIGHTS / f"{name}{suffix}") for suffix in (".ts", ".onnx", ".int8.onnx"))
    assert onnx.metadata == own.metadata
    assert int8.metadata == replace(own.metadata, precision="int8", metrics=int8.metadata.metrics)
    for channels, size in ((1, 48), (3, 48), (3, 131)):
        images = artifact.golden_batch(channels, size)
        assert np.abs(onnx(images) - own(images)).max() < 1e-5
        assert 1e-5 < np.abs(int8(images) - own(images)).max() < 0.1


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_int8_has_passed_its_gate(name):
    m = artifact.read_metadata(WEIGHTS / f"{name}.int8.onnx").metrics
    own = artifact.read_metadata(name).metrics
    assert own.items() <= m.items()
    assert m["int8/agreement"] >= quantize.AGREEMENT
    for split in ("val", "val_votes", "press", "jaffe"):
        assert m[f"int8/{split}/accuracy"] >= m[f"int8/{split}/accuracy_float32"] - quantize.LOSS
        assert m[f"int8/{split}/accuracy_float32"] == pytest.approx(own[f"{split}/accuracy"], abs=1e-6)
    assert (WEIGHTS / f"{name}.int8.onnx").stat().st_size < (WEIGHTS / f"{name}.onnx").stat().st_size / 3


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.onnx")), ids=lambda path: path.name)
def test_no_onnx_file_names_a_source_file(path):
    content = path.read_bytes()
    assert b"stack_trace" not in content and b"/site-packages/" not in content


@pytest.mark.shared
@included
def test_artifact_scores_on_public_test_as_it_says(name, real):
    val, loaded = real["val"], artifact.load(name)
    images = torch.from_numpy(val.images.copy())[:, None]
    predicted = torch.cat([loaded(part).argmax(1) for part in images.split(256)])
    accuracy = (predicted.numpy() == val.labels).mean()
    assert accuracy == pytest.approx(loaded.metadata.metrics["val/accuracy"], abs=1e-3)
