"""Parts that our own backbones share."""

from typing import Any

from torch import nn


def conv_norm(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias and batch norm: (N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


def he_init(network: nn.Module) -> None:
    """Initialise every convolution as in He et al. 2015, section 2.2."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def own_arguments(pretrained: bool, arguments: dict[str, Any]) -> dict[str, Any]:
    """Drop the arguments that `timm.create_model` adds for its own models.

    Raises:
        ValueError: Pretrained weights are asked for; our backbones have none.
    """
    if pretrained:
        raise ValueError("there are none")
    return {k: v for k, v in arguments.items() if not k.startswith("pretrained_cfg") and k != "cache_dir"}
