"""The artifact: one file that knows its classes, input size, preprocessing and provenance.

The only file that names `torch.jit`. TorchScript is deprecated upstream, so its FutureWarnings are silenced
here and nowhere else, and `save` can write ONNX and `torch.export` files with the same metadata. TorchScript and ONNX
are loaded alike.

    python -m fer.artifact checkpoint=runs/…/checkpoints/best.ckpt out=model.ts
"""

import contextlib
import copy
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import lzma
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.artifact import trust
from fer.artifact.formats import onnx as onnx_artifact
from fer.artifact.metadata import LARGEST, Metadata
from fer.errors import ArtifactError, ConfigError, FerError
from fer.files import expand, json_object, read

BUNDLED = trust.INCLUDED / "fast.ts"
FORMATS = {"torchscript": ".ts", "onnx": ".onnx", "pt2": ".pt2"}
PARITY = 1e-5
"""Largest difference of a probability that an exported file may show against the eager model."""

_METADATA_FILE = "metadata.json"
_MAKE_ONE = "make one with: python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"


class InferenceModel(nn.Module):
    """A backbone with all that it needs around it: uint8 images in, calibrated probabilities out.

    `forward(images)`: uint8 (N, 1 or 3, H, W), RGB if 3, any H and W → float32 (N, K), rows that sum to 1.
    Grey is ITU-R BT.601 luma, as in OpenCV and Pillow. Temperature as in Guo et al. 2017, section 4.2.

    With `any_shape=False` it takes only (N, 3, H, W) and has no branches, which `torch.export` needs.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, backbone: nn.Module, metadata: Metadata, any_shape: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = metadata.channels
        self.input_size = metadata.input_size
        self.classes = len(metadata.classes)
        self.temperature = metadata.temperature
        self.flip = metadata.flip
        self.any_shape = any_shape
        self.register_buffer("mean", torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(metadata.std).view(1, -1, 1, 1))
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))

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
            x = F.interpolate(
                x,
                size=[self.input_size, self.input_size],
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
        if self.channels == 3:
            x = x.expand(-1, 3, -1, -1)
        x = (x / 255.0 - self.mean) / self.std
        probabilities = torch.softmax(self.backbone(x) / self.temperature, dim=1)
        if self.flip:
            mirrored = torch.softmax(self.backbone(x.flip(3)) / self.temperature, dim=1)
            probabilities = (probabilities + mirrored) / 2
        return probabilities


def golden_batch(channels: int, size: int, count: int = 5) -> Tensor:
    """The fixed images of every parity check: uint8 (count, channels, size, size), noise over smooth ramps."""
    generator = torch.Generator().manual_seed(2013)
    noise = torch.randint(0, 96, (count, channels, size, size), generator=generator)
    ramp = torch.linspace(0, 159, size)
    tilt = torch.linspace(0, 1, count).view(-1, 1, 1, 1)
    return (noise + tilt * ramp.view(1, 1, 1, -1) + (1 - tilt) * ramp.view(1, 1, -1, 1)).to(torch.uint8)


def save(
    backbone: nn.Module, metadata: Metadata, path: str | Path, format: str = "torchscript", half: bool = False
) -> Path:
    """Write `backbone`, float32 (N, C, S, S) → logits (N, K), as an artifact, and check it against the eager model.

    `format` is one of `FORMATS`. half: store the weights of a TorchScript file as float16, in half the room; `load`
    makes them float32 again, and the model that it is checked against has them rounded too. The file appears under its
    name only when it is whole and its probabilities on `golden_batch` differ from the eager model's by at most
    `PARITY`. Raises `ArtifactError` where they do not, `ConfigError` for an unknown format, one that cannot be `half`,
    or an extra that is not installed.
    """
    check_format(format)
    if half and format != "torchscript":
        raise ConfigError(f"half is for TorchScript alone, not for {format}")
    training = backbone.training
    backbone = backbone.cpu().float().to(memory_format=torch.contiguous_format).eval()
    if half:
        backbone = _rounded(copy.deepcopy(backbone))

    def write(part: Path) -> None:
        try:
            if half:
                _save_torchscript(backbone, metadata, part, half)
            else:
                _WRITERS[format](backbone, metadata, part)
        except OSError:
            raise
        except Exception as error:  # tracing and exporting run the model's own code
            reason = " ".join(str(error).split())[:200]
            others = ", ".join(name for name in FORMATS if name != format)
            raise ArtifactError(
                f"this model cannot be exported as {format} ({reason}); try export.format={others}"
            ) from error

    try:
        return _written(expand(path), format, write, InferenceModel(backbone, metadata).eval(), metadata)
    finally:
        backbone.train(training)


def _written(path: Path, format: str, write: Callable[[Path], None], eager: nn.Module, metadata: Metadata) -> Path:
    if not path.name:
        raise ArtifactError(f"out={path} is a folder; give a file name, such as model{FORMATS[format]}")
    if path.suffix != FORMATS[format]:
        others = [f"format={name}" for name, suffix in FORMATS.items() if suffix == path.suffix]
        fix = " or ".join([*others, f"out={path.with_suffix(FORMATS[format])}"])
        raise ArtifactError(f"out={path} does not end in {FORMATS[format]}, as {format} files do; give {fix}")
    part = path.with_name(f".{path.name}.part{FORMATS[format]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(part)
            if format == "torchscript":
                trust.add(part, path.name)  # by its digest, which it keeps under its own name
            _check_parity(eager, metadata, part, format)
        part.replace(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}; choose another out=") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def check_format(format: str) -> None:
    """Raises `ConfigError` for an export format that is unknown or whose extra is not installed."""
    if not isinstance(format, str) or format not in FORMATS:
        raise ConfigError(f"export.format={format} is unknown; choose one of {', '.join(FORMATS)}")
    needed = ("onnx", "onnxruntime", "onnxscript") if format == "onnx" else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export.format={format} needs {', '.join(missing)}: pip install -e '.[export]'")


def _example(metadata: Metadata) -> Tensor:
    return torch.zeros(2, metadata.channels, metadata.input_size, metadata.input_size)


def _save_torchscript(backbone: nn.Module, metadata: Metadata, path: Path, half: bool = False) -> None:
    traced = torch.jit.trace(backbone, _example(metadata), check_trace=False)
    _store(torch.jit.script(InferenceModel(traced, metadata).eval()), metadata, path, half)


def _store(scripted: torch.jit.ScriptModule, metadata: Metadata, path: Path, half: bool) -> None:
    kept = [(weight, weight.data) for weight in scripted.parameters()] if half else []
    for weight, values in kept:
        weight.data = values.half()
    # TorchScript's own file writer ends the whole process when the disk is full
    whole = io.BytesIO()
    torch.jit.save(scripted, whole, _extra_files={_METADATA_FILE: metadata.to_json()})
    path.write_bytes(whole.getbuffer())
    for weight, values in kept:  # they are those of the eager model too
        weight.data = values


def _rounded(module: nn.Module) -> nn.Module:
    """The module, its weights as float16 can hold them."""
    for weight in module.parameters():
        weight.data = weight.data.half().float()
    return module


def _rgb(backbone: nn.Module, metadata: Metadata) -> tuple[nn.Module, tuple[Tensor], dict[str, Any]]:
    size = metadata.input_size
    dim = torch.export.Dim
    shapes = {"images": {0: dim("n", min=1, max=4096), 2: dim("h", min=2), 3: dim("w", min=2)}}
    return InferenceModel(backbone, metadata, any_shape=False).eval(), (golden_batch(3, size + 3, 2),), shapes


def _save_pt2(backbone: nn.Module, metadata: Metadata, path: Path) -> None:
    module, example, shapes = _rgb(backbone, metadata)
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    whole = io.BytesIO()
    torch.export.save(program, whole, extra_files={_METADATA_FILE: metadata.to_json()})
    path.write_bytes(whole.getbuffer())


def _save_onnx(backbone: nn.Module, metadata: Metadata, path: Path) -> None:
    import onnx

    module, example, shapes = _rgb(backbone, metadata)
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=["images"],
        output_names=["probabilities"],
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {onnx_artifact.METADATA_KEY: metadata.to_json()})
    path.write_bytes(proto.SerializeToString())


_WRITERS = {"torchscript": _save_torchscript, "pt2": _save_pt2, "onnx": _save_onnx}


def _check_parity(eager: nn.Module, metadata: Metadata, path: Path, format: str) -> None:
    given = torch.export.load(str(path)).module() if format == "pt2" else load(path)
    for channels in (3,) if format == "pt2" else (1, 3):
        for size in (metadata.input_size, metadata.input_size + 17):
            images = golden_batch(channels, size)
            with torch.no_grad():
                wanted, answer = eager(images), given(images).detach()
            worst = (answer - wanted).abs().max().item()
            if not worst <= PARITY:
                raise ArtifactError(
                    f"the exported {format} file differs from the model by {worst:.2g} (limit {PARITY:g}); "
                    "nothing was written, try another export.format"
                )


def read_metadata(path: str | Path) -> Metadata:
    """Read and check the metadata of an artifact; of a TorchScript file nothing else is loaded, or run.

    Raises `ArtifactError` where the file is missing, is not one of ours, or its metadata is not valid.
    """
    path = expand(path)
    if not path.is_file():
        what = f"{path} is no regular file" if path.exists() else f"no model file {path}"
        raise ArtifactError(f"{what}; {_MAKE_ONE}")
    if path.suffix == FORMATS["onnx"]:
        return onnx_artifact.open_session(path, torch.device("cpu"))[1]
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = [name for name in names if name.split("/", 1)[-1] == f"extra/{_METADATA_FILE}"]
            if any(name.endswith("/constants.pkl") for name in names) and len(found) == 1:
                with archive.open(found[0]) as file:  # its size as the directory has it may be a lie
                    return Metadata.from_json(file.read(LARGEST + 1))
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, RuntimeError) as error:
        # RuntimeError, of which NotImplementedError is one, and ValueError: a directory of which a few bytes are wrong
        raise ArtifactError(f"{path} is not a whole model file ({error}); {_MAKE_ONE}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; {_MAKE_ONE}") from None
    kind = "a TorchScript file, but not one that fer made" if found or "constants.pkl" in str(names) else "no model"
    raise ArtifactError(f"{path} is {kind}, and none of its code was run; {_MAKE_ONE}")


class Artifact:
    """A loaded artifact.

    `artifact(images)`: uint8 tensor (N, 1 or 3, H, W), RGB if 3, on any device → float32 (N, K) on the CPU,
    calibrated probabilities in the order of `metadata.classes`.
    """

    def __init__(self, module: Any, metadata: Metadata, device: torch.device) -> None:
        self.metadata = metadata
        self.device = device
        self._module = module

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self._module(images.to(self.device)).cpu()


def load(path: str | Path = BUNDLED, device: str | torch.device = "cpu", raw: bool = False) -> Artifact:
    """Load a TorchScript or ONNX artifact; its metadata is read and checked before any of its code runs.

    A TorchScript file has to be included with fer, made here, or trusted (`fer.trust.add`).

    `raw` gives the probabilities before the temperature and without the mirrored image. Raises `ArtifactError` where
    the file is not one of ours, is not trusted or does not load, `ConfigError` where ONNX Runtime, or its GPU half, is
    not installed.
    """
    device, path = torch.device(device), expand(path)
    if path.suffix == FORMATS["onnx"] and path.is_file():
        session, metadata = onnx_artifact.open_session(path, device)
        onnx = onnx_artifact.OnnxModule(session, metadata, raw)
        with _one_line_of(path):
            _check_answer(onnx(_trial(metadata)), metadata)
        return Artifact(onnx, metadata, torch.device("cpu"))
    metadata = read_metadata(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = _torchscript(path, device)
        with _one_line_of(path):
            if raw:
                module.temperature, module.flip = 1.0, False
            module = _frozen(module, metadata, device)
    return Artifact(module, metadata, device)


@contextlib.contextmanager
def _one_line_of(path: str | Path) -> Iterator[None]:
    """Code that is damaged, or not ours, raises almost anything."""
    try:
        yield
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        why = first if isinstance(error, FerError) else f"it does not load or run: {first}"
        raise ArtifactError(f"{path}: {why}; {_MAKE_ONE}") from None


def _trial(metadata: Metadata) -> Tensor:
    """Two images that any artifact has to answer."""
    side = metadata.input_size
    image = torch.arange(side * side, dtype=torch.int64).mul(37).remainder(256).to(torch.uint8)
    return image.reshape(1, 1, side, side).expand(2, metadata.channels, side, side)


def _check_answer(answer: Any, metadata: Metadata) -> None:
    count = len(metadata.classes)
    good = isinstance(answer, Tensor) and answer.shape == (2, count) and answer.dtype == torch.float32
    if not good or not torch.allclose(answer.sum(1), torch.ones_like(answer[:, 0]), atol=1e-3) or (answer < 0).any():
        raise ArtifactError(f"it does not answer with probabilities of its {count} classes")


def _frozen(module: torch.jit.ScriptModule, metadata: Metadata, device: torch.device) -> torch.jit.ScriptModule:
    """The module frozen and, on a CPU, with folded batch norms and the layout that its convolutions like.

    Some layers cannot do that, and say so only when they are run; then the module is only frozen. Raises
    `ArtifactError` where it gives no probabilities of the classes that its metadata names.
    """
    frozen = torch.jit.freeze(module)
    images = _trial(metadata).to(device)
    with torch.inference_mode():
        answer = frozen(images)
        _check_answer(answer, metadata)
        if device.type != "cpu":
            return frozen
        try:
            fast = torch.jit.optimize_for_inference(torch.jit.freeze(module))
            same = torch.allclose(fast(images), answer, rtol=0, atol=PARITY)
        except RuntimeError:
            return frozen
    return fast if same else frozen


def _torchscript(path: str | Path, device: torch.device) -> torch.jit.ScriptModule:
    trust.check(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _one_line_of(path):
            return torch.jit.load(str(path), map_location=device).eval().float()


def _only_torchscript(path: str | Path) -> None:
    if Path(path).suffix == FORMATS["onnx"]:
        raise ArtifactError(f"{path} is for answering alone; give the .ts or the checkpoint that it was made of")


def backbone_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a TorchScript artifact's backbone, by the names they have in the model that it was made of.

    Raises `ArtifactError` where the file is not one of ours, does not load, or is the mean of more than one model.
    """
    path = expand(path)
    metadata = read_metadata(path)
    _only_torchscript(path)
    members = metadata.config.get("members")
    prefix = (
        "members.0.backbone." if members else "backbone."
    )  # the mean of one is how `save_ensemble` keeps it as float16
    state = _torchscript(path, torch.device("cpu")).state_dict()
    if members and len(members) > 1:
        raise ArtifactError(f"{path} is a mean of several models; give one of them")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def export(
    checkpoint: str | Path,
    out: str | Path,
    format: str | None = None,
    flip: bool | None = None,
    crop_margin: float | None = None,
    temperature: float | None = None,
) -> Path:
    """Turn a checkpoint into an artifact at `out`, without training.

    What is left out comes from the checkpoint's own config, and the temperature and metrics from `metrics.json` of
    its run folder where it is still in one (temperature 1 where not). Raises `ArtifactError` or `ConfigError`.
    """
    backbone, metadata, chosen = from_checkpoint(checkpoint, format, flip, crop_margin, temperature)
    if temperature is None and "val/temperature" not in metadata.metrics:
        print(
            "no metrics.json of this checkpoint: its probabilities are not calibrated (temperature 1)", file=sys.stderr
        )
    return save(backbone, metadata, out, chosen)


