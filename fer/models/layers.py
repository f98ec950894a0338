"""What our own backbones share."""

from typing import Any

from torch import nn


def conv_norm(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias and batch norm: (N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


def he_init(network: nn.Module) -> None:
    """He et al. 2015, section 2.2, on every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def own_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what `timm.create_model` adds for its own models."""
    return {k: v for k, v in arguments.items() if not k.startswith("pretrained_cfg") and k != "cache_dir"}
