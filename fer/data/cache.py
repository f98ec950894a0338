"""Parsed splits on disk, as memory-mapped arrays in the user's cache folder, never beside their source."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from fer.data.base import Split

_FORMAT = 1
"""Raise it when a reader starts to give other arrays for the same files."""
_DEPTHS = ("*", "*/*", "*/*/*")
_TORN = (OSError, ValueError, KeyError, EOFError)
"""What reading a file that a crash of the machine left empty or cut short ends in."""


def folder() -> Path:
    """`FER_CACHE` where it is set, else the user's cache folder for fer."""
    return Path(os.environ.get("FER_CACHE") or platformdirs.user_cache_dir("fer"))


def stamp(path: Path, *settings: Any) -> str:
    """A key for what `path` holds now: it changes with the name, size or modification time of any file down to three
    folders below it, as deep as readers that are cached look."""
    files = sorted(p for depth in _DEPTHS for p in path.glob(depth) if p.is_file()) if path.is_dir() else [path]
    rows = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr((_FORMAT, str(path.resolve()), rows, settings)).encode()).hexdigest()[:32]


def cached(key: str, read: Callable[[], dict[str, Split]]) -> dict[str, Split]:
    """The splits kept under `key`, images memory-mapped; `read()` makes them the first time.

    They are written under a temporary name and renamed, so a killed or failed writer leaves nothing behind its
    name. Where the folder cannot be written, the splits are returned from memory.
    """
    target = folder() / key
    try:
        return _load(target)
    except _TORN:
        splits = read()
    try:
        _store(target, splits)
        return _load(target)
    except _TORN:
        return splits


def _load(target: Path) -> dict[str, Split]:
    contents = json.loads((target / "contents.json").read_text())
    return {
        name: Split(
            np.load(target / f"{name}_images.npy", mmap_mode="r"),
            np.load(target / f"{name}_labels.npy"),
            tuple(contents["classes"]),
        )
        for name in contents["splits"]
    }


def _store(target: Path, splits: dict[str, Split]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, split in splits.items():
            np.save(part / f"{name}_images.npy", split.images)
            np.save(part / f"{name}_labels.npy", split.labels)
        classes = next(iter(splits.values())).classes
        (part / "contents.json").write_text(json.dumps({"splits": list(splits), "classes": classes}))
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
