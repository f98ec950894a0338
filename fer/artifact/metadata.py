"""What an artifact says about itself, checked before anything else of the file is used."""

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
SCHEMA_VERSION = 1
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Metadata:
    """What an artifact says about itself.

    Attributes:
        classes: Names in the order of the output's columns.
        channels: 1 or 3, what the network sees.
        input_size: Side of the square it sees, in pixels.
        mean, std: Per channel, of pixels scaled to 0–1.
        crop_margin: Share of a detected face's longer side that is added on each side of the square crop.
        temperature: Divisor of the logits.
        flip: Whether the probabilities are averaged with those of the mirrored image.
        parameters: Weights of the network.
        macs: Multiply-accumulates of one forward pass of one image.
        metrics: As in `metrics.json` of the run.
        data: Name and fingerprint of the training split.
        config: The whole configuration of the run or, under `members`, those of the runs that are averaged.
        git_commit: Of the source tree that trained it.
        versions: Of the packages that trained it.
        created: ISO 8601, UTC.
        schema_version: Of these keys.

    Raises:
        ArtifactError: A value is of the wrong type or out of range.
    """

    classes: tuple[str, ...]
    channels: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_margin: float = 0.0
    temperature: float = 1.0
    flip: bool = False
    parameters: int = 0
    macs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        try:
            self._check()
        except ConfigError as error:
            raise ArtifactError(f"metadata: {error}") from None

    def _check(self) -> None:
        for name in ("classes", "mean", "std"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ConfigError(f"{name} must be a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_choice("channels", self.channels, (1, 3))
        names_good = all(isinstance(name, str) and is_name(name) for name in self.classes)
        runs = self.config.get("members", [self.config]) if isinstance(self.config, dict) else None
        for name, good in {
            "classes": len(self.classes) >= 2 and names_good and len(set(self.classes)) == len(self.classes),
            "mean": len(self.mean) == self.channels,
            "std": len(self.std) == self.channels,
            "git_commit": isinstance(self.git_commit, str | None),
            "created": isinstance(self.created, str),
            **{name: isinstance(getattr(self, name), dict) for name in ("metrics", "data", "versions")},
            "config": isinstance(runs, list)
            and len(runs) > 0
            and all(isinstance(run, dict) and isinstance(run.get("model", {}), dict) for run in runs),
        }.items():
            if not good:
                raise ConfigError(f"{name} cannot be {reprlib.repr(getattr(self, name))}")
        check_number("input_size", self.input_size, 8, 4096, whole=True)
        for mean, std in zip(self.mean, self.std, strict=True):
            check_number("mean", mean, -1e6, 1e6)
            check_number("std", std, 0, 1e6, above=True)
        check_number("crop_margin", self.crop_margin, -0.5, 2, above=True)
        check_number("temperature", self.temperature, 0.01, 100)
        check_flag("flip", self.flip)
        for name in ("parameters", "macs"):
            check_number(name, getattr(self, name), 0, _LARGEST, whole=True)
        check_number("schema_version", self.schema_version, 1, _LARGEST, whole=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Parse and check. Unknown keys are ignored, and missing ones that have a default get it.

        Raises:
            ArtifactError: The text is not a JSON object, a key without a default is missing, or a value is not valid.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"metadata: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ArtifactError("metadata: not a JSON object")
        try:
            return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})
        except TypeError as error:
            raise ArtifactError(f"metadata: {str(error).partition('() ')[2]}") from None

    def to_json(self) -> str:
        """Return the metadata as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def git_commit() -> str | None:
    """Return the commit of this source tree, with "-dirty" where files differ from it; None outside a checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
