"""Where frames come from. Every file of this folder is imported, so a new source is one new file."""

import difflib
import importlib
import pkgutil
from pathlib import Path

from fer.checks import check_number
from fer.errors import SourceError
from fer.stream.sources.base import OPENERS, Kind, Request, Source, opener
from fer.stream.sources.files import open_video

__all__ = ["OPENERS", "Kind", "Request", "Source", "open_source", "opener"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def open_source(source: int | str | None, threads: int | None = None, retry_for: float = 0.0) -> Source:
    """Open a camera index, an image, a folder or pattern of images, a video file or a URL.

    This is where it is decided what a source is: the registered openers are asked, the latest first, and a file that
    none of them wants is opened as a video.

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
    path = request.path
    try:
        if path is not None and path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
        for ask in reversed(OPENERS.values()):
            if (opened := ask(request)) is not None:
                return opened
        matches = request.matches()
        if len(matches) > 1:
            raise SourceError(f"{path} matches {len(matches)} files and no image among them; give one video at a time")
        video = matches[0] if matches else path
        if video is None or not video.exists():
            raise SourceError(f"no file {source}; check the path{_neighbour(Path(str(source)))}")
        return open_video(video, threads)
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror}; check the path and its permissions") from None


def _neighbour(path: Path) -> str:
    """What to say of the nearest thing that does exist."""
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f", or did you mean {path.parent / close[0]}?" if close else ""
