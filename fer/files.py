"""Files of a user: where a path leads, reading one within bounds, and writing one whole."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fer.errors import ConfigError

_DEEPEST = 64
"""Levels of JSON that are taken: far more than any file of this project has, far less than Python can bear."""


def expand(path: str | Path) -> Path:
    """The path with `~` and `~name` replaced by home folders; where there is no such user, `~name` is a file's name.

    Raises `ConfigError` for what is no path, and for one that no system can have.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"{str(path)[:200]} is no path; give the name of a file or folder")
    if "\0" in str(path):
        raise ConfigError(f"a path cannot hold a NUL character: {str(path)[:200]!r}; take it out")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigError(f"no file can be called {str(path)[:200]!r}; give another path") from None
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser refuses such names with a RuntimeError)


def without_folders(text: str, spaces: bool = False) -> str:
    """Return `text` with every absolute path in it cut to its last part.

    Args:
        text: Such as an override, or a message to publish.
        spaces: Paths may contain spaces, as in an override.
    """
    inside = r"[^,\[\]{}'\"]*" if spaces else r"[^\s,\[\]{}'\"]*"
    return re.sub(rf"(?<![\w.:/…~])(?:(?:[A-Za-z]:)?/{inside}/|~/(?:{inside}/)?)(?=[^/])", "…/", text)


def regular(path: Path) -> Path:
    """`path`, which leads to a regular file. Raises `OSError`, also for a pipe, which may never come to its end, and
    for a device, which may have none."""
    if not path.is_file():
        path.stat()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path


def read(path: Path, most: int = 1 << 26) -> bytes:
    """The content of a regular file of up to `most` bytes. Raises `OSError`, also for any other."""
    if regular(path).stat().st_size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB", str(path))
    return path.read_bytes()


def unpacked(stream: IO[bytes], most: int) -> bytes:
    """The rest of a stream, of up to `most` bytes, that is unpacked as it is read. Raises `OSError` for any larger."""
    found = bytearray()
    # In small pieces: whatever is asked for of bzip2 and LZMA, Python unpacks whole what it has read for that.
    while piece := stream.read(4096):
        found += piece
        if len(found) > most:
            raise OSError(errno.EFBIG, f"it unpacks to more than {most >> 20} MB")
    return bytes(found)


def json_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that `text` holds. Raises `ValueError`, also where it is nested too deeply to be worked with."""
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    level, depth = [values], 0
    while level := [child for node in level for child in _children(node)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
    return values


def _children(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []


@contextmanager
def atomic_write(path: Path, *, sync: bool = False, unique: bool = False) -> Iterator[Path]:
    """Write a file or folder that appears under its name only when it is complete.

    Yields a hidden path beside `path`, with the same suffix. When the block ends, what was written there replaces
    `path`; when the block raises, it is removed and `path` stays as it was.

    Args:
        path: The file or folder to write. Its folder must exist.
        sync: Flush the file to the disk before it is renamed, so that it survives a power cut.
        unique: Several processes may write the same path at once; the last one wins.

    Raises:
        OSError: The file cannot be written.
    """
    part = path.with_name(f".{path.stem}{f'.{os.getpid()}' if unique else ''}.part{path.suffix}")
    _remove(part)
    try:
        yield part
        if sync:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        if part.is_dir():
            _remove(path)
        part.replace(path)
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or none. Text is UTF-8; what UTF-8 cannot encode becomes a backslash escape.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_write(path) as part:
        part.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
