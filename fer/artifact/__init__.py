"""Artifacts: one file with a model, its classes, input size, preprocessing, calibration and provenance.

    python -m fer.artifact checkpoint=runs/…/checkpoints/best.ckpt out=model.ts

Loading one needs neither a config nor `fer.train`, and PyTorch only for TorchScript. `fer.artifact.export` makes one
from a checkpoint.
"""

import contextlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fer.artifact import formats, hub, trust
from fer.artifact.formats import FORMATS, Format, torchscript
from fer.artifact.formats.base import Predict
from fer.artifact.metadata import Metadata
from fer.artifact.parity import PARITY, golden_batch
from fer.checks import check_choice, check_number
from fer.errors import ArtifactError, ConfigError
from fer.files import atomic_write, expand

if TYPE_CHECKING:  # PyTorch takes a second to import
    import torch
    from torch import Tensor, nn

Images = TypeVar("Images", np.ndarray, "Tensor")

BUNDLED = trust.INCLUDED / "fast.ts"
"""The default model of `infer.py`."""


def find(model: str | Path, defaults: tuple[str, ...] = hub.DEFAULTS) -> Path:
    """Return the file of an included model, such as "fast", one on the Hugging Face Hub, or the path with `~` expanded.

    The names are those of the files in `fer/weights` without the ending, and "bundled" for the default. A name comes
    before a file of the same name in the current folder, which `./fast` is. With its ending, as in "fast.onnx", a file
    in the current folder comes first. `hf://owner/name/file` is downloaded, unless it is in the Hub's cache, and
    `hf://owner/name` is the first of `defaults` there; see `fer.artifact.hub.local`.

    Raises:
        ArtifactError: A file on the Hub cannot be had.
    """
    named = _included().get(model) if isinstance(model, str) else None
    path = hub.local(model, defaults)
    included = trust.INCLUDED / path
    is_name = model == path.name and path.suffix in {format.suffix for format in FORMATS.values()}
    return named or (included if is_name and not path.exists() and included.is_file() else path)


def fastest(model: str | Path, device: str) -> Path:
    """Return the file of an included model that is fastest on this computer; other paths as `find` does.

    On a CPU that is int8 where `fer.ort.fast_int8`, else ONNX; on a GPU, ONNX where ONNX Runtime can use it. It is
    TorchScript where these files are not there.

    Args:
        model: The name of an included model, or a path.
        device: auto, cpu, cuda or cuda:1. "auto" is a GPU where ONNX Runtime can use one.
    """
    from fer import ort

    path, on_gpu = find(model), str(device).startswith("cuda")
    if model not in _included():
        return path
    if on_gpu or (device == "auto" and ort.gpu()):
        endings = [".onnx"] if ort.gpu() else []
    else:
        endings = [".int8.onnx", ".onnx"] if ort.fast_int8() else [".onnx"]
    files = (path.with_suffix(ending) for ending in endings)
    return next((file for file in files if file.is_file()), path)


def _included() -> dict[str, Path]:
    return {path.stem: path for path in sorted(trust.INCLUDED.glob("*.ts"))} | {"bundled": BUNDLED}


_MAKE_ONE = "make one with: python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"


class Artifact:
    """A loaded artifact.

    `artifact(images)` maps uint8 (N, 1 or 3, H, W), RGB if 3, to float32 (N, K): calibrated probabilities in the order
    of `metadata.classes`. For an array, they are an array; for a tensor on any device, a tensor on the CPU.
    """

    def __init__(self, predict: Predict, metadata: Metadata, arrays: bool) -> None:
        self.metadata = metadata
        self._predict = predict
        self._arrays = arrays

    def predict(self, images: "Tensor") -> "Tensor":
        """Return probabilities as a call does, on the device where they were made."""
        import torch

        if self._arrays:
            return torch.from_numpy(self._predict(images.cpu().numpy()))
        with torch.inference_mode():
            probabilities: Tensor = self._predict(images)
        return probabilities

    def __call__(self, images: Images) -> Images:
        if not isinstance(images, np.ndarray):
            return self.predict(images).cpu()
        if self._arrays:
            return np.asarray(self._predict(images))
        import torch

        copied = torch.from_numpy(np.array(images))  # of views that are mirrored or cannot be written
        return self.predict(copied).cpu().numpy()


def load(path: str | Path = BUNDLED, device: str = "cpu", raw: bool = False, threads: int | None = None) -> Artifact:
    """Load a TorchScript or ONNX artifact. Its metadata is read and checked before any of its code runs.

    Args:
        path: A file, the name of an included model, or hf://owner/name/file (`find`). A TorchScript file must be
            included with fer, made on this computer, or trusted (`fer.artifact.trust`).
        device: auto, cpu, cuda or cuda:1.
        raw: Return probabilities before the temperature and without flip averaging, for evaluation.
        threads: CPU threads of an ONNX artifact, None for one on each core. TorchScript has those of PyTorch.

    Raises:
        ArtifactError: The file is missing, damaged, not an artifact or not trusted.
        ConfigError: The device is unknown or not available.
    """
    check_number("threads", threads, 1, 256, whole=True, optional=True)
    path, device = find(path), str(device)
    metadata = read_metadata(path)
    format = _format_of(path)
    if format.runs_code:
        trust.check(path)
    with _naming(path):
        where = device if format.arrays else device_of(device, path)
        artifact = Artifact(format.load(path, metadata, where, raw, threads), metadata, format.arrays)
        probabilities = artifact(np.zeros((2, metadata.channels, metadata.input_size, metadata.input_size), np.uint8))
        if probabilities.shape != (2, len(metadata.classes)):
            raise ArtifactError(f"it does not return probabilities of its {len(metadata.classes)} classes")
    return artifact


