"""Parsed splits on disk, as memory-mapped arrays in the user's cache folder, never beside their source."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from fer.data.base import Split
from fer.files import atomic_write

_FORMAT = 2
"""Increase this when a reader returns different arrays for the same files."""
_UNUSABLE = (OSError, ValueError, KeyError, EOFError)
"""Raised for entries that are missing, empty or cut short."""


def folder() -> Path:
    """Return the folder in `FER_CACHE` if it is set, else the user's cache folder for fer."""
    return Path(os.environ.get("FER_CACHE") or platformdirs.user_cache_dir("fer"))


def stamp(path: Path, *settings: Any) -> str:
    """Return a key for the content of `path` and for `settings`.

    It changes with the name, size or modification time of any file below `path`.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    rows = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr((_FORMAT, str(path.resolve()), rows, settings)).encode()).hexdigest()[:32]


def cached(key: str, read: Callable[[], dict[str, Split]], notes: list[str]) -> dict[str, Split]:
    """Return the splits stored under `key`, with memory-mapped images, or store the result of `read` first.

    What `read` adds to `notes`, such as the number of files that it leaves out, is stored too, and added each time.

    An entry appears only when it is complete, so a killed or failed writer leaves none. If the folder cannot be
    written, the splits are returned from memory.
    """
    target = folder() / key
    try:
        return _load(target, notes)
    except _UNUSABLE:
        splits = read()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, unique=True) as part:
            _store(part, splits, notes)
        return _load(target, [])
    except _UNUSABLE:
        return splits


def _load(target: Path, notes: list[str]) -> dict[str, Split]:
    contents = json.loads((target / "contents.json").read_text(encoding="utf-8"))
    splits = {}
    for name in contents["splits"]:
        images = np.load(target / f"{name}_images.npy", mmap_mode="r")
        splits[name] = Split(images, np.load(target / f"{name}_labels.npy"), tuple(contents["classes"]))
    notes += contents["notes"]
    return splits


def _store(target: Path, splits: dict[str, Split], notes: list[str]) -> None:
    target.mkdir()
    for name, split in splits.items():
        np.save(target / f"{name}_images.npy", split.images)
        np.save(target / f"{name}_labels.npy", split.labels)
    classes = next(iter(splits.values())).classes
    contents = json.dumps({"splits": list(splits), "classes": classes, "notes": notes})
    (target / "contents.json").write_text(contents, encoding="utf-8")
