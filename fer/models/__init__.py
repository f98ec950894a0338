"""Backbones: any that timm knows by name, ours registered beside them, from one factory call."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from fer.errors import ConfigError
from fer.models import resnet_small, vgg_small

__all__ = ["create", "resnet_small", "vgg_small"]


def create(name: str, classes: int, channels: int, pretrained: bool = False, **arguments: Any) -> nn.Module:
    """A backbone with its head: float32 (N, channels, S, S) → logits (N, classes).

    `arguments` go to the timm model as they are. Raises `ConfigError` for a name that timm does not know (the
    nearest are named), arguments that the model does not take, or pretrained weights that cannot be had.
    """
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name, known, 3) or [m for m in known if name.split("_")[0] in m][:3]
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models() for the names"
        raise ConfigError(f"model.name={name} is not a timm model; {hint}")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=classes, in_chans=channels, **arguments)
    except (TypeError, AssertionError) as error:
        raise ConfigError(f"model.name={name} does not take these arguments ({error}); see conf/model") from None
    except Exception as error:  # the hub's client raises errors of many libraries
        if not pretrained:
            raise
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"no pretrained weights for {name} ({reason}); go online once, or set model.pretrained=false"
        ) from None


def cost(backbone: nn.Module, channels: int, size: int) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of the convolutions and linear layers for one image of `size` pixels."""
    macs = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        places = output[0].numel() // output.shape[1] if isinstance(layer, nn.Conv2d) else output[0].numel()
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        macs += weight.numel() * places if isinstance(layer, nn.Conv2d) else weight.shape[1] * places

    hooks = [m.register_forward_hook(count) for m in backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    training = backbone.training
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, channels, size, size, device=next(backbone.parameters()).device))
    backbone.train(training)
    for hook in hooks:
        hook.remove()
    return sum(p.numel() for p in backbone.parameters()), macs
