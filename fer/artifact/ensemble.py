"""Several artifacts as one: the mean of their probabilities."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from fer.artifact import check_torchscript, read_metadata, torchscript_module, write
from fer.artifact.metadata import Metadata, git_commit
from fer.errors import ArtifactError
from fer.files import expand


class Ensemble(nn.Module):
    """The mean of the calibrated probabilities of several models, calibrated again.

    `forward(images)` has the input and output of `InferenceModel`; each member has its own preprocessing. The logarithm
    of the mean is divided by a temperature, since means are underconfident (Rahaman & Thiery 2021).
    """

    def __init__(self, members: Sequence[nn.Module], temperature: float) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        mean = torch.stack([member(images) for member in self.members]).mean(dim=0)
        return torch.softmax(torch.log(mean.clamp_min(1e-30)) / self.temperature, dim=1)


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
) -> Path:
    """Write the mean of several TorchScript artifacts as one artifact, which loads and is used like any other.

    Flip averaging of the members is turned off. The new file has the largest of their input sizes and channels, the
    sums of their parameters and multiply-accumulates, and their configs under `members`.

    Args:
        paths: The members.
        out: The new file.
        temperature: Divisor of the logarithm of the mean.
        metrics: For its metadata.

    Raises:
        ArtifactError: A member cannot be loaded, they cannot be averaged, or `out` cannot be written.
    """
    files = [expand(path) for path in paths]
    of_members = [read_metadata(path) for path in files]
    check_compatible(list(zip(files, of_members, strict=True)))
    data = of_members[0].data
    whole = dataclasses.replace(
        max(of_members, key=lambda metadata: metadata.channels),
        input_size=max(metadata.input_size for metadata in of_members),
        temperature=temperature,
        prior=0.0,  # the members may have their own
        logit_bias=(),
        flip=False,
        parameters=sum(metadata.parameters for metadata in of_members),
        macs=sum(metadata.macs for metadata in of_members),
        metrics=metrics or {},
        data=data if all(metadata.data == data for metadata in of_members) else {},
        config={"members": [metadata.config for metadata in of_members]},
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    members = [torchscript_module(path) for path in files]
    for member in members:
        member.flip = False
    return write(Ensemble(members, temperature).eval(), whole, out)
