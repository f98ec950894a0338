"""Export a checkpoint as an artifact. The only file of this folder that imports `fer.models`."""

import importlib.metadata
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from fer import models
from fer.artifact import find, save
from fer.artifact.metadata import Metadata
from fer.checks import check_number
from fer.models import checkpoints


def export(checkpoint: str | Path, out: str | Path, **overrides: Any) -> Path:
    """Turn a checkpoint into an artifact, without training.

    Args:
        checkpoint: A `.ckpt` of a run.
        out: The artifact.
        **overrides: As in `from_checkpoint`.

    Returns:
        `out`, with `~` expanded.

    Raises:
        ArtifactError: The checkpoint cannot be used, or the artifact cannot be written.
        ConfigError: The format is unknown or needs a package that is not installed.
    """
    backbone, metadata, format = from_checkpoint(checkpoint, **overrides)
    if overrides.get("temperature") is None and "val/temperature" not in metadata.metrics:
        text = "no metrics.json of this checkpoint and prior: its probabilities are not calibrated without temperature="
        print(text, file=sys.stderr)
    return save(backbone, metadata, out, format)


def from_checkpoint(
    checkpoint: str | Path,
    *,
    format: str | None = None,
    flip: bool | None = None,
    crop_margin: float | None = None,
    prior: float | None = None,
    temperature: float | None = None,
) -> tuple[nn.Module, Metadata, str]:
    """Load a checkpoint for `fer.artifact.save`.

    Args:
        checkpoint: A `.ckpt` of a run, or of a repository on the Hub.
        format, flip, crop_margin, prior: None for the values in the checkpoint's config.
        temperature: None for that in `metrics.json` of the run folder, with or without flip averaging, if this is its
            `best.ckpt` with the same prior, else 1.

    Returns:
        The backbone, float32 (N, C, S, S) → logits (N, K), with its metadata and format.

    Raises:
        ArtifactError: The checkpoint cannot be used.
    """
    path = find(checkpoint)
    model = checkpoints.load(str(path))
    values = model.hparams
    config = values["config"] or {}
    trained = {"format": "torchscript", "flip": False, "crop_margin": 0.0, "prior": 0.0} | config.get("export", {})
    given = {"format": format, "flip": flip, "crop_margin": crop_margin, "prior": prior}
    chosen = trained | {name: value for name, value in given.items() if value is not None}
    check_number("prior", chosen["prior"], 0, 2)
    report = path.resolve().parent.parent / "metrics.json"  # of the best checkpoint only
    same = path.name == "best.ckpt" and chosen["prior"] == trained["prior"]
    metrics = json.loads(report.read_bytes()) if same and report.is_file() else {}
    fitted = metrics.get("val/temperature", 1.0)
    if chosen["flip"]:  # runs of earlier versions lack it
        fitted = metrics.get("val/temperature_flip", fitted)
    model.divide_by_prior(chosen["prior"])
    backbone = model.deployable()
    parameters, macs = models.cost(backbone, values["channels"], values["input_size"])
    metadata = Metadata(
        **{name: values[name] for name in ("classes", "channels", "input_size", "mean", "std", "git_commit")},
        crop_margin=chosen["crop_margin"],
        temperature=fitted if temperature is None else temperature,
        prior=chosen["prior"],
        logit_bias=(-chosen["prior"] * model.log_prior).tolist() if chosen["prior"] else (),
        flip=chosen["flip"],
        parameters=parameters,
        macs=macs,
        metrics=metrics,
        data=values["data"] or {},
        config=config,
        versions={name: importlib.metadata.version(name) for name in ("torch", "timm", "lightning", "albumentations")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return backbone, metadata, chosen["format"]
