import dataclasses
import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from fer import artifact
from fer.artifact.export import from_checkpoint
from fer.artifact.metadata import Metadata
from fer.errors import ArtifactError, ConfigError
from fer.labels import EMOTIONS
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier
from fer.train import initial_weights, resume


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name in ("text.ckpt", "foreign.ckpt", "absent.ckpt"):
        with pytest.raises(ArtifactError, match=name) as caught:
            checkpoints.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (str(tmp_path / "pipe.ckpt"), "/dev/zero", str(tmp_path)):
        with pytest.raises(ArtifactError, match=r"not a checkpoint of train\.py \(it is no regular file\)"):
            checkpoints.load(path)


def test_a_continued_run_keeps_the_earlier_best(tmp_path):
    class Checkpoint:
        state_key, dirpath, best_model_path = "key", str(tmp_path), "of this run"
        best_model_score = torch.tensor(0.5)

    (tmp_path / "old.ckpt").write_bytes(b"earlier")
    for score, wanted in ((0.6, str(tmp_path / "best.ckpt")), (0.4, "of this run")):
        state = {"best_model_path": str(tmp_path / "old.ckpt"), "best_model_score": torch.tensor(score)}
        torch.save({"callbacks": {"key": state}}, tmp_path / "last.ckpt")
        assert resume.best_of(Checkpoint, str(tmp_path / "last.ckpt")) == wanted
    assert (tmp_path / "best.ckpt").read_bytes() == b"earlier"


SMALL = {"name": "resnet_small", "widths": [8, 16], "depths": [1, 1], "drop_rate": 0.0}


def classifier(seed: int = 0, classes: tuple[str, ...] = ("a", "b", "c"), **options: Any) -> EmotionClassifier:
    torch.manual_seed(seed)
    values = {"model": SMALL, "classes": classes, "channels": 1, "input_size": 48, "mean": [0.4], "std": [0.3]}
    return EmotionClassifier(**(values | options))


def saved(model: EmotionClassifier, path: Path) -> Path:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [("config", [1]), ("config", 3), ("config", {"export": [1]}), ("config", {"data": "x"}), ("classes", 3)],
)
def test_a_checkpoint_of_another_shape_is_one_line(key, value, tmp_path):
    path = saved(classifier(), tmp_path / "best.ckpt")
    state = torch.load(path, weights_only=True)
    state["hyper_parameters"][key] = value
    torch.save(state, path)
    for use in (
        checkpoints.load,
        from_checkpoint,
        lambda path: initial_weights.start_from(classifier(), path),
    ):
        with pytest.raises(ArtifactError, match=r"best\.ckpt is not a checkpoint") as caught:
            use(str(path))
        assert "\n" not in str(caught.value)


def test_an_artifact_with_fewer_classes_than_its_head_is_of_another_network(tmp_path):
    meta = Metadata(classes=("a", "b"), channels=1, input_size=48, mean=(0.4,), std=(0.3,), config={"model": SMALL})
    path = artifact.save(classifier(classes=("a", "b")).deployable(), meta, tmp_path / "m.ts")
    with pytest.MonkeyPatch.context() as patch:
        claimed = dataclasses.replace(meta, classes=("a", "b", "c"))
        patch.setattr(artifact, "read_metadata", lambda path: claimed)
        with pytest.raises(ConfigError, match="another network"):
            initial_weights.start_from(classifier(), str(path))


@pytest.fixture(scope="module", params=["checkpoint", "artifact"])
def source(request, tmp_path_factory):
    """Path of a trained model with another mean, as a checkpoint and as an artifact."""
    folder = tmp_path_factory.mktemp("source")
    model = classifier(1, mean=[0.6])
    if request.param == "artifact":
        config = {"model": SMALL}
        meta = Metadata(classes=("a", "b", "c"), channels=1, input_size=48, mean=(0.6,), std=(0.3,), config=config)
        return str(artifact.save(model.deployable(), meta, folder / "model.ts")), model
    return str(saved(model, folder / "best.ckpt")), model


def test_a_run_starts_from_weights_statistics_and_head(source):
    path, theirs = source
    model = classifier(2)
    initial_weights.start_from(model, path)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, theirs.backbone.state_dict()[name]), name
    assert model.hparams["mean"] == pytest.approx([0.6])
    assert float(model.mean) == pytest.approx(0.6)


def test_known_classes_keep_their_part_of_the_head(source):
    path, theirs = source
    model, fresh = classifier(2, ("c", "new", "a", "other")), classifier(2, ("c", "new", "a", "other"))
    initial_weights.start_from(model, path)
    for name in ("weight", "bias"):
        found, old, new = (getattr(m.backbone.head[-1], name) for m in (model, theirs, fresh))
        assert torch.equal(found, torch.stack([old[2], new[1], old[0], new[3]]))
    assert torch.equal(model.backbone.stem[0][0].weight, theirs.backbone.stem[0][0].weight)


def test_another_network_is_refused_with_what_to_set(source):
    path, _ = source
    before = classifier(2, model=SMALL | {"widths": [8, 24]})
    kept = {name: value.clone() for name, value in before.backbone.state_dict().items()}
    with pytest.raises(ConfigError, match=r"init_from=.* another network; set .*model\.widths=\[8, 16\]"):
        initial_weights.start_from(before, path)
    assert all(torch.equal(value, before.backbone.state_dict()[name]) for name, value in kept.items())
    with pytest.raises(ConfigError, match=r"data\.channels=1"):
        initial_weights.start_from(classifier(2, channels=3, mean=[0.4] * 3, std=[0.3] * 3), path)


def test_the_bundled_model_is_known_by_name():
    model = classifier(0, EMOTIONS, model={"name": "resnet_small"})
    initial_weights.start_from(model, "bundled")
    assert model.hparams["mean"] == pytest.approx(artifact.read_metadata(artifact.BUNDLED).mean)


def test_missing_start_is_named(tmp_path):
    for name in ("none.ckpt", "none.ts"):
        with pytest.raises(ArtifactError, match=name):
            initial_weights.start_from(classifier(), str(tmp_path / name))
