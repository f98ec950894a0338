"""The artifact: one file that knows its classes, input size, preprocessing, calibration and provenance.

    python -m fer.artifact checkpoint=runs/…/checkpoints/best.ckpt out=model.ts

Loading one needs neither a config nor the training half. `fer.artifact.export` makes one from a checkpoint.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from fer.artifact import formats, trust
from fer.artifact.formats import FORMATS, Format, torchscript
from fer.artifact.formats.base import Predict
from fer.artifact.metadata import Metadata
from fer.artifact.network import PARITY, InferenceModel, check_probabilities, golden_batch, trial_images
from fer.errors import ArtifactError, ConfigError, FerError
from fer.files import atomic_write, expand

__all__ = [
    "BUNDLED", "FORMATS", "Artifact", "InferenceModel", "Metadata", "backbone_weights", "golden_batch", "load",
    "read_metadata", "save", "write_checked",
]  # fmt: skip

BUNDLED = trust.INCLUDED / "fast.ts"
"""The default model of `infer.py`."""

_MAKE_ONE = "make one with: python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"


class Artifact:
    """A loaded artifact.

    `artifact(images)` maps uint8 (N, 1 or 3, H, W), RGB if 3, on any device, to float32 (N, K) on the CPU: calibrated
    probabilities in the order of `metadata.classes`.
    """

    def __init__(self, predict: Predict, metadata: Metadata) -> None:
        self.metadata = metadata
        self._predict = predict

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self._predict(images).cpu()


def load(path: str | Path = BUNDLED, device: str | torch.device = "cpu", raw: bool = False) -> Artifact:
    """Load a TorchScript or ONNX artifact. Its metadata is read and checked before any of its code runs.

    Args:
        path: A TorchScript file must be included with fer, made on this computer, or trusted (`fer.artifact.trust`).
        device: Where it runs.
        raw: Give the probabilities before the temperature and without the mirrored image, as evaluation needs them.

    Raises:
        ArtifactError: The file is missing, damaged, not an artifact or not trusted.
        ConfigError: ONNX Runtime, or its GPU build, is not installed.
    """
    path, device = expand(path), torch.device(device)
    metadata = read_metadata(path)
    format = _format_of(path)
    if format.runs_code:
        trust.check(path)
    with errors_naming(path):
        artifact = Artifact(format.load(path, metadata, device, raw), metadata)
        check_probabilities(artifact(trial_images(metadata)), metadata)
    return artifact


def read_metadata(path: str | Path) -> Metadata:
    """Read and check the metadata of an artifact. Of a TorchScript file nothing else is loaded, or run.

    Raises:
        ArtifactError: The file is missing or is not an artifact, or its metadata is not valid.
    """
    path = expand(path)
    if not path.is_file():
        raise ArtifactError(f"no model file {path}; {_MAKE_ONE}")
    read = _format_of(path).read_metadata
    if read is None:
        raise ArtifactError(f"{path} is for other programs; give the .ts or .onnx of the same model")
    with errors_naming(path):
        return read(path)


def _format_of(path: Path) -> Format:
    """The format with the suffix of `path`; TorchScript for any other suffix."""
    return next((format for format in FORMATS.values() if format.suffix == path.suffix), FORMATS["torchscript"])


def backbone_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a TorchScript artifact's backbone, named as in the model that it was made from.

    Raises:
        ArtifactError: The file is of another format, is not an artifact, or averages several models.
    """
    path = expand(path)
    members = read_metadata(path).config.get("members", [])
    check_torchscript(path)
    if len(members) > 1:
        raise ArtifactError(f"{path} is an ensemble of several models; give one of them")
    prefix = "members.0.backbone." if members else "backbone."
    with errors_naming(path):
        state = torchscript.read_module(path, torch.device("cpu")).state_dict()
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def check_torchscript(path: Path) -> None:
    """Check that the weights of an artifact can be read. Raises `ArtifactError` unless it is TorchScript."""
    if _format_of(path).name != "torchscript":
        raise ArtifactError(f"{path} holds no weights to read; give the .ts or the checkpoint that it was made from")


def save(backbone: nn.Module, metadata: Metadata, path: str | Path, format: str = "torchscript") -> Path:
    """Write a backbone as an artifact.

    Args:
        backbone: float32 (N, C, S, S) → logits (N, K).
        metadata: What the file says about itself.
        path: The file, with the suffix of its format. It appears when it is complete and has been compared with the
            model: their probabilities for `golden_batch` differ by at most `PARITY`.
        format: One of `FORMATS`.

    Returns:
        `path`, with `~` expanded.

    Raises:
        ArtifactError: The file cannot be written, the model cannot be exported, or its probabilities differ.
        ConfigError: The format is unknown or needs a package that is not installed.
    """
    chosen = formats.get(format)
    training = backbone.training
    backbone = backbone.cpu().float().to(memory_format=torch.contiguous_format).eval()
    model = InferenceModel(backbone, metadata).eval()
    try:
        return write_checked(path, chosen, lambda part: chosen.save(backbone, metadata, part), model, metadata)
    finally:
        backbone.train(training)


def write_checked(
    path: str | Path, format: Format, write: Callable[[Path], None], model: nn.Module, metadata: Metadata
) -> Path:
    """Write an artifact by `write(part)`, compare it with `model` and give it its name; otherwise as `save`."""
    path = expand(path)
    if path.suffix != format.suffix:
        others = [f"format={other.name}" for other in FORMATS.values() if other.suffix == path.suffix]
        fix = " or ".join([*others, f"out={path.with_suffix(format.suffix) if path.name else f'model{format.suffix}'}"])
        raise ArtifactError(f"out={path} must end in {format.suffix} for format={format.name}; set {fix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, torch.no_grad():
            write(part)
            trust.add(part, path.name)
            _check_parity(Artifact(format.load(part, metadata, torch.device("cpu"), False), metadata), model, format)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}; choose another out=") from error
    except FerError:
        raise
    except Exception as error:  # tracing and exporting run the model's own code
        reason = " ".join(str(error).split())[:200]
        others = [name for name in FORMATS if name != format.name]
        raise ArtifactError(
            f"this model cannot be exported as {format.name} ({reason}); try export.format={' or '.join(others)}"
        ) from error
    return path


def _check_parity(artifact: Artifact, model: nn.Module, format: Format) -> None:
    size = artifact.metadata.input_size
    for images in (golden_batch(channels, side) for channels in (1, 3) for side in (size, size + 17)):
        difference = (artifact(images) - model(images)).abs().max().item()
        if not difference <= PARITY:
            raise ArtifactError(
                f"the exported {format.name} file differs from the model by {difference:.2g} (limit {PARITY:g}); "
                "nothing was written, try another export.format"
            )


@contextlib.contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file raises into one line that names it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ConfigError) or (isinstance(error, FerError) and str(path) in str(error)):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if not isinstance(error, FerError):
            reason = f"it cannot be read or run ({reason})"
        raise ArtifactError(f"{path}: {reason}; {_MAKE_ONE}") from None
