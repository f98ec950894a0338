"""Parts that our own backbones share."""

from typing import Any

from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias and batch norm: (N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Backbone(nn.Module):
    """A network with global average pooling and a linear head: float32 (N, C, S, S) → logits (N, K).

    Subclasses create their layers, then call `make_head`, and implement `forward_features`.
    """

    def make_head(self, features: int, num_classes: int, drop_rate: float) -> None:
        """Add the head and initialise every convolution as in He et al. 2015, section 2.2."""
        self.num_classes, self.num_features = num_classes, features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(drop_rate), nn.Linear(features, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return which parameters belong to which depth, for timm: each block is one, the head the last."""
        return {"stem": r"^stem", "blocks": r"^(?:blocks|features)\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, (N, features, h, w)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Return the logits (N, K) of a feature map."""
        return self.head(self.pool(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def own_arguments(pretrained: bool, arguments: dict[str, Any]) -> dict[str, Any]:
    """Drop the arguments that `timm.create_model` adds for its own models.

    Raises:
        ValueError: Pretrained weights are asked for; our backbones have none.
    """
    if pretrained:
        raise ValueError("there are none")
    return {k: v for k, v in arguments.items() if not k.startswith("pretrained_cfg") and k != "cache_dir"}
