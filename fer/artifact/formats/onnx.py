"""ONNX: `model.onnx`, run by ONNX Runtime. It contains no code, so files from elsewhere need not be trusted."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer.artifact.formats.base import Format, Predict, register
from fer.artifact.metadata import METADATA_FILE, Metadata
from fer.artifact.network import InferenceModel, exportable
from fer.errors import ArtifactError, ConfigError


def save(model: InferenceModel, metadata: Metadata, path: Path) -> None:
    """Export with any number of images and any height and width; the input is RGB, uint8 (N, 3, H, W)."""
    import onnx

    module, example, shapes = exportable(model.backbone, metadata)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"]}
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
    assert program is not None
    proto = program.model_proto  # a new one each time
    onnx.helper.set_model_props(proto, {METADATA_FILE: metadata.to_json()})
    path.write_bytes(proto.SerializeToString())


def gpu() -> bool:
    """Whether the installed ONNX Runtime supports CUDA."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _session(path: Path, device: torch.device) -> Any:
    """Open a file with as many threads as PyTorch uses."""
    import onnxruntime

    if device.type != "cpu" and not gpu():
        raise ConfigError(f"{path} on {device.type}: this ONNX Runtime has no CUDA; use device=cpu, or onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised anyway
    gpus = [("CUDAExecutionProvider", {"device_id": device.index or 0})] if device.type == "cuda" else []
    providers = [*gpus, "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def read_metadata(path: Path) -> Metadata:
    """Read the metadata from the model's properties."""
    text = _session(path, torch.device("cpu")).get_modelmeta().custom_metadata_map.get(METADATA_FILE)
    if text is None:
        raise ArtifactError("it is not an artifact")
    return Metadata.from_json(text)


def load(path: Path, metadata: Metadata, device: torch.device, raw: bool) -> Predict:
    """Open a session. `raw` undoes the temperature, which is impossible with flip averaging."""
    if raw and metadata.flip:
        raise ArtifactError("evaluation cannot undo its flip averaging; export with flip=false")
    session = _session(path, device)

    def predict(images: Tensor) -> Tensor:
        rgb = images.expand(-1, 3, -1, -1).contiguous().cpu().numpy()
        probabilities = torch.from_numpy(session.run(None, {"images": rgb})[0])
        return torch.softmax(probabilities.clamp_min(1e-30).log() * metadata.temperature, 1) if raw else probabilities

    return predict


_NEEDS = ("onnx", "onnxruntime", "onnxscript")
register(Format("onnx", ".onnx", save, load, read_metadata, runs_code=False, needs=_NEEDS))
