"""A VGG-style network for 48-pixel grey faces: plain 3×3 convolutions, after Simonyan & Zisserman 2015."""

from collections.abc import Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from fer.models.layers import Backbone, conv_norm, own_arguments


class VGGSmall(Backbone):
    """Float32 (N, in_chans, S, S) → logits (N, num_classes). Works from 16 pixels up.

    Stages of `depths[i]` convolutions with batch norm, max pooling between stages, and global average pooling instead
    of VGG's fully connected layers (Lin et al. 2014, section 3.2).

    Args:
        num_classes: Number of logits.
        in_chans: 1 or 3.
        widths: Channels of each stage.
        depths: Convolutions of each stage.
        drop_rate: Dropout before the head.
    """

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        widths: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 3, 2),
        drop_rate: float = 0.3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_chans
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += [conv_norm(inputs, width), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.make_head(widths[-1], num_classes, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)


@register_model
def vgg_small(pretrained: bool = False, **arguments: Any) -> VGGSmall:
    """Entry point for timm."""
    return VGGSmall(**own_arguments(pretrained, arguments))
