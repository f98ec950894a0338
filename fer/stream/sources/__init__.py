"""Where frames come from. Every file of this folder is imported, so a new source is one new file."""

import importlib
import pkgutil
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from fer.checks import check_number
from fer.errors import SourceError
from fer.stream.sources.base import OPENERS, Kind, Request, Source, opener
from fer.stream.sources.files import open_video
from fer.stream.sources.memory import open_memory

__all__ = ["OPENERS", "Kind", "Request", "Source", "open_source", "opener"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def open_source(source: Any, threads: int | None = None, retry_for: float = 0.0) -> Source:
    """Open a camera index, an image, a folder or pattern of images, a video file or a URL.

    The registered openers are asked in turn, the latest first; the first one that recognizes the source opens it. Any
    other file is opened as a video.

    Args:
        source: What to open, such as `0`, `"photo.jpg"`, `"party/*.jpg"`, `"clip.mp4"` or `"rtsp://host/stream"`, or
            pictures in memory: see `fer.stream.sources.memory.open_memory`.
        threads: Number of decoding threads, None for the decoder's default.
        retry_for: Seconds that a live source may be away before the run ends.

    Raises:
        SourceError: The source is missing, empty or cannot be read.
        ConfigError: `threads` or `retry_for` is out of range.
    """
    check_number("threads", threads, 1, 256, whole=True, optional=True)
    check_number("retry_for", retry_for, 0, 1e9)
    if isinstance(source, PathLike):
        source = fspath(source)
    if source is None or (isinstance(source, str) and not source):
        raise SourceError("no source; give one, as in source=clip.mp4, source=photo.jpg or source=0 for the camera")
    index = isinstance(source, str) and source.isdecimal() and len(source) < 4 and not Path(source).exists()
    if index or isinstance(source, np.integer):
        source = int(source)
    if isinstance(source, bool) or not isinstance(source, int | str):
        return open_memory(source)
    request = Request(source, threads, float(retry_for))
    try:
        for ask in (*reversed(OPENERS.values()), open_video):
            if (opened := ask(request)) is not None:
                return opened
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror}; check the path and its permissions") from None
    raise SourceError(f"no file {source}; check the path")
