"""Photos: one image, or those of a folder or pattern."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer.errors import SourceError
from fer.images import read_image
from fer.stream.sources.base import Kind, Request, Source, opener
from fer.stream.types import Array, Frame

_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff"}
IMAGE_SUFFIXES = frozenset(_PHOTOS | {".pbm", ".pgm", ".ppm", ".pnm", ".hdr", ".exr"})
"""Endings of stills. Any other file is opened as a video, even a GIF, unless it is one of a folder of images."""


@opener("stills")
def open_stills(request: Request) -> Source | None:
    """Open an image, a folder of images, or a pattern that matches images."""
    path = request.path
    if path is None or (path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES):
        return None
    if path.is_file():
        return Stills("image", path, [path])
    pattern = f"{glob.escape(str(path))}/*" if path.is_dir() else str(path)
    if not glob.has_magic(pattern):
        return None
    matches = (Path(name) for name in glob.glob(pattern))  # noqa: PTH207 (a pattern may be absolute)
    images = [file for file in matches if file.suffix.lower() in IMAGE_SUFFIXES | {".gif"} and file.is_file()]
    if not images:
        raise SourceError(f'no images in {path}; give source=<file>, or a pattern such as source="party/*/*.jpg"')
    return Stills("folder", path, sorted(images, key=lambda file: (file.parent, by_number(file))))


class Stills(Source):
    """One or several images, in the given order. An unreadable one becomes a `Frame` with an `error` and adds a note.

    A single image is read at once, so that `SourceError` is raised before a model is loaded.

    Args:
        kind: "image" or "folder".
        path: The image, or the folder or pattern of the images.
        files: The images. Their `names` are their paths below the deepest folder that contains all of them.
    """

    def __init__(self, kind: Kind, path: Path, files: list[Path]) -> None:
        super().__init__()
        self.kind, self.path, self.files, self.total = kind, path, files, len(files)
        self.name = f"{path.resolve().name}/" if path.is_dir() else path.name
        root = os.path.commonpath([file.parent for file in files])
        self.names = [file.relative_to(root).as_posix() for file in files]
        self._image = read_still(path) if kind == "image" else None

    def __iter__(self) -> Iterator[Frame]:
        for index, (path, name) in enumerate(zip(self.files, self.names, strict=True)):
            try:
                image = read_still(path) if self._image is None else self._image
                yield Frame(image, index, 0.0, file=name)
            except SourceError as error:
                self.notes.append(f"{error} (see its row in the log)")
                yield Frame(np.zeros((0, 0, 3), np.uint8), index, 0.0, file=name, error=str(error))


def read_still(path: Path) -> Array:
    """Read an image as uint8 (H, W, 3) RGB. Raise `SourceError` if it cannot be read, or is cut short."""
    try:
        return read_image(path)
    except OSError as error:
        why = f"{path} cannot be read as an image ({error.strerror})"
        raise SourceError(f"{why}; check the file, or save it again as PNG or JPEG") from None


def by_number(path: Path) -> list[tuple[int, str]]:
    """Sort key by name that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path.name)]
