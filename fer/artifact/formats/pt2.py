"""`torch.export`: `model.pt2`, for other programs. Its input is RGB, uint8 (N, 3, H, W)."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fer.artifact.formats.base import Format, Predict, register
from fer.artifact.metadata import METADATA_FILE, Metadata

if TYPE_CHECKING:
    from fer.artifact.network import InferenceModel


def save(model: "InferenceModel", metadata: Metadata, path: Path) -> None:
    """Export with any number of images and any height and width."""
    import torch  # takes a second

    from fer.artifact.network import exportable

    module, example, shapes = exportable(model.backbone, metadata)
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        torch.export.save(program, buffer, extra_files={METADATA_FILE: metadata.to_json()})
    path.write_bytes(buffer.getbuffer())


def load(path: Path, metadata: Metadata, device: str, raw: bool, threads: int | None) -> Predict:
    """Load a file that was just written, to compare it with the model."""
    import torch

    with warnings.catch_warnings(action="ignore"):
        module = torch.export.load(str(path)).module()
    return lambda images: module(images.expand(-1, 3, -1, -1).contiguous())


register(Format("pt2", ".pt2", save, load))
