import numpy as np
import pytest
import torch
from torch import nn

from fer.data.base import Split
from fer.errors import ConfigError
from fer.evaluate import gradcam
from fer.models.classifier import EmotionClassifier


def make(name: str, size: int = 48, channels: int = 1, **arguments) -> EmotionClassifier:
    torch.manual_seed(0)
    data = {"classes": ["a", "b", "c"], "channels": channels, "mean": [0.5] * channels, "std": [0.2] * channels}
    return EmotionClassifier(model={"name": name, **arguments}, input_size=size, **data).eval()


def images(count: int = 3, size: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet_small", 48),
        ("vgg_small", 48),
        ("mobilenetv3_small_050", 64),
        ("swin_tiny_patch4_window7_224", 224),
    ],
)
def test_every_convolutional_family_and_swin_have_maps(name, size):
    model = make(name, size)
    heat, logits = gradcam.maps(model, images(2))
    assert (heat.shape, heat.dtype) == ((2, 48, 48), np.float32)
    assert heat.min() >= 0
    assert heat.max(axis=(1, 2)) == pytest.approx(1)
    assert heat.std(axis=(1, 2)).min() > 0.01
    with torch.no_grad():
        wanted = model(model.prepare(torch.from_numpy(images(2))[:, None])).numpy()
    assert logits == pytest.approx(wanted, abs=1e-4)
    assert all(weight.grad is None for weight in model.parameters())


class Bright(nn.Module):
    """Predicts class 1 where anything is bright, by one feature."""

    def forward_features(self, x):
        return nn.functional.avg_pool2d(x, 8).relu()

    def forward_head(self, features):
        brightness = features.mean((1, 2, 3))
        return torch.stack([-brightness, brightness, -brightness], 1)


def test_the_map_is_hot_where_the_reason_is(monkeypatch):
    model = make("resnet_small")
    monkeypatch.setitem(model._modules, "backbone", Bright())
    lit = np.zeros((2, 48, 48), dtype=np.uint8)
    lit[0, 8:16, 24:32] = lit[1, 32:40, 0:8] = 255
    heat, logits = gradcam.maps(model, lit)
    assert logits.argmax(1).tolist() == [1, 1]
    rows = [np.unravel_index(values.argmax(), values.shape) for values in heat]
    assert 8 <= rows[0][0] < 16 and 24 <= rows[0][1] < 32
    assert 32 <= rows[1][0] < 40 and rows[1][1] < 8
    assert heat.max(axis=(1, 2)) == pytest.approx(1)


class Tokens(nn.Module):
    """A transformer: its features are tokens, not a map."""

    def forward_features(self, x):
        return nn.functional.avg_pool2d(x, 8).flatten(2).transpose(1, 2)

    def forward_head(self, tokens):
        return tokens[:, 0].expand(-1, 3)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "Sequential has no forward_features"),
        (Tokens(), r"Tokens has features of shape \(36, 1\)"),
    ],
)
def test_a_backbone_without_a_map_is_one_line(backbone, words, monkeypatch):
    model = make("resnet_small")
    monkeypatch.setitem(model._modules, "backbone", backbone)
    with pytest.raises(ConfigError, match=words):
        gradcam.maps(model, images())


def test_the_fixed_images_are_fixed_and_of_every_class(splits):
    split = splits["val"]
    rows = gradcam.fixed_rows(split)
    assert split.labels[rows].tolist() == [k for k in range(7) for _ in range(gradcam.PER_CLASS)]
    assert np.array_equal(rows, gradcam.fixed_rows(split))
    few = Split(images(2), np.array([0, 2]), ("a", "b", "c"))
    assert few.labels[gradcam.fixed_rows(few)].tolist() == [0, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_is_drawn(channels, tmp_path):
    pixels = images() if channels == 1 else np.stack([images()] * 3, -1)
    model = make("resnet_small", channels=channels, widths=[8, 16], depths=[1, 1])
    gradcam.draw(model, Split(pixels, np.array([0, 1, 2]), ("a", "b", "c")), 1.5, tmp_path / "gradcam.png")
    assert (tmp_path / "gradcam.png").stat().st_size > 1000
