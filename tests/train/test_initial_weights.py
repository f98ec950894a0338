"""Starting from the weights of a checkpoint or an artifact."""

import lightning as L
import pytest
import torch
from samples import SMALL, small_classifier

from fer import artifact
from fer.artifact.metadata import Metadata
from fer.errors import ArtifactError, ConfigError
from fer.labels import EMOTIONS
from fer.train import initial_weights


@pytest.fixture(scope="module", params=["checkpoint", "artifact"])
def source(request, tmp_path_factory):
    """Path of a trained model with another mean, as a checkpoint and as an artifact."""
    folder = tmp_path_factory.mktemp("source")
    model = small_classifier(1, mean=[0.6])
    if request.param == "artifact":
        config = {"model": SMALL}
        meta = Metadata(classes=("a", "b", "c"), channels=1, input_size=48, mean=(0.6,), std=(0.3,), config=config)
        return str(artifact.save(model.deployable(), meta, folder / "model.ts")), model
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "best.ckpt")
    return str(folder / "best.ckpt"), model


def test_a_run_starts_from_weights_statistics_and_head(source):
    path, theirs = source
    model = small_classifier(2)
    initial_weights.start_from(model, path)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, theirs.backbone.state_dict()[name]), name
    assert model.hparams["mean"] == pytest.approx([0.6])
    assert float(model.mean) == pytest.approx(0.6)


def test_known_classes_keep_their_part_of_the_head(source):
    path, theirs = source
    model, fresh = (small_classifier(2, classes=("C", "new", "a", "other")) for _ in range(2))
    initial_weights.start_from(model, path)
    for name in ("weight", "bias"):
        head, old, new = (getattr(m.backbone.head[-1], name) for m in (model, theirs, fresh))
        assert torch.equal(head, torch.stack([old[2], new[1], old[0], new[3]]))
    assert torch.equal(model.backbone.stem[0][0].weight, theirs.backbone.stem[0][0].weight)


def test_another_network_is_refused_with_what_to_set(source):
    path, _ = source
    before = small_classifier(2, model=SMALL | {"widths": [8, 24]})
    kept = {name: value.clone() for name, value in before.backbone.state_dict().items()}
    with pytest.raises(ConfigError, match=r"init_from=.* another network; set .*model\.widths=\[8,16\]"):
        initial_weights.start_from(before, path)
    assert all(torch.equal(value, before.backbone.state_dict()[name]) for name, value in kept.items())
    with pytest.raises(ConfigError, match=r"data\.channels=1"):
        initial_weights.start_from(small_classifier(2, channels=3, mean=[0.4] * 3, std=[0.3] * 3), path)


def test_the_bundled_model_is_known_by_name():
    model = small_classifier(0, classes=EMOTIONS, model={"name": "resnet_small"})
    initial_weights.start_from(model, "bundled")
    assert model.hparams["mean"] == pytest.approx(artifact.read_metadata(artifact.BUNDLED).mean)


def test_missing_start_is_named(tmp_path):
    for name in ("none.ckpt", "none.ts"):
        with pytest.raises(ArtifactError, match=name):
            initial_weights.start_from(small_classifier(), str(tmp_path / name))
