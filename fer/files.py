"""Files of a user: where a path leads, reading one within bounds, and writing one whole."""

import errno
import json
import os
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


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, text as UTF-8; what UTF-8 cannot hold, such as the bytes of a file name in
    another encoding, as \\x escapes. Raises `OSError`."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
