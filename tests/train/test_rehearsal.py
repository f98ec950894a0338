"""Fine-tuning that keeps the answers of the start to other faces."""

import json

import lightning as L
import numpy as np
import pytest
import torch
from samples import fer_rows, small_classifier, tiny, write_csv

from fer.data.base import Split
from fer.errors import ConfigError
from fer.models import checkpoints
from fer.train import rehearsal

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def without_fer2013(tmp_path, monkeypatch):
    monkeypatch.setenv("FER2013_ROOT", str(tmp_path / "nothing"))


def own(size: int = 48, colour: bool = False, count: int = 12) -> Split:
    shape = (count, size, size, 3) if colour else (count, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Split(images, np.arange(count) % 3, CLASSES)


def test_without_fer2013_invented_faces_are_rehearsed():
    kept = rehearsal.prepare(small_classifier(), [0, 1, 2], own())
    assert len(kept.train) > 900
    assert len(kept.judged) > 100
    assert kept.train.images.std(axis=(1, 2)).min() > 5  # no tile is empty
    assert kept.train.targets.sum(1) == pytest.approx(1, abs=1e-5)


def test_fer2013_is_rehearsed_where_it_is(tmp_path, monkeypatch):
    rows = fer_rows()
    monkeypatch.setenv("FER2013_ROOT", str(write_csv(tmp_path / "fer2013.csv", rows).parent))
    kept = rehearsal.prepare(small_classifier(), [0, 1, 2], own())
    training = {image.tobytes() for _, image, usage in rows if usage == "Training"}
    assert {image.tobytes() for part in (kept.train, kept.judged) for image in part.images} == training
    assert not {i.tobytes() for i in kept.train.images} & {i.tobytes() for i in kept.judged.images}


def test_the_others_have_the_size_and_colour_of_the_new_images():
    model = small_classifier(channels=3, mean=[0.4] * 3, std=[0.3] * 3)
    kept = rehearsal.prepare(model, [0, 1, 2], own(size=32, colour=True))
    assert kept.train.images.shape[1:] == (32, 32, 3)


def test_classes_that_the_start_does_not_know_get_nothing():
    kept = rehearsal.prepare(small_classifier(), [0, 2], own())
    assert (kept.train.targets[:, 1] == 0).all()
    assert kept.train.targets.sum(1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="set keep=0"):
        rehearsal.prepare(small_classifier(), [1], own())


@pytest.fixture
def best(tmp_path):
    """A checkpoint of another model than the start."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(small_classifier(1))
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


@pytest.mark.parametrize("gains", [True, False])
def test_the_weights_stay_as_near_to_the_start_as_the_images_allow(best, gains):
    start, trained = small_classifier(0), checkpoints.load(str(best))
    kept = rehearsal.prepare(start, [0, 1, 2], own())
    with torch.inference_mode():
        logits = (trained if gains else start)(start.prepare(torch.from_numpy(own(count=300).images).unsqueeze(1)))
    val = Split(own(count=300).images, logits.argmax(1).numpy(), CLASSES)
    figures = rehearsal.mix_weights(best, kept, val, keep=0.05)
    assert figures["keep/share"] > 0.5 if gains else figures["keep/share"] == 0.5
    mixed = checkpoints.load(str(best)).backbone.state_dict()
    for name, value in trained.backbone.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(mixed[name], torch.lerp(kept.start[name], value, figures["keep/share"])), name
    content = best.read_bytes()
    assert rehearsal.mix_weights(best, kept, val, keep=0.05) == figures  # of a run that is continued
    assert best.read_bytes() == content


def test_a_run_rehearses_and_says_what_it_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "_MOST", 10)
    rows = fer_rows()
    monkeypatch.setenv("FER2013_ROOT", str(write_csv(tmp_path / "fer2013.csv", rows).parent))
    tiny(tmp_path / "start")
    new = [
        f"init_from={tmp_path}/start/checkpoints/best.ckpt",
        "keep=0.5",
        "data.steps=2",
        "layer_decay=0.8",
        "data.balanced=true",
    ]
    metrics = tiny(tmp_path / "run", *new)
    assert 0.5 <= metrics["keep/share"] <= 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["keep/agreement"] == metrics["keep/agreement"]
    trained = checkpoints.read(str(tmp_path / "run" / "checkpoints" / "last.ckpt"))
    assert trained["global_step"] == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["keep=0.5"], "init_from=bundled"),
        (["keep=1", "init_from=bundled"], "keep"),
        (["keep=0.5", "init_from=bundled", "target_distribution.use=auxiliary"], "mixed"),
        (["layer_decay=0"], "layer_decay"),
        (["freeze=perhaps"], "freeze"),
    ],
)
def test_bad_values_are_one_line(tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        tiny(tmp_path / "run", *override)
