"""Paths of the user, and the one way to write a file."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Return the path with `~` and `~name` replaced by home folders. `~name` stays if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises RuntimeError for such names)


def without_folders(text: str, spaces: bool = False) -> str:
    """Return `text` with every absolute path in it cut to its last part.

    Args:
        text: Such as an override, or a message to publish.
        spaces: Paths may contain spaces, as in an override.
    """
    inside = r"[^,\[\]{}'\"]*" if spaces else r"[^\s,\[\]{}'\"]*"
    return re.sub(rf"(?<![\w.:/…~])(?:(?:[A-Za-z]:)?/{inside}/|~/(?:{inside}/)?)(?=[^/])", "…/", text)


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
