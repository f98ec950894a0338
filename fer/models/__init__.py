"""Backbones: any that timm knows by name, ours registered beside them, from one factory call.

Every file of this folder is imported, so that a new one needs no other edit to be known.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

import timm
import torch
from torch import nn

from fer.errors import ConfigError

for _file in pkgutil.iter_modules(__path__):
    if _file.name not in ("classifier", "checkpoints"):
        importlib.import_module(f"{__name__}.{_file.name}")


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
    except Exception as error:  # of timm, of the model's own code, or of the hub's client and its libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        if pretrained and not isinstance(error, TypeError):
            fix = "go online once, or set model.pretrained=false"
            raise ConfigError(f"no pretrained weights for {name} ({reason}); {fix}") from error
        raise ConfigError(f"model.name={name} does not take these arguments ({reason}); see conf/model") from error


def check_sizes(backbone: nn.Module, channels: int, sizes: Iterable[int]) -> None:
    """Raises `ConfigError` where a backbone cannot take square images of one of these sides, in pixels."""
    training = backbone.training
    backbone.eval()
    for size in sizes:
        try:
            with torch.no_grad():
                backbone(torch.zeros(2, channels, size, size, device=next(backbone.parameters()).device))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"this model cannot take images of {size} pixels ({reason[:120]}); "
                "try input_size=224, or +model.img_size=48 for a transformer, with progressive=[]"
            ) from error
    backbone.train(training)


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