def device_of(name: str, path: str | Path) -> str:
    """Return PyTorch's device for `device=<name>`: auto, cpu, cuda or, of several GPUs, cuda:1.

    "auto" is the GPU if there is one and the model in `path` can run on it.

    Raises:
        ConfigError: The name is unknown, or there is no such GPU.
    """
    import torch

    from fer import ort

    gpu = torch.cuda.is_available()
    if str(name).startswith("cuda") and not gpu:
        raise ConfigError(f"device={name}, but PyTorch finds no CUDA GPU; use device=cpu or device=auto")
    check_choice("device", name, ("auto", "cpu", "cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))))
    usable = gpu and (not _format_of(Path(path)).arrays or ort.gpu())
    if name == "auto":
        return "cuda" if usable else "cpu"
    return name


def read_metadata(path: str | Path) -> Metadata:
    """Read and check the metadata of an artifact, without loading or running anything else in the file.

    Raises:
        ArtifactError: The file is missing or is not an artifact, or its metadata is not valid.
    """
    path = find(path)
    if not path.is_file():
        raise ArtifactError(f"no model file {path}; {', '.join(_included())} are included; or {_MAKE_ONE}")
    read = _format_of(path).read_metadata
    if read is None:
        raise ArtifactError(f"{path} is for other programs; give the .ts or .onnx of the same model")
    with _naming(path):
        return read(path)


def _format_of(path: Path) -> Format:
    """Return the format with the suffix of `path`; TorchScript for unknown suffixes."""
    return next((format for format in FORMATS.values() if format.suffix == path.suffix), FORMATS["torchscript"])


def backbone_weights(path: str | Path) -> dict[str, "Tensor"]:
    """Return the weights of a TorchScript artifact's backbone, with the names of the original model.

    Raises:
        ArtifactError: The file is of another format, is not an artifact, or is an ensemble of several models.
    """
    path = find(path)
    members = read_metadata(path).config.get("members", [])
    if len(members) > 1:
        raise ArtifactError(f"{path} is an ensemble; give one of its members")
    prefix = "members.0.backbone." if members else "backbone."
    state = torchscript_module(path).state_dict()
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def torchscript_module(path: Path) -> "torch.jit.ScriptModule":
    """Load a TorchScript artifact as a module with weights. Raises `ArtifactError` for any other file."""
    check_torchscript(path)
    trust.check(path)
    with _naming(path):
        return torchscript.read_module(path, "cpu")


def check_torchscript(path: Path) -> None:
    """Check that the weights of an artifact can be read. Raises `ArtifactError` for a format other than TorchScript."""
    if _format_of(path).name != "torchscript":
        raise ArtifactError(f"{path} has no readable weights; give the .ts or the checkpoint that it was made from")


def save(backbone: "nn.Module", metadata: Metadata, path: str | Path, format: str = "torchscript") -> Path:
    """Write a backbone as an artifact.

    Args:
        backbone: float32 (N, C, S, S) → logits (N, K). It is moved to the CPU and put into evaluation mode.
        metadata: The metadata to store in the file.
        path: The file, with the suffix of its format. It is written only if its probabilities for `golden_batch` differ
            from the model's by at most `PARITY`.
        format: One of `FORMATS`.

    Returns:
        `path`, with `~` expanded.

    Raises:
        ArtifactError: The file cannot be written, the model cannot be exported, or its probabilities differ.
        ConfigError: The format is unknown or needs a package that is not installed.
    """
    import torch

    from fer.artifact.network import InferenceModel

    backbone = backbone.cpu().float().to(memory_format=torch.contiguous_format)
    return write(InferenceModel(backbone, metadata).eval(), metadata, path, format)


def write(model: "nn.Module", metadata: Metadata, path: str | Path, format: str = "torchscript") -> Path:
    """Write a model, uint8 (N, 1 or 3, H, W) → float32 (N, K) probabilities; see `save`."""
    import torch

    chosen, path = formats.get(format), expand(path)
    if path.suffix != chosen.suffix:
        raise ArtifactError(f"out={path} must end in {chosen.suffix} for format={format}; rename it or set format=")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, torch.no_grad():
            chosen.save(model, metadata, part)
            written = Artifact(chosen.load(part, metadata, "cpu", False, None), metadata, chosen.arrays)
            for channels, side in product((1, 3), (metadata.input_size, metadata.input_size + 17)):
                images = torch.from_numpy(golden_batch(channels, side))
                difference = (written(images) - model(images)).abs().max().item()
                if not difference <= PARITY:
                    raise ValueError(f"the file differs from the model by {difference:.2g}, more than {PARITY:g}")
        trust.add(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}; choose another out=") from error
    except Exception as error:  # tracing and exporting run the model's own code
        others = " or ".join(name for name in FORMATS if name != format)
        raise ArtifactError(f"cannot export as {format} ({_one_line(error)}); try export.format={others}") from error
    return path


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any exception of a damaged or foreign file into one line that names the file."""
    try:
        yield
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path} needs another package: pip install {error.name}") from None
    except Exception as error:
        raise ArtifactError(f"{path} cannot be used ({_one_line(error)}); {_MAKE_ONE}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
