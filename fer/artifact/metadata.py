"""Metadata of artifacts, checked before the rest of a file is used."""

import dataclasses
import json
import reprlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fer.checks import check_choice, check_flag, check_number
from fer.errors import ArtifactError, ConfigError
from fer.labels import is_name

METADATA_FILE = "metadata.json"
"""Name of the metadata inside every artifact."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of an artifact.

    Attributes:
        classes: Names, in the order of the output's columns.
        channels: Channels of the network's input, 1 or 3.
        input_size: Side of the network's input in pixels.
        mean, std: Per channel, of pixels scaled to 0–1.
        crop_margin: Share of a detected face's longer side that is added on each side of the square crop.
        temperature: Divisor of the logits.
        prior: Exponent of the class prior by which the probabilities were divided after training.
        logit_bias: What this added to the logit of each class, a part of the network's weights; empty for nothing.
        flip: Whether the probabilities are averaged with those of the mirror image.
        precision: Of the network's weights and activations, "float32" or "int8".
        parameters: Weights of the network.
        macs: Multiply-accumulates for one image.
        metrics: As in `metrics.json` of the run.
        data: Name and fingerprint of the training split.
        config: Configuration of the run; for an ensemble, those of all runs under `members`.
        git_commit: Commit of the source tree that trained it.
        versions: Versions of the packages that trained it.
        created: ISO 8601, UTC.
        schema_version: Version of these keys.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """

    classes: tuple[str, ...]
    channels: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_margin: float = 0.0
    temperature: float = 1.0
    prior: float = 0.0
    logit_bias: tuple[float, ...] = ()
    flip: bool = False
    precision: str = "float32"
    parameters: int = 0
    macs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = 1

    def __post_init__(self) -> None:
        for name in ("classes", "mean", "std", "logit_bias"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or not all(map(is_name, self.classes)):
            raise ConfigError(f"classes must be two or more different names, not {reprlib.repr(self.classes)}")
        check_choice("channels", self.channels, (1, 3))
        for name, low in (("mean", -1e6), ("std", 1e-6)):
            if len(getattr(self, name)) != self.channels:
                raise ConfigError(f"{name} must have one number for each channel")
            for value in getattr(self, name):
                check_number(name, value, low, 1e6)
        check_number("input_size", self.input_size, 8, 4096, whole=True)
        check_number("crop_margin", self.crop_margin, -0.5, 2, above=True)
        check_number("temperature", self.temperature, 0.01, 100)
        check_flag("flip", self.flip)
        check_choice("precision", self.precision, ("float32", "int8"))
        check_number("prior", self.prior, 0, 2)
        for value in self.logit_bias:
            check_number("logit_bias", value, -1e3, 1e3)
        for name in ("parameters", "macs", "schema_version"):
            check_number(name, getattr(self, name), whole=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Parse and check metadata. Unknown keys are ignored; missing keys get their default.

        Raises:
            ArtifactError: The text is not a JSON object, a key without a default is missing, or a value is not valid.
        """
        try:
            values = json.loads(text)
            known: dict[str, Any] = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
            return cls(**known)
        except (ConfigError, TypeError, ValueError, RecursionError) as error:
            raise ArtifactError(f"metadata: {error}") from None

    def to_json(self) -> str:
        """Return the metadata as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def git_commit() -> str | None:
    """Return the commit of this source tree, with "-dirty" if files differ from it; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
