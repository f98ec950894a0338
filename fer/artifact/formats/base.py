"""The registry of formats."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer.artifact.metadata import Metadata
from fer.checks import check_choice
from fer.errors import ConfigError

Predict = Callable[[Any], Any]
"""uint8 (N, 1 or 3, H, W), RGB if 3 → probabilities, float32 (N, K): tensors on any device, or arrays; see `Format`."""


@dataclass(frozen=True)
class Format:
    """A file format of exported models.

    Attributes:
        name: Value of `export.format`.
        suffix: Ending of its files, with the dot.
        save: `save(model, metadata, path)` writes the file, with the metadata inside. The model maps uint8
            (N, 1 or 3, H, W) to probabilities (N, K) and has a `backbone`; see `InferenceModel`.
        load: `load(path, metadata, device, raw, threads)` reads it. With `raw`, probabilities are before the
            temperature and without flip averaging. `threads` is None for the runtime's own choice. May raise anything
            for a damaged file.
        read_metadata: `read_metadata(path)` runs no code of the file and may raise anything. None for formats that are
            only for other programs; `fer.artifact.load` refuses their files.
        runs_code: Whether loading a file can run code in it, so that files from elsewhere must be trusted first.
        arrays: Whether what `load` returns takes and returns NumPy arrays instead of tensors; it then needs no PyTorch,
            and its `device` may be "auto".
        needs: Packages that a format of a plugin imports beyond this project's own.
    """

    name: str
    suffix: str
    save: Callable[[Any, Metadata, Path], None]
    load: Callable[[Path, Metadata, str, bool, int | None], Predict]
    read_metadata: Callable[[Path], Metadata] | None = None
    runs_code: bool = True
    arrays: bool = False
    needs: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {}
"""All formats by name."""


def register(format: Format) -> None:
    """Add a format to `FORMATS`."""
    FORMATS[format.name] = format


def get(name: str) -> Format:
    """Return the format called `name`.

    Raises:
        ConfigError: It is unknown, or a package that it needs is not installed.
    """
    check_choice("export.format", name, FORMATS)
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"export.format={name} needs more packages: pip install {' '.join(missing)}")
    return FORMATS[name]
