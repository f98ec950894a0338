"""The bundled artifact is what its card says."""

import re
from pathlib import Path

import pytest
import torch
from samples import SHARED

from fer import artifact
from fer.labels import EMOTIONS

WEIGHTS = Path(artifact.BUNDLED).parent


def test_bundled_artifact_is_small_and_knows_itself():
    assert artifact.BUNDLED.stat().st_size < 8_000_000
    meta = artifact.read_metadata(artifact.BUNDLED)
    assert meta.classes == EMOTIONS
    assert (meta.channels, meta.input_size, meta.flip) == (1, 48, False)
    assert meta.parameters < 1_500_000
    assert meta.data["name"] == "fer2013"
    assert meta.metrics["test/accuracy"] >= 0.67
    assert re.fullmatch("[0-9a-f]{40}", meta.git_commit)
    assert meta.crop_margin == 0
    assert not [v for v in str(meta.config).split("'") if v.startswith("/")]


def test_card_gives_the_figures_of_the_metadata():
    card = (WEIGHTS / "fast.md").read_text()
    metrics = artifact.read_metadata(artifact.BUNDLED).metrics
    for name in ("accuracy", "accuracy_flip", "accuracy_no_twins", "f1_macro"):
        assert f"{100 * metrics[f'test/{name}']:.1f}" in card
    for emotion in EMOTIONS:
        assert f"{100 * metrics[f'test/recall/{emotion}']:.1f}" in card


@pytest.mark.shared
def test_bundled_artifact_scores_on_public_test_as_it_says():
    from fer.data import fer2013

    val = fer2013.read(SHARED / "fer2013")["val"]
    loaded = artifact.load()
    answer = loaded(torch.from_numpy(val.images.copy())[:, None])
    accuracy = (answer.argmax(1).numpy() == val.labels).mean()
    assert accuracy == pytest.approx(loaded.metadata.metrics["val/accuracy"], abs=1e-3)
