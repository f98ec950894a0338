import dataclasses

import pytest
import torch
from samples import golden_images

from fer import artifact
from fer.artifact.ensemble import check_compatible, save_ensemble
from fer.errors import ArtifactError


def test_an_ensemble_is_the_mean_of_its_members_at_a_temperature_of_its_own(pair, tmp_path):
    images = golden_images(3, 40)
    mean = sum(artifact.load(path)(images) for path in pair) / 2
    ensemble = artifact.load(save_ensemble(pair, tmp_path / "e.ts", temperature=0.8, metrics={"a": 1.0}))
    assert torch.allclose(ensemble(images), torch.softmax(mean.log() / 0.8, 1), atol=1e-5)
    assert ensemble.metadata.metrics == {"a": 1.0}
    assert len(ensemble.metadata.config["members"]) == 2


def test_an_ensemble_gives_its_mean_without_the_temperature_for_evaluation(pair, tmp_path):
    path, images = save_ensemble(pair, tmp_path / "e.ts", temperature=0.8), golden_images(1, 24)
    mean = sum(artifact.load(member)(images) for member in pair) / 2
    assert torch.allclose(artifact.load(path, raw=True)(images), mean, atol=1e-6)
    assert artifact.load(path)(images[:0]).shape == (0, 3)


def test_members_must_agree(pair, meta, onnx_model):
    for name, value in (("classes", ("x", "y", "z")), ("crop_margin", 0.2)):
        other = dataclasses.replace(meta, **{name: value})
        with pytest.raises(ArtifactError, match=f"has {name}"):
            check_compatible([(pair[0], meta), (pair[1], other)])
    with pytest.raises(ArtifactError, match=r"give the \.ts or the checkpoint"):
        check_compatible([(pair[0], meta), (onnx_model, meta)])


def test_an_ensemble_has_no_prior_of_one_of_its_members(pair, tmp_path):
    paths = []
    for k, path in enumerate(pair):
        own = dataclasses.replace(artifact.read_metadata(path), prior=0.5 + k, logit_bias=(0.1, 0.2, 0.3))
        paths.append(artifact.write(artifact.torchscript_module(path), own, tmp_path / f"{k}.ts"))
    made = artifact.read_metadata(save_ensemble(paths, tmp_path / "two.ts"))
    assert (made.prior, made.logit_bias) == (0.0, ())


def test_an_ensemble_has_no_weights_to_start_from(pair, tmp_path):
    with pytest.raises(ArtifactError, match="give one of its members"):
        artifact.backbone_weights(save_ensemble(pair, tmp_path / "two.ts"))
