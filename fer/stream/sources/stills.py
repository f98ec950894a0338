"""Reading stills: one image, and which images a folder holds."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from fer.errors import SourceError
from fer.files import read
from fer.stream.types import Array

_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff"}
IMAGE_SUFFIXES = frozenset(_PHOTOS | {".pbm", ".pgm", ".ppm", ".pnm", ".hdr", ".exr"})
"""Endings of what is read as a still. Anything else is tried as a video, so a moving GIF moves."""

_LARGEST = 2 << 30
"""Bytes of a file: the most pixels that `fer` lets OpenCV decode, of 16 bits and without compression, are 1.5 GB."""

_turn = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence C libraries, which know no other way to complain than to write to standard error.

    Threads take turns, or one would take the other's silence for what standard error was, and put that back for good.
    """
    with _turn:
        sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def read_image(path: Path) -> Array:
    """A still as uint8 (H, W, 3) RGB: upright by its EXIF orientation, 16 bits reduced to 8, alpha dropped.

    Raises `SourceError` where it cannot be read whole.
    """
    try:
        data = np.frombuffer(read(path, _LARGEST), np.uint8)  # imread mistakes non-ASCII names on Windows
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the file and its permissions") from None
    image = None
    try:
        with quiet():
            image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if "_MAX_IMAGE_" in str(error):
            raise SourceError(f"{path} has more pixels than can be worked with; save it smaller") from None
    if image is None or image.ndim != 3 or image.dtype != np.uint8:  # OpenCV leaves grey PFM grey
        raise SourceError(
            f"{path} is not an image that can be read: no known format, or cut short; save it as PNG or JPEG"
        )
    return image


def images_in(path: Path) -> list[Path]:
    """The images of a folder, sorted by name, `frame_2` before `frame_10`; hidden files are left out.

    Raises `SourceError` where there are none.
    """
    files = sorted(filter(_is_image, path.iterdir()), key=by_number)
    if not files:
        deeper = next((p.parent for p in path.rglob("*") if _is_image(p)), None)
        hint = f"; there are some in {deeper}" if deeper else "; put .jpg or .png files there"
        raise SourceError(f"no images in {path}{hint}, or give source=<file>")
    return files


def _is_image(path: Path) -> bool:
    suffixes = IMAGE_SUFFIXES | {".gif"}
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def by_number(path: Path) -> list[tuple[int, str]]:
    """The key that sorts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path.name)]
