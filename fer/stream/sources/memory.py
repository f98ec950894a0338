"""Pictures that a Python program holds already: arrays, tensors, PIL images, bytes and iterators of them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import inf, isfinite
from numbers import Real
from os import PathLike, fspath
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fer.errors import SourceError
from fer.faces.types import Array
from fer.files import expand
from fer.images import is_image, pixels_of, read_image
from fer.stream.sources.base import Kind, Source, believable_rate
from fer.stream.sources.stills import Stills, open_picture, read_still
from fer.stream.types import Frame

_CHANNELS = (1, 3, 4)
_PICTURE = "give a path, an array or tensor of uint8 (H, W, 3) RGB, a PIL image, or the bytes of a picture"


def open_memory(given: Any) -> Source:
    """Open anything that is neither text nor a number.

    A list, tuple or batch (N, H, W, 3) holds pictures, each on its own. Any other iterable is a video of 30 frames per
    second, or one with times of its own if it yields pairs (seconds, picture). Whatever yields paths holds pictures.

    Raises:
        SourceError: It is nothing of the kind, or empty.
    """
    if getattr(given, "ndim", 0) == 4 or getattr(getattr(given, "dtype", None), "kind", "") == "U":
        given = list(given)
    if isinstance(given, bytes) and (opened := open_picture(given, "memory")):
        return opened
    if isinstance(given, Mapping) or not isinstance(given, Iterable) or _is_picture(given):
        return Memory("image", [as_rgb(given)])
    items = iter(given)
    try:
        first = next(items)
    except StopIteration:
        raise SourceError("no pictures were given; the list or iterator is empty") from None
    items = chain([first], items)
    if isinstance(first, str | PathLike):
        return _open_files(list(items))
    collected = isinstance(given, list | tuple) and not _is_pair(first)
    return Memory("folder" if collected else "video", items, len(given) if isinstance(given, list | tuple) else None)


def _open_files(given: list[Any]) -> Source:
    if wrong := [type(each).__name__ for each in given if not isinstance(each, str | PathLike)]:
        raise SourceError(f"paths and {wrong[0]} are mixed; give either paths or pictures")
    files = [expand(fspath(each)).absolute() for each in given]
    if missing := [str(name) for name, file in zip(given, files, strict=True) if not file.is_file()]:
        raise SourceError(f"no file {missing[0]} ({len(missing)} of {len(files)} are missing); check the paths")
    if other := next((file for file in files if not is_image(file)), None):
        raise SourceError(f"{other} is not a picture; for films, give stream() one after the other")
    return Stills(Path(commonpath([file.parent for file in files])), files)


class Memory(Source):
    """Pictures from memory; see `as_rgb` and `open_memory`.

    Args:
        kind: "image" or "folder" for stills, "video" for consecutive frames.
        items: The pictures, or for a video pairs (seconds, picture) as well. They are read in another thread.
        total: How many there are, None if unknown.
    """

    name = "memory"

    def __init__(self, kind: Kind, items: Iterable[Any], total: int | None = None) -> None:
        super().__init__()
        self.kind, self.total, self._items = kind, total, items
        self.rate = None if self.still else believable_rate()

    def __iter__(self) -> Iterator[Frame]:
        time = -inf
        for index, item in enumerate(self._items):
            if self.rate is None:
                yield Frame(as_rgb(item), index, 0.0, file="")
                continue
            given, picture = item if _is_pair(item) else (float(index / self.rate), item)
            time = check_time(given, time)
            yield Frame(as_rgb(picture).copy(), index, time)  # a program may use one array for all its frames


def check_time(time: Any, last: float) -> float:
    """Return the `time` of a frame in seconds. Raise `SourceError` unless it is later than that of the `last` frame."""
    if not isinstance(time, Real) or isinstance(time, bool) or not isfinite(time):
        raise SourceError(f"time={str(time)[:40]!r} must be a number of seconds")
    if time <= last:
        raise SourceError(f"time={time:g} follows {last:g}; give seconds that increase from frame to frame")
    return float(time)


def as_rgb(given: Any) -> Array:
    """Return a picture as uint8 (H, W, 3) RGB.

    Args:
        given: A path, the bytes of a picture file, a file opened in binary mode, a PIL image of any mode (turned
            upright by its EXIF orientation), or an array or tensor: (H, W), (H, W, C) or (C, H, W) with C of 1, 3 (RGB)
            or 4 (RGB and alpha, which is laid over white), of uint8, bool, or uint16 from 0 to 65535.

    Raises:
        SourceError: It is none of these or empty. The range of floats and other integers is unknown, so they are
            refused.
    """
    if isinstance(given, str | PathLike):
        return read_still(expand(fspath(given)))
    try:
        if hasattr(given, "read"):
            given = given.read()
        if isinstance(given, Image.Image):
            given = ImageOps.exif_transpose(given) if given.mode[0] in "IF" else pixels_of(given)
        elif isinstance(given, bytes | bytearray | memoryview):
            given = read_image(bytes(given))
        elif hasattr(given, "detach"):
            given = given.detach().cpu().numpy()
        array = np.asarray(given)
    except Exception as error:  # of libraries that made the picture, whatever they raise
        why = getattr(error, "strerror", None) or error
        raise SourceError(f"{type(given).__name__} cannot be read as a picture ({why}); {_PICTURE}") from None
    return _rgb(array, type(given).__name__)


def _rgb(array: Array, name: str) -> Array:
    found = f"{array.dtype} {array.shape}"
    if array.dtype.kind in "OUSMm" or array.ndim == 0:
        raise SourceError(f"{name} is not one picture; {_PICTURE}; stream() takes lists and iterators of them")
    if array.ndim == 3 and array.shape[2] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = np.moveaxis(array, 0, 2)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        several = "; stream() takes several pictures" if array.ndim == 4 else ""
        raise SourceError(f"{found} is not one picture; give (H, W, 3) RGB or (H, W) grey{several}")
    if not array.size:
        raise SourceError(f"the picture is empty: {found}; check how it was read or cropped")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and not 0 < array.max() < 256:  # below, it holds 8 bits
        array = array // 257
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype != np.uint8:
        fix = "(image * 255).astype(np.uint8) if it is from 0 to 1, image.astype(np.uint8) if it is from 0 to 255"
        raise SourceError(f"the range of {found} is unknown; give uint8: {fix}")
    if array.shape[2] == 4:
        return pixels_of(Image.fromarray(array.astype(np.uint8)))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)), np.uint8)


def _is_picture(given: Any) -> bool:
    return isinstance(given, bytes | bytearray | memoryview) or any(hasattr(given, n) for n in ("read", "__array__"))


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2
