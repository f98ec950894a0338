"""Where frames come from. Every file of this folder is imported, so a new source is one new file."""

import importlib
import pkgutil

from fer.checks import check_number
from fer.errors import SourceError
from fer.stream.sources.base import OPENERS, Kind, Request, Source, opener

__all__ = ["OPENERS", "Kind", "Request", "Source", "open_source", "opener"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def open_source(source: int | str | None, threads: int | None = None, retry_for: float = 0.0) -> Source:
    """Open a camera index, an image, a folder or pattern of images, a video file or a URL.

    The registered openers are asked in turn, the latest first; the first one that recognizes the source opens it.

    Args:
        source: What to open, such as `0`, `"photo.jpg"`, `"party/*.jpg"`, `"clip.mp4"` or `"rtsp://host/stream"`.
        threads: Number of decoding threads, None for the decoder's default.
        retry_for: Seconds that a live source may be away before the run ends.

    Raises:
        SourceError: The source is missing, empty or cannot be read.
        ConfigError: `threads` or `retry_for` is out of range.
    """
    check_number("threads", threads, 1, 256, whole=True, optional=True)
    check_number("retry_for", retry_for, 0, 1e9)
    if source is None or source == "":
        raise SourceError("no source; give one, as in source=clip.mp4, source=photo.jpg or source=0 for the camera")
    request = Request(source, threads, float(retry_for))
    try:
        for ask in reversed(OPENERS.values()):
            if (opened := ask(request)) is not None:
                return opened
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror}; check the path and its permissions") from None
    raise SourceError(f"no file {source}; check the path")
