"""Several artifacts as one: the mean of their probabilities."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.artifact import check_torchscript, read_metadata, torchscript_module, write
from fer.artifact.metadata import Metadata, git_commit
from fer.checks import check_number
from fer.errors import ArtifactError
from fer.files import expand


class Ensemble(nn.Module):
    """The mean of the calibrated probabilities of several models, calibrated again.

    `forward(images)` has the input and output of `InferenceModel`; each member has its own preprocessing. The logarithm
    of the mean is divided by a temperature, since means are underconfident (Rahaman & Thiery 2021).

    Args:
        members: The models.
        metadata: Its temperature divides the logarithm of the mean. With `flip`, the probabilities of the image and its
            mirror image are averaged after that. For scales other than 1, images are resized to `input_size`.
        scales: Sizes at which the members see the face: 1 is the whole image, 2 its middle half; below 1, the border is
            repeated around it (multi-scale testing, Simonyan & Zisserman 2015, section 3.2). The mean is over scales
            and members.
    """

    def __init__(self, members: Sequence[nn.Module], metadata: Metadata, scales: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.size = metadata.input_size
        self.temperature = metadata.temperature
        self.flip = metadata.flip
        self.scales = [float(scale) for scale in scales]

    def forward(self, images: Tensor) -> Tensor:
        # One method only: torch crashes on an error inside a second one that it has optimized for inference
        batch = images
        if self.scales != [1.0] and images.shape[0] > 0:
            height, width = images.shape[2], images.shape[3]
            views = []
            for scale in self.scales:
                border = (1 / scale - 1) / 2
                rows, columns = int(round(height * border)), int(round(width * border))  # noqa: RUF046 (TorchScript)
                view = F.pad(images.float(), [columns, columns, rows, rows], mode="replicate")  # crops if negative
                size = [self.size, self.size]
                view = F.interpolate(view, size=size, mode="bilinear", align_corners=False, antialias=True)
                views.append(view.round().to(images.dtype))
            batch = torch.cat(views)
        if self.flip:
            batch = torch.cat([batch, batch.flip(3)])
        mean = torch.stack([member(batch) for member in self.members]).mean(dim=0)
        mirrored = 2 if self.flip else 1
        mean = mean.view(mirrored, len(self.scales), images.shape[0], mean.shape[1]).mean(dim=1)
        return torch.softmax(torch.log(mean.clamp_min(1e-30)) / self.temperature, dim=2).mean(dim=0)


def check_compatible(models: Sequence[tuple[Path, Metadata]]) -> None:
    """Check that models, given as files and metadata, can be averaged.

    Raises:
        ArtifactError: They differ in classes or crop margin, or one is neither a TorchScript artifact nor a checkpoint.
    """
    first, expected = models[0]
    for path, metadata in models:
        check_torchscript(path)
        for name in ("classes", "crop_margin"):
            ours, theirs = getattr(expected, name), getattr(metadata, name)
            if ours != theirs:
                raise ArtifactError(f"{path} has {name} {theirs}, {first} has {ours}; only equal ones can be averaged")


def save_ensemble(
    paths: Sequence[str | Path],
    out: str | Path,
    temperature: float = 1.0,
    metrics: dict[str, float] | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Path:
    """Write the mean of several TorchScript artifacts as one artifact, which loads and is used like any other.

    Flip averaging of the members is turned off. The new file has the largest of their input sizes and channels, the
    sums of their parameters and multiply-accumulates, and their configs under `members`.

    Args:
        paths: The members.
        out: The new file.
        temperature, flip, scales: As in `Ensemble`; scales are from 0.25 to 4.
        metrics: For its metadata.

    Raises:
        ArtifactError: A member cannot be loaded, they cannot be averaged, or `out` cannot be written.
        ConfigError: A scale is out of range.
    """
    for scale in scales or [0]:
        check_number("scales", scale, 0.25, 4)
    files = [expand(path) for path in paths]
    of_members = [read_metadata(path) for path in files]
    check_compatible(list(zip(files, of_members, strict=True)))
    data = of_members[0].data
    whole = dataclasses.replace(
        max(of_members, key=lambda metadata: metadata.channels),
        input_size=max(metadata.input_size for metadata in of_members),
        temperature=temperature,
        flip=flip,
        parameters=sum(metadata.parameters for metadata in of_members),
        macs=sum(metadata.macs for metadata in of_members),
        metrics=metrics or {},
        data=data if all(metadata.data == data for metadata in of_members) else {},
        config={"members": [metadata.config for metadata in of_members], "scales": list(scales)},
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    members = [torchscript_module(path) for path in files]
    for member in members:
        member.flip = False
    return write(Ensemble(members, whole, scales).eval(), whole, out)