def from_checkpoint(
    checkpoint: str | Path,
    format: str | None = None,
    flip: bool | None = None,
    crop_margin: float | None = None,
    temperature: float | None = None,
) -> tuple[nn.Module, Metadata, str]:
    """The backbone of a checkpoint, (N, C, S, S) → logits (N, K), with the metadata and format to export it with.

    What is left out is found as in `export`. Raises `ArtifactError`.
    """
    from fer import models  # the training half, which nothing that streams may import
    from fer.models import checkpoints

    model = checkpoints.load(str(checkpoint))
    values = model.hparams
    config = values["config"] or {}
    asked = {"format": format, "flip": flip, "crop_margin": crop_margin}
    chosen = {"format": "torchscript", "flip": False, "crop_margin": 0.0} | config.get("export", {})
    chosen |= {name: value for name, value in asked.items() if value is not None}
    metrics = _metrics_of(expand(checkpoint).resolve())
    backbone = model.deployable()
    parameters, macs = models.cost(backbone, values["channels"], values["input_size"])
    metadata = Metadata(
        classes=tuple(values["classes"]),
        channels=values["channels"],
        input_size=values["input_size"],
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        crop_margin=chosen["crop_margin"],
        temperature=metrics.get("val/temperature", 1.0) if temperature is None else temperature,
        flip=chosen["flip"],
        parameters=parameters,
        macs=macs,
        metrics=metrics,
        data=values["data"] or {},
        config=config,
        git_commit=values["git_commit"],
        versions={name: importlib.metadata.version(name) for name in ("torch", "timm", "lightning", "albumentations")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return backbone, metadata, chosen["format"]


class Ensemble(nn.Module):
    """Several artifacts as one: uint8 images in, the mean of their calibrated probabilities out, calibrated again.

    Images and answers as in `InferenceModel`; each member prepares the images in its own way. The temperature divides the
    logarithm of the mean, since a mean is less sure than it is right (Rahaman & Thiery 2021).

    scales: the sizes at which the face is shown to the members, 1 the image as it is, 2 the half of it in the middle;
    below 1 its border is repeated around it (multi-scale testing, Simonyan & Zisserman 2015, section 3.2). Their mean
    is taken with the members', and that of an image and its mirror image, with `flip`, after the temperature. Other
    scales than 1 bring every image to `size` pixels.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        size: int,
        temperature: float = 1.0,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.size = size
        self.temperature = temperature
        self.flip = flip
        self.scales = [float(scale) for scale in scales]

    def forward(self, images: Tensor) -> Tensor:
        # All in one method: torch crashes on an error inside a second one that it has optimised for inference
        batch = images
        if self.scales != [1.0] and images.shape[0] > 0:
            height, width = images.shape[2], images.shape[3]
            views = []
            for scale in self.scales:
                more = (1 / scale - 1) / 2
                above, beside = round(height * more), round(width * more)
                rows = torch.arange(-above, height + above, dtype=torch.long, device=images.device)
                columns = torch.arange(-beside, width + beside, dtype=torch.long, device=images.device)
                view = images[:, :, rows.clamp(0, height - 1)][:, :, :, columns.clamp(0, width - 1)].float()
                size = [self.size, self.size]
                view = F.interpolate(view, size=size, mode="bilinear", align_corners=False, antialias=True)
                views.append(view.round().to(images.dtype))
            batch = torch.cat(views)
        if self.flip:
            batch = torch.cat([batch, batch.flip(3)])
        answers = torch.stack([member(batch) for member in self.members]).mean(dim=0)
        mirrored = 2 if self.flip else 1
        answers = answers.view(mirrored, len(self.scales), images.shape[0], answers.shape[1]).mean(dim=1)
        return torch.softmax(torch.log(answers.clamp_min(1e-30)) / self.temperature, dim=2).mean(dim=0)


def check_compatible(models: Sequence[tuple[Path, Metadata]]) -> None:
    """Raises `ArtifactError` where models, each a file and its metadata, cannot become one `save_ensemble`."""
    first, wanted = models[0]
    for path, metadata in models:
        _only_torchscript(path)
        for name in ("classes", "crop_margin"):
            own, other = getattr(wanted, name), getattr(metadata, name)
            if own != other:
                raise ArtifactError(f"{path} has {name} {other}, {first} has {own}; only equal ones can be averaged")


def save_ensemble(
    paths: Sequence[str | Path],
    out: str | Path,
    temperature: float = 1.0,
    metrics: dict[str, float] | None = None,
    half: bool = False,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Path:
    """Write the mean of several TorchScript artifacts as one artifact, which loads and is used like any other.

    half: as in `save`. flip: whether the new file answers with the mean over an image and its mirror image. scales: the
    sizes at which it looks at a face, as in `Ensemble`.

    Members are asked without mirrored images of their own, as `fer.evaluate` asks them. It takes the larger of their
    input sizes and channels, the sums of their parameters and multiply-accumulates, and all their configs, under
    `members`, beside the scales.
    Raises `ArtifactError` where a member cannot be loaded, where the members differ in classes or crop margin, where
    the file cannot be written, or where it differs from the mean of the members by more than `PARITY`;
    `ConfigError` for scales outside 0.25 … 4.
    """
    if not scales or not all(0.25 <= scale <= 4 for scale in scales):
        raise ConfigError(f"scales={list(scales)} must be numbers in 0.25 … 4, 1 for the image as it is")
    files = [expand(path) for path in paths]
    told = [read_metadata(path) for path in files]
    check_compatible(list(zip(files, told, strict=True)))
    widest = max(told, key=lambda metadata: metadata.channels)
    same_data = all(metadata.data == told[0].data for metadata in told)
    whole = dataclasses.replace(
        widest,
        input_size=max(metadata.input_size for metadata in told),
        temperature=temperature,
        flip=flip,
        parameters=sum(metadata.parameters for metadata in told),
        macs=sum(metadata.macs for metadata in told),
        metrics=metrics or {},
        data=told[0].data if same_data else {},
        config={"members": [metadata.config for metadata in told], "scales": list(scales)},
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members = [_torchscript(path, torch.device("cpu")) for path in files]
        for path, member, metadata in zip(files, members, told, strict=True):
            with _one_line_of(path), torch.no_grad():
                member.flip = False
                _check_answer(member(_trial(metadata)), metadata)
        eager = Ensemble(members, whole.input_size, temperature, flip, scales).eval()
    if half:
        _rounded(eager)

    def write(part: Path) -> None:
        _store(torch.jit.script(eager), whole, part, half)

    return _written(expand(out), "torchscript", write, eager, whole)


def _metrics_of(checkpoint: Path) -> dict[str, float]:
    if checkpoint.name != "best.ckpt":  # the only one that a run judges
        return {}
    try:
        return json_object(read(checkpoint.parent.parent / "metrics.json"))
    except (OSError, ValueError):
        return {}


def git_commit() -> str | None:
    """The commit of this source tree, with "-dirty" where files differ from it; None outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


_USAGE = (
    "python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"
    " [format=torchscript|onnx|pt2] [flip=true|false] [crop_margin=0.0] [temperature=1.0]"
)


def main(arguments: list[str]) -> None:
    """The command above. Raises `ConfigError` for arguments that it does not know."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if given.keys() & {"-h", "--help"}:
        print(_USAGE)
        return
    known = {"checkpoint", "out", "format", "flip", "crop_margin", "temperature"}
    if given.keys() - known or not {"checkpoint", "out"} <= given.keys():
        raise ConfigError(f"usage: {_USAGE}")
    options: dict[str, Any] = dict(given)
    try:
        for name in {"flip", "crop_margin", "temperature"} & given.keys():
            options[name] = json.loads(given[name])
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}={given[name][:40]} is no value; usage: {_USAGE}") from None
    print(export(**options))
