"""Files of a user: where a path leads, and writing one whole."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~name` replaced by home folders; where there is no such user, `~name` is a file's name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser refuses such names with a RuntimeError)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, text as UTF-8; what UTF-8 cannot hold, such as the bytes of a file name in
    another encoding, as \\x escapes. Raises `OSError`."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
