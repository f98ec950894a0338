"""The included artifacts are what their cards say."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fer import artifact
from fer.artifact import trust
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


def test_ensemble_is_the_mean_of_three_networks_over_three_sizes_and_their_mirror_images():
    ensemble = artifact.load(WEIGHTS / "ensemble.ts")
    images = artifact.golden_batch(1, 48, 8)
    paths = (WEIGHTS / "fast.ts", WEIGHTS / "accurate.ts", WEIGHTS.parents[1] / "teachers" / "third.ts")
    trust.accept(map(str, paths))
    members = [artifact.load(path) for path in paths]

    def mean(images: torch.Tensor) -> torch.Tensor:
        cut, padded = images[:, :, 2:-2, 2:-2].float(), F.pad(images.float(), (2, 2, 2, 2), mode="replicate")
        resized = [F.interpolate(view, size=(48, 48), mode="bilinear", antialias=True) for view in (cut, padded)]
        views = (images, *(view.round().byte() for view in resized))
        logits = torch.stack([member(view) for member in members for view in views]).mean(0).log()
        return torch.softmax(logits / ensemble.metadata.temperature, 1)

    assert torch.allclose(ensemble(images), (mean(images) + mean(images.flip(3))) / 2, atol=1e-3)
    assert ensemble.metadata.metrics["val/accuracy_flip"] > 0.72


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_artifact_scores_on_public_test_as_it_says(name, real):
    val, loaded = real["val"], artifact.load(WEIGHTS / f"{name}.ts")
    images = torch.from_numpy(val.images.copy())[:, None]
    predicted = torch.cat([loaded(part).argmax(1) for part in images.split(256)])
    accuracy = (predicted.numpy() == val.labels).mean()
    assert accuracy == pytest.approx(loaded.metadata.metrics["val/accuracy"], abs=1e-3)
