"""The included artifacts are what their cards say."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from samples import ROOT, benchmark, golden_images

from fer import artifact
from fer.labels import EMOTIONS

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
    assert {path.suffix for path in WEIGHTS.iterdir() if path.is_file()} == {".ts", ".md"}
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir() if path.is_file()) < 50_000_000
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
    meta = artifact.read_metadata(WEIGHTS / f"{name}.ts")
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


@pytest.mark.shared
@included
def test_artifact_scores_on_public_test_as_it_says(name, real):
    val, loaded = real["val"], artifact.load(name)
    images = torch.from_numpy(val.images.copy())[:, None]
    predicted = torch.cat([loaded(part).argmax(1) for part in images.split(256)])
    accuracy = (predicted.numpy() == val.labels).mean()
    assert accuracy == pytest.approx(loaded.metadata.metrics["val/accuracy"], abs=1e-3)
