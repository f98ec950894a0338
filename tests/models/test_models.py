import pytest
import timm
import torch

from fer import models
from fer.errors import ConfigError


@pytest.mark.parametrize(("name", "limit"), [("resnet_small", 1_500_000), ("vgg_small", 5_000_000)])
@pytest.mark.parametrize("channels", [1, 3])
def test_ours_are_small_and_known_to_timm(name, limit, channels):
    assert timm.is_model(name)
    network = models.create(name, classes=7, channels=channels).eval()
    assert sum(p.numel() for p in network.parameters()) < limit
    for side in (48, 32, 16):
        assert network(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_width_and_depth_are_arguments():
    small = models.create("resnet_small", classes=3, channels=1, widths=[8, 16], depths=[1, 1])
    assert models.cost(small, 1, 48)[0] < 10_000


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "resnet18"])
def test_timm_families_take_grey_48_pixel_faces(name):
    network = models.create(name, classes=7, channels=1).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet_smal", 524])
def test_an_unknown_name_suggests_what_to_do(name):
    with pytest.raises(ConfigError, match=f"model.name={name} is not .*(resnet_small|list_models)"):
        models.create(name, classes=7, channels=1)


@pytest.mark.parametrize(
    "argument", ["breadth", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "scriptable"]
)
@pytest.mark.parametrize("name", ["resnet_small", "resnet18"])
def test_an_argument_that_the_network_does_not_have_never_reaches_timm(name, argument, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ConfigError, match=rf"model\.{argument} is not an argument of {name}"):
        models.create(name, classes=7, channels=1, **{argument: "x"})


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"no route to host.*model\.pretrained=false"):
        models.create("resnet18", classes=7, channels=1, pretrained=True)


def test_pretrained_weights_are_fitted_to_grey_images(monkeypatch, tmp_path):
    """timm itself, with a file in place of the hub: three-channel weights end up in a one-channel network."""
    source = timm.create_model("resnet18", num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, create=timm.create_model, **options: create(
            name, pretrained_cfg_overlay={"file": str(tmp_path / "resnet18.pth")}, **options
        ),
    )
    network = models.create("resnet18", classes=7, channels=1, pretrained=True)
    assert torch.allclose(network.conv1.weight, source.conv1.weight.sum(1, keepdim=True), atol=1e-5)


def test_cost_is_as_counted_by_hand():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1, bias=False), torch.nn.Flatten(), torch.nn.Linear(4 * 64, 2)
    )
    assert models.cost(network, 1, 8) == (36 + 514, 36 * 64 + 512)


def test_a_size_that_the_network_cannot_take_is_one_line():
    network = models.create("vit_tiny_patch16_224", classes=7, channels=1)
    with pytest.raises(ConfigError, match=r"images of 48 pixels.*input_size=224"):
        models.check_sizes(network, 1, {48})
