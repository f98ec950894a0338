"""Trust in TorchScript files: they can run code, so files made elsewhere must be trusted before they are loaded."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from fer.artifact.hub import DEFAULTS, digest, local
from fer.errors import ArtifactError

INCLUDED = Path(__file__).parents[1] / "weights"
"""Folder of the models that come with this package."""
_in_this_process: set[str] = set()  # in case the list cannot be written


def list_file() -> Path:
    """Return the list of trusted files (digest and name per line): `FER_TRUST`, or a file in the user's data folder."""
    return Path(os.environ.get("FER_TRUST") or platformdirs.user_data_path("fer") / "trusted.txt")


def add(path: Path) -> None:
    """Trust the content of a file. It may be moved, but not changed."""
    known = digest(path)
    if known in _trusted():
        return
    _in_this_process.add(known)
    with contextlib.suppress(OSError):
        list_file().parent.mkdir(parents=True, exist_ok=True)
        name = path.name.encode("unicode_escape").decode()  # a line break in a name cannot add a line
        with list_file().open("a", encoding="utf-8") as file:
            file.write(f"{known} {name}\n")


def accept(paths: Iterable[object], defaults: tuple[str, ...] = DEFAULTS) -> None:
    """Trust those of `paths` that are artifacts, as `trust=true` on the command line asks. Checkpoints run no code.

    `defaults` are those with which the models are loaded, as in `fer.artifact.find`.
    """
    for path in paths:
        if isinstance(path, str | Path) and (file := local(path, defaults)).is_file() and file.suffix != ".ckpt":
            add(file)


def check(path: Path) -> None:
    """Check that a file comes with this package, was made on this computer, or was trusted before.

    Raises:
        ArtifactError: It is none of these.
    """
    if path.resolve().parent == INCLUDED.resolve():
        return
    known = digest(path)
    if known not in _trusted() and known not in {digest(file) for file in INCLUDED.glob("*.ts")}:
        raise ArtifactError(
            f"{path} was not made on this computer, and a TorchScript file can run code; if you trust its source, add "
            "trust=true on the command line (once), or ask its maker for an .onnx"
        )


def _trusted() -> set[str]:
    try:
        lines = list_file().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return _in_this_process.union(line[:64] for line in lines)
