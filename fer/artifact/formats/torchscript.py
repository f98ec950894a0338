"""TorchScript: `model.ts`, which a plain `torch.jit.load` runs in any program.

TorchScript is deprecated upstream, so its FutureWarnings are silenced here and nowhere else.
"""

import io
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from fer.artifact.formats.base import Format, Predict, register
from fer.artifact.metadata import METADATA_FILE, Metadata
from fer.artifact.parity import PARITY, golden_batch
from fer.errors import ArtifactError

if TYPE_CHECKING:
    import torch
    from torch import nn


def save(model: "nn.Module", metadata: Metadata, path: Path) -> None:
    """Script a model. Backbones are traced first, since they may contain Python that cannot be scripted."""
    import torch  # takes a second

    from fer.artifact.network import InferenceModel

    buffer = io.BytesIO()  # TorchScript's own file writer ends the process when the disk is full
    with warnings.catch_warnings(action="ignore"):
        if isinstance(model, InferenceModel):
            example = torch.zeros(2, metadata.channels, metadata.input_size, metadata.input_size)
            traced = torch.jit.trace(model.backbone, example, check_trace=False)
            model = InferenceModel(traced, metadata).eval()
        torch.jit.save(torch.jit.script(model), buffer, _extra_files={METADATA_FILE: metadata.to_json()})
    path.write_bytes(_without_source_paths(buffer).getbuffer())


def _without_source_paths(file: io.BytesIO) -> io.BytesIO:
    """Return a TorchScript file without its debug records, which have the paths of all source files of its maker."""
    import torch

    file.seek(0)
    records, stripped = torch._C.PyTorchFileReader(file), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(stripped)
    for name in records.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            content = records.get_record(name)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()  # with the version and the byte order
    return stripped


def read_metadata(path: Path) -> Metadata:
    """Read the metadata from the file, a zip archive, without running its code."""
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}  # without the archive's own folder
        if f"extra/{METADATA_FILE}" not in names:
            raise ArtifactError("it is not an artifact, and none of its code was run")
        return Metadata.from_json(archive.read(names[f"extra/{METADATA_FILE}"]))


def read_module(path: Path, device: str) -> "torch.jit.ScriptModule":
    """Load a file, which must be trusted, as a module with float32 weights."""
    import torch

    with warnings.catch_warnings(action="ignore"):
        return torch.jit.load(str(path), map_location=device).eval().float()  # some older files hold float16


def load(path: Path, metadata: Metadata, device: str, raw: bool, threads: int | None) -> Predict:
    """Load and freeze a file and, on a CPU, optimize it: fold batch norms, choose a fast memory layout.

    It runs with the threads of PyTorch, which only a program may change, for the whole process.
    """
    import torch

    module = read_module(path, device)
    if raw:
        module.temperature, module.flip = 1.0, False
    with warnings.catch_warnings(action="ignore"):
        fastest = torch.jit.freeze(module)
        if device == "cpu":
            images = torch.from_numpy(golden_batch(metadata.channels, metadata.input_size, 2))
            with torch.inference_mode():
                expected = fastest(images)
                try:
                    optimized = torch.jit.optimize_for_inference(torch.jit.freeze(module))
                    if torch.allclose(optimized(images), expected, rtol=0, atol=PARITY):
                        fastest = optimized
                except RuntimeError:
                    pass  # some layers cannot be optimized and fail in their first run
    return lambda images: fastest(images.to(device))


register(Format("torchscript", ".ts", save, load, read_metadata))
