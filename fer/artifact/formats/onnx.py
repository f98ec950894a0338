"""ONNX: `model.onnx`, run by ONNX Runtime. It holds no code, so that a file from elsewhere needs no trust."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer.artifact.formats.base import Format, Predict, register
from fer.artifact.metadata import METADATA_FILE, Metadata
from fer.artifact.network import exportable
from fer.errors import ArtifactError, ConfigError


def save(backbone: nn.Module, metadata: Metadata, path: Path) -> None:
    """Export with any number of images and any height and width; the input is RGB, uint8 (N, 3, H, W)."""
    import onnx

    module, example, shapes = exportable(backbone, metadata)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"]}
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
    assert program is not None
    proto = program.model_proto  # a new one each time
    onnx.helper.set_model_props(proto, {METADATA_FILE: metadata.to_json()})
    path.write_bytes(proto.SerializeToString())


def gpu() -> bool:
    """Whether an ONNX Runtime that can use a CUDA GPU is installed."""
    return "CUDAExecutionProvider" in _runtime().get_available_providers()


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("an .onnx model needs ONNX Runtime: pip install onnxruntime") from None
    return onnxruntime


def _session(path: Path, device: torch.device) -> Any:
    """Open a file with as many threads as PyTorch has now."""
    runtime = _runtime()
    if device.type != "cpu" and not gpu():
        raise ConfigError(f"{path} on {device.type}: this ONNX Runtime has no CUDA; use device=cpu, or onnxruntime-gpu")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised, which is enough
    providers = ["CUDAExecutionProvider"] if device.type != "cpu" else []
    return runtime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])


def read_metadata(path: Path) -> Metadata:
    """Read the metadata from the model's properties."""
    text = _session(path, torch.device("cpu")).get_modelmeta().custom_metadata_map.get(METADATA_FILE)
    if text is None:
        raise ArtifactError("it is an ONNX model, but not one that fer made")
    return Metadata.from_json(text)


def load(path: Path, metadata: Metadata, device: torch.device, raw: bool) -> Predict:
    """Open a session. `raw` takes the temperature back out of the probabilities, which needs a file without flip."""
    if raw and metadata.flip:
        raise ArtifactError("the probabilities before flip averaging cannot be read from it; export it with flip=false")
    session = _session(path, device)
    temperature = metadata.temperature if raw else 1.0

    def predict(images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError("expected uint8 images of shape (N, 1 or 3, H, W)")
        if not len(images):
            return torch.zeros(0, len(metadata.classes))
        rgb = images.expand(-1, 3, -1, -1).contiguous().cpu().numpy()
        probabilities = torch.from_numpy(session.run(None, {"images": rgb})[0])
        if temperature == 1:
            return probabilities
        return torch.softmax(probabilities.clamp_min(1e-30).log() * temperature, 1)

    return predict


register(
    Format("onnx", ".onnx", save, load, read_metadata, runs_code=False, needs=("onnx", "onnxruntime", "onnxscript"))
)
