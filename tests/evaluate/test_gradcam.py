import numpy as np
import pytest
import torch
from torch import nn

from fer.data import synthetic
from fer.data.base import Split
from fer.errors import ConfigError
from fer.evaluate import gradcam
from fer.models.classifier import EmotionClassifier

DATA = {"classes": ["a", "b", "c"], "channels": 1, "mean": [0.5], "std": [0.2]}


def classifier(name: str = "resnet_small", size: int = 48, **arguments) -> EmotionClassifier:
    torch.manual_seed(0)
    return EmotionClassifier(model={"name": name, **arguments}, input_size=size, **DATA).eval()


def images(count: int = 3, size: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet_small", 48),
        ("vgg_small", 48),
        ("mobilenetv3_small_050", 64),
        ("vit_tiny_patch16_224", 224),
        ("swin_tiny_patch4_window7_224", 224),
    ],
)
def test_every_family_has_maps(name, size):
    model = classifier(name, size)
    heat, logits = gradcam.maps(model, images(2))
    assert (heat.shape, heat.dtype) == ((2, 48, 48), np.float32)
    assert 0 <= heat.min() <= heat.max() <= 1
    with torch.no_grad():
        wanted = model(model.prepare(torch.from_numpy(images(2))[:, None])).numpy()
    assert logits == pytest.approx(wanted, abs=1e-4)
    assert all(p.grad is None for p in model.parameters())


class Bright(nn.Module):
    """Predictions with class 1 where anything is bright, by one feature."""

    def forward_features(self, x):
        return nn.functional.avg_pool2d(x, 8).relu()

    def forward_head(self, features):
        seen = features.mean((1, 2, 3))
        return torch.stack([-seen, seen, -seen], 1)


def test_map_lies_where_the_reason_is(monkeypatch):
    model = classifier()
    monkeypatch.setattr(model, "backbone", Bright())
    lit = np.zeros((2, 48, 48), dtype=np.uint8)
    lit[0, 8:16, 24:32] = lit[1, 32:40, 0:8] = 255
    heat, logits = gradcam.maps(model, lit)
    assert logits.argmax(1).tolist() == [1, 1]
    rows = [np.unravel_index(h.argmax(), h.shape) for h in heat]
    assert 8 <= rows[0][0] < 16 and 24 <= rows[0][1] < 32
    assert 32 <= rows[1][0] < 40 and rows[1][1] < 8
    assert heat.max(axis=(1, 2)) == pytest.approx(1)


def test_fixed_set_is_fixed_and_has_every_class():
    split = synthetic.read(train=14, val=70, test=14)["val"]
    rows = gradcam.fixed_rows(split)
    assert split.labels[rows].tolist() == [k for k in range(7) for _ in range(gradcam.PER_CLASS)]
    assert np.array_equal(rows, gradcam.fixed_rows(split))
    few = Split(images(2), np.array([0, 2]), ("a", "b", "c"))
    assert few.labels[gradcam.fixed_rows(few)].tolist() == [0, 2]


@pytest.mark.parametrize("colour", [False, True])
def test_picture_is_drawn(colour, tmp_path):
    pixels = np.stack([images()] * 3, -1) if colour else images()
    torch.manual_seed(0)
    data = DATA | ({"channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3} if colour else {})
    model = EmotionClassifier(
        model={"name": "resnet_small", "widths": [8, 16], "depths": [1, 1]}, input_size=48, **data
    )
    gradcam.draw(model.eval(), Split(pixels, np.array([0, 1, 2]), ("a", "b", "c")), 1.5, tmp_path / "gradcam.png")
    assert (tmp_path / "gradcam.png").stat().st_size > 0


def test_backbone_without_a_map_is_one_line(monkeypatch):
    model = classifier()
    monkeypatch.setattr(model, "backbone", nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    with pytest.raises(ConfigError, match="has no forward_features"):
        gradcam.maps(model, images())
    with pytest.raises(ConfigError, match="which are no map"):
        gradcam._spatial(model.backbone, torch.zeros(2, 7, 3))
