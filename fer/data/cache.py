"""Parsed splits on disk, as memory-mapped arrays in the user's cache folder, never beside their source."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from fer.data.base import Split
from fer.files import atomic_write

_FORMAT = 2
"""Increase this when a reader returns different arrays for the same files."""
_log = logging.getLogger("fer.data")
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


@contextmanager
def _collected() -> Iterator[list[tuple[int, str]]]:
    """Collect what is logged in `fer.data`, as levels and lines, and pass it on at the end."""
    handler, level = BufferingHandler(1_000_000), _log.level
    lines: list[tuple[int, str]] = []
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    try:
        yield lines
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        _log.propagate = True
        lines += [(record.levelno, record.getMessage()) for record in handler.buffer]
        _say(lines)


def _say(lines: list[tuple[int, str]]) -> None:
    for level, line in lines:
        _log.log(level, "%s", line)


def cached(key: str, read: Callable[[], dict[str, Split]]) -> dict[str, Split]:
    """Return the splits stored under `key`, with memory-mapped images, or store the result of `read` first.

    What `read` logs, such as the number of files that it leaves out, is stored too, and logged each time.

    An entry appears only when it is complete, so a killed or failed writer leaves none. If the folder cannot be
    written, the splits are returned from memory.
    """
    target = folder() / key
    try:
        splits, lines = _load(target)
    except _UNUSABLE:
        with _collected() as lines:
            splits = read()
    else:
        _say(lines)
        return splits
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, unique=True) as part:
            _store(part, splits, lines)
        return _load(target)[0]
    except _UNUSABLE:
        return splits


def _load(target: Path) -> tuple[dict[str, Split], list[tuple[int, str]]]:
    contents = json.loads((target / "contents.json").read_text(encoding="utf-8"))
    splits = {}
    for name in contents["splits"]:
        images = np.load(target / f"{name}_images.npy", mmap_mode="r")
        splits[name] = Split(images, np.load(target / f"{name}_labels.npy"), tuple(contents["classes"]))
    return splits, contents["log"]


def _store(target: Path, splits: dict[str, Split], log: list[tuple[int, str]]) -> None:
    target.mkdir()
    for name, split in splits.items():
        np.save(target / f"{name}_images.npy", split.images)
        np.save(target / f"{name}_labels.npy", split.labels)
    classes = next(iter(splits.values())).classes
    contents = json.dumps({"splits": list(splits), "classes": classes, "log": log})
    (target / "contents.json").write_text(contents, encoding="utf-8")
