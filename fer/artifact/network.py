"""The network in an artifact: preprocessing, backbone and softmax."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.artifact.metadata import Metadata
from fer.artifact.parity import golden_batch


class InferenceModel(nn.Module):
    """A backbone with its preprocessing and calibration.

    `forward(images)` maps uint8 (N, 1 or 3, H, W), RGB if 3, any H and W, to float32 (N, K) probabilities. Grey is
    ITU-R BT.601 luma, as in OpenCV and Pillow. The logits are divided by a temperature (Guo et al. 2017, section 4.2).

    Args:
        backbone: float32 (N, C, S, S) → logits (N, K).
        metadata: Channels, input size, normalization, temperature and flip.
        any_shape: Accept 1 or 3 channels and N = 0, and check the input. Otherwise the module takes only (N, 3, H, W)
            and has no branches, as `torch.export` needs.
    """

    def __init__(self, backbone: nn.Module, metadata: Metadata, any_shape: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = metadata.channels
        self.input_size = metadata.input_size
        self.classes = len(metadata.classes)
        self.temperature = metadata.temperature
        self.flip = metadata.flip
        self.any_shape = any_shape
        self.mean = nn.Buffer(torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.std = nn.Buffer(torch.tensor(metadata.std).view(1, -1, 1, 1))
        self.luma = nn.Buffer(torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if self.any_shape:
            if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
                raise ValueError("expected uint8 images of shape (N, 1 or 3, H, W)")
            if images.shape[0] == 0:
                return torch.zeros(0, self.classes, device=images.device)
        x = images.float()
        if images.shape[1] == 3 and self.channels == 1:
            x = (x * self.luma).sum(dim=1, keepdim=True)
        if not self.any_shape or x.shape[2] != self.input_size or x.shape[3] != self.input_size:
            size = [self.input_size, self.input_size]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        if self.channels == 3:
            x = x.expand(-1, 3, -1, -1)
        x = (x / 255.0 - self.mean) / self.std
        probabilities = torch.softmax(self.backbone(x).float() / self.temperature, dim=1)
        if self.flip:
            mirrored = torch.softmax(self.backbone(x.flip(3)).float() / self.temperature, dim=1)
            probabilities = (probabilities + mirrored) / 2
        return probabilities


def exportable(backbone: Any, metadata: Metadata) -> tuple[nn.Module, tuple[Tensor], dict[str, Any]]:
    """Return the arguments of `torch.export` and `torch.onnx.export`: module, example input and dynamic shapes."""
    dim = torch.export.Dim
    shapes = {"images": {0: dim("n", min=1, max=4096), 2: dim("h", min=2), 3: dim("w", min=2)}}
    example = torch.from_numpy(golden_batch(3, metadata.input_size + 3, 2))
    return InferenceModel(backbone, metadata, any_shape=False).eval(), (example,), shapes
