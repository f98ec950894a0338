import dataclasses

import pytest
import torch
from torch.nn import functional as F

from fer import artifact
from fer.artifact import golden_batch
from fer.artifact.ensemble import check_compatible, save_ensemble
from fer.errors import ArtifactError, ConfigError


def test_an_ensemble_is_the_mean_of_its_members_at_a_temperature_of_its_own(pair, tmp_path):
    images = golden_batch(3, 40)
    mean = sum(artifact.load(path)(images) for path in pair) / 2
    ensemble = artifact.load(save_ensemble(pair, tmp_path / "e.ts", temperature=0.8, metrics={"a": 1.0}))
    assert torch.allclose(ensemble(images), torch.softmax(mean.log() / 0.8, 1), atol=1e-5)
    assert ensemble.metadata.metrics == {"a": 1.0}
    assert len(ensemble.metadata.config["members"]) == 2


def test_flip_averages_after_the_temperature(pair, tmp_path):
    plain = artifact.load(save_ensemble(pair, tmp_path / "plain.ts", temperature=0.8))
    path = save_ensemble(pair, tmp_path / "both.ts", temperature=0.8, flip=True)
    both, images = artifact.load(path), golden_batch(1, 24)
    assert both.metadata.flip
    assert torch.allclose(both(images), (plain(images) + plain(images.flip(3))) / 2, atol=1e-6)
    assert not torch.allclose(both(images), plain(images), atol=1e-3)
    mean = sum(artifact.load(member)(images) for member in pair) / 2
    assert torch.allclose(artifact.load(path, raw=True)(images), mean, atol=1e-6)


def test_scales_average_over_cropped_and_padded_images(pair, tmp_path):
    plain = artifact.load(save_ensemble(pair, tmp_path / "plain.ts"))
    scales = (1.0, 2.0, 0.75)
    scaled = artifact.load(save_ensemble(pair, tmp_path / "s.ts", temperature=0.8, scales=scales))
    images = golden_batch(3, 60)[:, :, :, :36]
    cropped, padded = images[:, :, 15:-15, 9:-9], F.pad(images.float(), (6, 6, 10, 10), mode="replicate").byte()
    mean = torch.stack([plain(view) for view in (images, cropped, padded)]).mean(0)
    assert scaled.metadata.config["scales"] == list(scales)
    assert torch.allclose(scaled(images), torch.softmax(mean.log() / 0.8, 1), atol=3e-4)  # views are rounded
    assert torch.allclose(scaled(images)[:1], scaled(images[:1]), atol=1e-6)
    assert scaled(images[:0]).shape == (0, 3)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,), (float("nan"),), (5.0,)])
def test_scales_out_of_range_are_refused(scales, pair, tmp_path):
    with pytest.raises(ConfigError, match="scales="):
        save_ensemble(pair, tmp_path / "e.ts", scales=scales)
    assert not list(tmp_path.iterdir())


def test_members_must_agree(pair, meta, onnx_model):
    for name, value in (("classes", ("x", "y", "z")), ("crop_margin", 0.2)):
        other = dataclasses.replace(meta, **{name: value})
        with pytest.raises(ArtifactError, match=f"has {name}"):
            check_compatible([(pair[0], meta), (pair[1], other)])
    with pytest.raises(ArtifactError, match=r"give the \.ts or the checkpoint"):
        check_compatible([(pair[0], meta), (onnx_model, meta)])


def test_an_ensemble_has_no_weights_to_start_from(pair, tmp_path):
    with pytest.raises(ArtifactError, match="give one of its members"):
        artifact.backbone_weights(save_ensemble(pair, tmp_path / "two.ts"))
