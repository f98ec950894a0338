"""An artifact in ONNX, run by ONNX Runtime instead of PyTorch: no code in it is run before or while it answers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer.artifact.metadata import Metadata
from fer.errors import ArtifactError, ConfigError

METADATA_KEY = "metadata.json"
_EXTRA = "pip install -e '.[export]'"


def gpu() -> bool:
    """Whether an ONNX Runtime that can use a CUDA GPU is installed."""
    return "CUDAExecutionProvider" in _runtime().get_available_providers()


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"an .onnx model needs ONNX Runtime: {_EXTRA}") from None
    return onnxruntime


def open_session(path: Path, device: torch.device) -> tuple[Any, Metadata]:
    """The session of an .onnx artifact, with as many threads as PyTorch has now, and what the file says of itself.

    Raises `ConfigError` without ONNX Runtime, or without its GPU half for a GPU, `ArtifactError` for another file.
    """
    runtime = _runtime()
    if device.type != "cpu" and not gpu():
        raise ConfigError(f"{path} on {device.type}: this ONNX Runtime has no CUDA; use device=cpu, or onnxruntime-gpu")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is said once, below
    providers = ["CPUExecutionProvider"] if device.type == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except Exception as error:  # one of a dozen classes of onnxruntime's own, none of them public
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArtifactError(f"{path} is not a whole ONNX model ({first}); make one with export.format=onnx") from None
    if text is None:
        raise ArtifactError(f"{path} is an ONNX model, but not one that fer made; make one with export.format=onnx")
    try:
        return session, Metadata.from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; make one with export.format=onnx") from None


class OnnxModule:
    """`module(images)`: uint8 (N, 1 or 3, H, W), RGB if 3 → float32 (N, K) calibrated probabilities on the CPU.

    raw: take the temperature back out of them, which a file with the mirrored image inside does not let one do: raises
    `ArtifactError`, as where the file does not answer such images.
    """

    def __init__(self, session: Any, metadata: Metadata, raw: bool = False) -> None:
        if raw and metadata.flip:
            raise ArtifactError(
                "an .onnx that is averaged with the mirror image cannot be judged; export it with flip=false"
            )
        self._session, self._classes = session, len(metadata.classes)
        self._temperature = metadata.temperature if raw else 1.0

    def __call__(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError("expected uint8 images of shape (N, 1 or 3, H, W)")
        if not len(images):
            return torch.zeros(0, self._classes)
        rgb = images.expand(-1, 3, -1, -1).contiguous().cpu().numpy()
        try:
            answer = torch.from_numpy(self._session.run(None, {"images": rgb})[0])
        except Exception as error:  # as above
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ArtifactError(f"this .onnx does not answer {tuple(rgb.shape)} images ({first})") from None
        return answer if self._temperature == 1 else torch.softmax(answer.clamp_min(1e-30).log() * self._temperature, 1)
