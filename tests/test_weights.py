"""The included artifacts are what their cards say."""

import re
from pathlib import Path

import pytest
import torch

from fer import artifact
from fer.labels import EMOTIONS

WEIGHTS = Path(artifact.BUNDLED).parent
LIMITS = {"fast": 1_500_000, "accurate": 5_000_000, "ensemble": 15_000_000}
"""Most parameters of each."""

included = pytest.mark.parametrize("name", LIMITS)


def test_they_are_small_together():
    assert {path.stem for path in WEIGHTS.glob("*.ts")} == set(LIMITS)
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir() if path.is_file()) < 25_000_000
    assert artifact.BUNDLED.name == "fast.ts"
    assert artifact.BUNDLED.stat().st_size < 8_000_000


@included
def test_artifact_knows_itself(name):
    meta = artifact.read_metadata(WEIGHTS / f"{name}.ts")
    assert meta.classes == EMOTIONS
    assert (meta.channels, meta.input_size, meta.flip) == (1, 48, name == "ensemble")
    assert meta.parameters < LIMITS[name]
    assert meta.data["name"] == "fer2013"
    assert meta.metrics["test/accuracy"] >= 0.71
    assert re.fullmatch("[0-9a-f]{40}", meta.git_commit)
    assert meta.crop_margin == 0
    assert not [v for v in str(meta.config).split("'") if v.startswith("/")]


@included
def test_card_gives_the_figures_of_the_metadata(name):
    card = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    metrics = artifact.read_metadata(WEIGHTS / f"{name}.ts").metrics
    for split in ("val", "test"):
        for figure in ("accuracy", "accuracy_flip", "f1_macro", "ece", *(f"recall/{e}" for e in EMOTIONS)):
            assert f"{100 * metrics[f'{split}/{figure}']:.1f}" in card
    assert f"{100 * metrics['test/accuracy_without_duplicates']:.1f}" in card


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_artifact_scores_on_public_test_as_it_says(name, real):
    val, loaded = real["val"], artifact.load(WEIGHTS / f"{name}.ts")
    images = torch.from_numpy(val.images.copy())[:, None]
    predicted = torch.cat([loaded(part).argmax(1) for part in images.split(256)])
    accuracy = (predicted.numpy() == val.labels).mean()
    assert accuracy == pytest.approx(loaded.metadata.metrics["val/accuracy"], abs=1e-3)
