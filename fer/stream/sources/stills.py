"""Photos: one image, or those of a folder or pattern."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fer.errors import SourceError
from fer.images import read_image
from fer.stream.sources.base import Kind, Request, Source, opener
from fer.stream.types import Array, Frame

_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff"}
IMAGE_SUFFIXES = frozenset(_PHOTOS | {".pbm", ".pgm", ".ppm", ".pnm", ".hdr", ".exr"})
"""Endings of what is read as a still. Anything else is tried as a video, so a moving GIF moves."""

_silencing = threading.Lock()


def is_still(path: Path) -> bool:
    """Whether a file is read as a still; decided by its ending."""
    return path.suffix.lower() in IMAGE_SUFFIXES


@opener("stills")
def open_stills(request: Request) -> Source | None:
    """Open an image, a folder of images, or a pattern that matches images."""
    path = request.path
    if path is None:
        return None
    if path.is_dir():
        return Folder(path, images_in(path))
    if images := [file for file in request.matches() if is_still(file)]:
        return Folder(path, sorted(images, key=lambda file: (file.parent, by_number(file))))
    return Image(path) if is_still(path) and path.is_file() else None


class Image(Source):
    """One still. Raise `SourceError` if it cannot be read."""

    kind: Kind = "image"
    total = 1

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.files, self.name = path, (path,), path.name
        self._image = read_still(path)

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0, file=self.name)


class Folder(Source):
    """Several images, in the given order. One that cannot be read becomes a `Frame` with an `error`, and a note.

    Args:
        path: Their folder, or the pattern that matches them.
        files: The images. Frames are named by their paths below the deepest folder that holds all of them.
    """

    kind: Kind = "folder"

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__()
        self.path, self.files, self.total = path, tuple(files), len(files)
        self.name = f"{path.resolve().name}/" if path.is_dir() else path.name
        root = os.path.commonpath([file.parent for file in files])
        self.names = [file.relative_to(root).as_posix() for file in files]

    def __iter__(self) -> Iterator[Frame]:
        for index, (path, name) in enumerate(zip(self.files, self.names, strict=True)):
            try:
                yield Frame(read_still(path), index, 0.0, file=name)
            except SourceError as error:
                self.notes.append(f"{error} (its row says so)")
                yield Frame(np.zeros((0, 0, 3), np.uint8), index, 0.0, file=name, error=str(error))


def read_still(path: Path) -> Array:
    """Read an image as uint8 (H, W, 3) RGB. Raise `SourceError` if it cannot be read, or is cut short."""
    try:
        with quiet():
            return read_image(path)
    except OSError as error:
        why = f"{path} cannot be read as an image ({error.strerror})"
        raise SourceError(f"{why}; check the file, or save it again as PNG or JPEG") from None


def images_in(path: Path) -> list[Path]:
    """The visible images of a folder, `frame_2` before `frame_10`. Raise `SourceError` if there are none."""
    files = sorted(filter(_is_listed, path.iterdir()), key=by_number)
    if not files:
        deeper = next((p.parent for p in path.rglob("*") if _is_listed(p)), None)
        hint = f"; there are some in {deeper}" if deeper else "; put .jpg or .png files there"
        raise SourceError(f"no images in {path}{hint}, or give source=<file>")
    return files


def _is_listed(path: Path) -> bool:
    still = is_still(path) or path.suffix.lower() == ".gif"
    return still and not path.name.startswith(".") and path.is_file()


def by_number(path: Path) -> list[tuple[int, str]]:
    """The sort key that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path.name)]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence C libraries, which write their complaints to standard error.

    One thread at a time: two would restore each other's redirection, and leave standard error closed for good.
    """
    with _silencing, Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
