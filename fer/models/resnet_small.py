"""A residual network for 48-pixel grey faces, narrow and short enough to train on a CPU."""

from collections.abc import Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from fer.models.layers import Backbone, conv_norm, own_arguments


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, fig. 2).

    Where the block halves the image, the shortcut is average-pooled (ResNet-D, He et al. 2019, fig. 2c).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride)
        self.second = conv_norm(outputs, outputs)
        self.act = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride != 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, conv_norm(inputs, outputs, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(x))) + self.shortcut(x))


class ResNetSmall(Backbone):
    """Float32 (N, in_chans, S, S) → logits (N, num_classes). Made for S = 48; works from 16 pixels up.

    The stem halves the image: at full resolution a layer costs a CPU four times as much and gains little on faces this
    small. Then come `depths[i]` blocks of `widths[i]` channels; the image is halved between stages.

    Args:
        num_classes: Number of logits.
        in_chans: 1 or 3.
        widths: Channels of each stage.
        depths: Blocks of each stage.
        drop_rate: Dropout before the head.
        deep_stem: One more convolution before the image is halved (the stem of ResNet-C, He et al. 2019, fig. 2b).
    """

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        widths: Sequence[int] = (48, 96, 176),
        depths: Sequence[int] = (2, 2, 2),
        drop_rate: float = 0.1,
        deep_stem: bool = True,
    ) -> None:
        super().__init__()
        if not deep_stem:
            self.stem = nn.Sequential(conv_norm(in_chans, widths[0], 2, kernel=5), nn.ReLU(inplace=True))
        else:
            half = widths[0] // 2
            self.stem = nn.Sequential(
                conv_norm(in_chans, half),
                nn.ReLU(inplace=True),
                conv_norm(half, widths[0], 2),
                nn.ReLU(inplace=True),
            )
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for number in range(depth):
                blocks.append(Block(inputs, width, stride=2 if stage and number == 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.make_head(widths[-1], num_classes, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


@register_model
def resnet_small(pretrained: bool = False, **arguments: Any) -> ResNetSmall:
    """Entry point for timm."""
    return ResNetSmall(**own_arguments(pretrained, arguments))
