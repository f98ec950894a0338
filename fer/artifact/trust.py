"""Which TorchScript files are loaded: such a file can run code, so one made elsewhere has to be trusted first."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from fer.errors import ArtifactError
from fer.files import expand, read, regular

INCLUDED = Path(__file__).parents[1] / "weights"
_in_this_process: set[str] = set()  # also where the list cannot be written


def list_file() -> Path:
    """The list of trusted files, one digest and name a line: `FER_TRUST` where it is set, else in the user's data.

    Raises `RuntimeError` for a user without a home.
    """
    return Path(os.environ.get("FER_TRUST") or platformdirs.user_data_path("fer") / "trusted.txt")


def digest(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits. Raises `ArtifactError` where it cannot be read."""
    try:
        with regular(Path(path)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"cannot read {path} ({error.strerror}); give another model file") from None


def add(path: str | Path, name: str | None = None) -> None:
    """Trust the file that lies at `path`, wherever it is moved, until it is changed. name: what the list calls it."""
    known = digest(path)
    if known in _in_this_process or known in _listed():
        return
    _in_this_process.add(known)
    with contextlib.suppress(OSError, RuntimeError):
        place = list_file()
        if place.exists():
            regular(place)  # a pipe would be waited for
        place.parent.mkdir(parents=True, exist_ok=True)
        shown = (name or Path(path).name).encode("unicode_escape").decode()
        with place.open("a", encoding="utf-8") as file:  # one short write, which other processes do not come between
            file.write(f"{known} {shown}\n")


def accept(paths: Iterable[object]) -> None:
    """Trust those of `paths` that are files: what `trust=true` of the programs does."""
    for path in paths:
        if isinstance(path, str | Path) and expand(path).is_file():
            add(expand(path))


def check(path: str | Path) -> None:
    """Raises `ArtifactError` for a file that is not included with fer, was not made here and was never trusted."""
    if Path(path).resolve().parent == INCLUDED.resolve():
        return
    known = digest(path)
    included = (digest(file) for file in INCLUDED.glob("*.ts"))  # copies of which may lie anywhere
    if known not in _in_this_process and known not in _listed() and known not in included:
        raise ArtifactError(
            f"{path} was not made here, and a TorchScript file can run code; if you trust where it comes from, say "
            "trust=true (once), or ask its maker for an .onnx"
        )


def _listed() -> set[str]:
    try:
        return {line[:64] for line in read(list_file()).decode(errors="replace").splitlines()}
    except (OSError, RuntimeError):
        return set()
