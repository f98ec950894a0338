"""Backbones: all timm models, and our own, which are registered with timm.

All files of this folder are imported, so a new backbone is one new file.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fer.errors import ConfigError

for _file in pkgutil.iter_modules(__path__):
    if _file.name not in ("classifier", "checkpoints"):
        importlib.import_module(f"{__name__}.{_file.name}")


def create(name: str, classes: int, channels: int, pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Create a backbone with its head.

    Args:
        name: A timm model, ours included.
        classes: Number of logits K.
        channels: 1 for grey, 3 for RGB.
        pretrained: Download timm's weights; three-channel ones are summed for grey images.
        arguments: Further arguments of the network, such as `drop_rate`. Those of timm itself, such as
            `checkpoint_path`, are refused, since the arguments may come from somebody else's checkpoint.

    Returns:
        A module: float32 (N, channels, S, S) → logits (N, K).

    Raises:
        ConfigError: The name or an argument is unknown, or the pretrained weights cannot be downloaded.
    """
    if not isinstance(name, str) or not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(str(name), known, 3) or [m for m in known if str(name).split("_")[0] in m][:3]
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models() for the names"
        raise ConfigError(f"model.name={name} is not a timm model; {hint}")
    if unknown := sorted(arguments.keys() - _arguments(name)):
        raise ConfigError(f"model.{unknown[0]} is not an argument of {name}; see conf/model")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=classes, in_chans=channels, **arguments)
    except Exception as error:  # raised by timm, by the network, or by the libraries that download weights
        reason = " ".join(str(error).split()) or type(error).__name__
        if pretrained and not isinstance(error, TypeError):
            fix = "go online once, or set model.pretrained=false"
            raise ConfigError(f"no pretrained weights for {name} ({reason}); {fix}") from error
        raise ConfigError(f"model.name={name} does not take these arguments ({reason}); see conf/model") from error


def _arguments(name: str) -> set[str]:
    """Return the names of all arguments of the networks in the model's file."""
    file = sys.modules[timm.models.model_entrypoint(name).__module__]
    networks = [value for value in vars(file).values() if isinstance(value, type) and issubclass(value, nn.Module)]
    return {argument for network in networks for argument in inspect.signature(network).parameters}


def check_sizes(backbone: nn.Module, channels: int, sizes: Iterable[int]) -> None:
    """Raise `ConfigError` if the backbone cannot take square images with one of these sides, in pixels."""
    for size in sizes:
        try:
            _forward(backbone, 2, channels, size)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"this model cannot take images of {size} pixels ({reason[:120]}); "
                "try input_size=224, or +model.img_size=48 for a transformer, with progressive=[]"
            ) from error


def cost(backbone: nn.Module, channels: int, size: int) -> tuple[int, int]:
    """Return the number of parameters, and of multiply-accumulates for one image of `size` × `size` pixels."""
    with FlopCounterMode(display=False) as counter:
        _forward(backbone, 1, channels, size)
    return sum(p.numel() for p in backbone.parameters()), counter.get_total_flops() // 2


def _forward(backbone: nn.Module, count: int, channels: int, size: int) -> None:
    training = backbone.training
    images = torch.zeros(count, channels, size, size, device=next(backbone.parameters()).device)
    with torch.no_grad():
        backbone.eval()(images)
    backbone.train(training)
