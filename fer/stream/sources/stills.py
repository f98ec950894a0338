"""Photos: one image, or those of a folder or pattern."""

import glob
import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from fer.errors import SourceError
from fer.faces.types import Array
from fer.images import IMAGE_SUFFIXES, count_frames, is_image, is_side_file, kind_of, read_image
from fer.stream.sources.animations import Animation
from fer.stream.sources.base import Kind, Request, Source, opener
from fer.stream.sources.files import FILM_SUFFIXES
from fer.stream.types import Frame

SEARCHED = 1000
"""Files that are looked at in a folder below, for one that is an image."""


@opener("stills")
def open_stills(request: Request) -> Source | None:
    """Open an image, a folder of images, or a pattern that matches images."""
    path = request.path
    if path is None:
        return None
    if path.is_file():
        return open_picture(path, path.name)
    files = files_of(path)
    if not path.is_dir() and not glob.has_magic(str(path)):
        return None
    images = [file for file in files if is_image(file)]
    others = [file for file in set(files).difference(images) if not is_side_file(file)]
    films = sorted(file for file in others if file.suffix.lower() in FILM_SUFFIXES)
    if not images:
        if films:  # infer.py has taken them for a batch
            raise SourceError(f"{path} holds films and no images; give stream() one film after the other")
        fix = 'give source=<file>, or a pattern such as source="party/**/*.jpg"'
        raise SourceError(f"no images and no films in {path}; {fix}")
    source = Stills(path, sorted(images, key=lambda file: (file.parent, by_number(file))))
    if others:
        what = f"{count(others, 'file is not an image and was', 'files are not images and were')} not read"
        fix = f'; films are read with source="{films[0].with_name(f"*{films[0].suffix}")}"' if films else ""
        source.notes.append(f"{source.name}: {what}, such as {min(others).name}{fix}")
    if path.is_dir() and (below := [each for each in path.iterdir() if _has_images(each)]):
        what = f"{count(below, 'folder', 'folders')} of images below it not read, such as {min(below).name}"
        source.notes.append(f'{source.name}: {what}; give source="{path}/**"')
    return source


def files_of(path: Path) -> list[Path]:
    """Return the files of a folder or pattern; none if the path is neither."""
    pattern = f"{glob.escape(str(path))}/*" if path.is_dir() else str(path)
    if path.is_file() or not glob.has_magic(pattern):
        return []
    matches = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
    return [match for match in matches if match.is_file()]


def count(things: Collection[object], one: str, several: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else several}"


def _has_images(folder: Path) -> bool:
    return not folder.name.startswith(".") and any(
        file.suffix.lower() in IMAGE_SUFFIXES for file in islice(folder.rglob("*"), SEARCHED)
    )


def open_picture(content: Path | bytes, name: str) -> Source | None:
    """Open a picture, judged by its content: a still, or an animation, which is a video. None if it is neither.

    Args:
        content: The file, or its content.
        name: The name used in messages.

    Raises:
        SourceError: It cannot be read.
        OSError: The file cannot be opened.
    """
    kind = kind_of(content)
    if kind is None:
        return None
    return Animation(content, name) if kind == "animation" else Still(content, name)


class Still(Source):
    """A single image, read at once, so that `SourceError` is raised before a model is loaded. See `open_picture`."""

    kind: Kind = "image"
    total = 1

    def __init__(self, content: Path | bytes, name: str) -> None:
        super().__init__()
        self.name, self.path = name, content if isinstance(content, Path) else None
        self._image = read_still(content, None if self.path else name)
        if (pages := count_frames(content)) > 1:
            self.notes.append(f"{name}: the first of its {pages} pages is used")

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0, file=self.name)


class Stills(Source):
    """Several images, in the given order. An unreadable one becomes a `Frame` with an `error` and adds a note.

    Args:
        path: The folder or pattern of the images.
        files: The images. Their `names` are their paths below the deepest folder that contains all of them.
    """

    kind: Kind = "folder"

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__()
        self.path, self.files, self.total = path, files, len(files)
        self.name = f"{path.resolve().name}/" if path.is_dir() else path.name
        root = os.path.commonpath([file.parent for file in files])
        self.names = [file.relative_to(root).as_posix() for file in files]

    def __iter__(self) -> Iterator[Frame]:
        several = []
        for index, (path, name) in enumerate(zip(self.files, self.names, strict=True)):
            try:
                yield Frame(read_still(path), index, 0.0, file=name)
                several += [name] if count_frames(path) > 1 else []
            except (SourceError, OSError) as error:
                self.notes.append(f"{error} (see its row in the log)")
                yield Frame(np.zeros((0, 0, 3), np.uint8), index, 0.0, file=name, error=str(error))
        if several:
            what = f"{count(several, 'image has', 'images have')} several frames or pages; the first is used"
            self.notes.append(f"{self.name}: {what}, as of {several[0]}; give an animation as source=<file> to play it")


def read_still(content: Path | bytes, name: str | None = None) -> Array:
    """Read an image as uint8 (H, W, 3) RGB. Raise `SourceError` with its name if it cannot be read, or is cut short."""
    try:
        return read_image(content)
    except OSError as error:
        why = f"{name or str(content)} cannot be read as an image ({error.strerror})"
        raise SourceError(f"{why}; check the file, or save it again as PNG or JPEG") from None


def by_number(path: Path) -> list[tuple[int, str]]:
    """Sort key by name that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path.name)]
