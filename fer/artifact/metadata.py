"""What an artifact says of itself, checked whole before anything else of it is touched."""

import dataclasses
import json
import reprlib
from dataclasses import dataclass, field
from typing import Any

from fer.errors import ArtifactError
from fer.files import json_object
from fer.labels import is_name

SCHEMA_VERSION = 1
LARGEST = 4 << 20
"""Bytes of metadata that are read at most, a hundred times what a training writes."""


@dataclass(frozen=True)
class Metadata:
    """What an artifact says of itself.

    classes: names in the order of the output columns. channels: 1 or 3, what the network sees. input_size: side
    of the square it sees, in pixels. mean, std: per channel, of pixels scaled to 0–1. crop_margin: share of a
    detected face's longer side that is added on each side of the square cut out. temperature: divisor of the
    logits. flip: whether the probabilities are averaged with those of the mirrored image. macs: multiply-accumulates
    for one image. metrics: as in `metrics.json` of the run. data: name and fingerprint of the training split.
    config: the run's whole configuration. git_commit: of the source tree that trained it. created: ISO 8601, UTC.

    Raises `ArtifactError` where a value is of the wrong kind or out of range.
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
        for name in ("classes", "mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ArtifactError(f"metadata: {name} must be a list, not {reprlib.repr(value)}")
            object.__setattr__(self, name, tuple(value))
        checks = {
            "schema_version": _is_whole(self.schema_version, SCHEMA_VERSION, SCHEMA_VERSION),
            "classes": len(self.classes) >= 2
            and all(isinstance(name, str) and is_name(name) for name in self.classes)
            and len(set(self.classes)) == len(self.classes),
            "channels": _is_whole(self.channels, 1, 3) and self.channels != 2,
            "input_size": _is_whole(self.input_size, 8, 4096),
            "mean": len(self.mean) == self.channels and all(_is_number(v) for v in self.mean),
            "std": len(self.std) == self.channels and all(_is_number(v) and v > 0 for v in self.std),
            "crop_margin": _is_number(self.crop_margin) and -0.5 < self.crop_margin <= 2,
            "temperature": _is_number(self.temperature) and 0.01 <= self.temperature <= 100,
            "flip": isinstance(self.flip, bool),
            "parameters": _is_whole(self.parameters),
            "macs": _is_whole(self.macs),
            "git_commit": self.git_commit is None or isinstance(self.git_commit, str),
            "created": isinstance(self.created, str),
            **{n: isinstance(getattr(self, n), dict) for n in ("metrics", "data", "versions")},
            "config": _is_config(self.config),
        }
        for name, good in checks.items():
            if not good:
                raise ArtifactError(f"metadata: {name} cannot be {reprlib.repr(getattr(self, name))}")

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Parse and check. Raises `ArtifactError` on anything that is not whole and valid metadata."""
        if len(text) > LARGEST:
            raise ArtifactError(f"metadata: larger than {LARGEST >> 20} MB")
        try:
            values = json_object(text)
        except ValueError as error:
            raise ArtifactError(f"metadata: not JSON ({error})") from None
        names = {f.name for f in dataclasses.fields(cls)}
        missing, unknown = sorted(names - values.keys()), sorted(values.keys() - names)
        if missing or unknown:
            raise ArtifactError(f"metadata: missing {reprlib.repr(missing)}, unknown {reprlib.repr(unknown)}")
        return cls(**values)

    def to_json(self) -> str:
        """The metadata as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def _is_number(value: object) -> bool:
    """Of a size that float32 can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6


def _is_whole(value: object, low: int = 0, high: int = 2**63 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_config(value: object) -> bool:
    """Whether it is the configuration of a run or, under `members`, those of several."""
    members = value.get("members", [value]) if isinstance(value, dict) else None
    return (
        isinstance(members, list)
        and bool(members)
        and all(isinstance(member, dict) and isinstance(member.get("model", {}), dict) for member in members)
    )
