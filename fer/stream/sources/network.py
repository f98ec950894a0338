"""URLs: pictures and films on web servers, and live streams."""

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av

from fer.errors import SourceError
from fer.faces.types import Array
from fer.images import kind_of
from fer.stream.sources.base import Clock, Request, Source, believable_rate, opener
from fer.stream.sources.files import Decoder, Video, open_container, picture_and_sound
from fer.stream.sources.live import Connection, Live
from fer.stream.sources.stills import open_picture

_SILENCE = 5.0
"""Seconds without data after which a connection counts as dropped."""
_PROBE = 2.0
"""Seconds of a stream that FFmpeg reads to find out what it holds."""
_START, _HEAD = 1 << 12, 1 << 16
"""Bytes by which a picture, and the format of a film, are known."""
_LARGEST_PICTURE, _LONGEST_FETCH = 1 << 26, 30.0
"""Bytes, and seconds in which they must arrive."""
_OPTIONS = {
    # No `file`: a playlist must not name files of this computer.
    "protocol_whitelist": "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt,crypto",
    "rtsp_transport": "tcp",  # RTSP over UDP loses packets
    "analyzeduration": str(round(_PROBE * 1e6)),
    # A film goes on where its connection broke, if the server can.
    "reconnect": "1",
    "reconnect_delay_max": "2",
}


@opener("network")
def open_network(request: Request) -> Source | None:
    """Open a URL: a picture or a film on a web server, or a live stream (RTSP, UDP, RTMP, SRT, a camera's HTTP, …)."""
    url = request.url
    if url is None:
        return None
    name, web = without_password(url), url.lower().startswith("http")
    if web and kind_of(_fetch(url, _START)) and (picture := _open_picture(url, name)):
        return picture
    access, start = partial(_open_url, url, name), time.monotonic()
    container = access()
    if web and container.format.name == "image2":  # FFmpeg believes a name, or a query, that ends as a picture's
        container.close()
        access, start = partial(_open_url, url, name, format=_format(url)), time.monotonic()
        container = access()
    if web and _has_end(container, time.monotonic() - start):
        container, reopen = _film(container, url, name, access)
        return Video(container, reopen, name, None, request.threads)
    first = _connected(container, request.threads)
    return Live("network", name, lambda: _connected(access(), request.threads), first, request.retry_for)


def without_password(url: str) -> str:
    """Return a URL without its user and password, to be shown and logged."""
    return re.sub(r"(?<=://)[^/]*@", "", url)  # up to the last @, because a password may contain one


def _open_url(url: str, name: str, format: str | None = None) -> Any:
    try:
        return open_container(url, name, format=format, options=_OPTIONS, timeout=(10.0, _SILENCE))
    except av.error.InvalidDataError:
        raise SourceError(f"{name} is neither a video nor an image that can be read; check the address") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot open {name}: {why}; check the address, and that it is sending") from None


def _connected(container: Any, threads: int | None) -> Connection:
    decoder, clock = Decoder(container, threads, "SLICE"), Clock()

    def frames() -> Iterator[tuple[float, Array]]:
        for stamp, image in decoder:
            seconds = time.monotonic() if stamp is None else stamp
            yield seconds + clock.offset(0, seconds), image

    video = decoder.stream
    return Connection(frames(), container.close, believable_rate(video.average_rate, video.guessed_rate))


def _has_end(container: Any, seconds: float) -> bool:
    """Whether what a web server sends is a film rather than a live stream.

    Args:
        container: The open PyAV container.
        seconds: How long it took to open. A live stream gives its first seconds no sooner than they happen.
    """
    formats = set(container.format.name.split(","))
    if formats & {"hls", "dash", "mpjpeg"}:  # their size is that of a playlist
        return bool(container.duration)
    whole = container.size > 0 or container.duration or formats & {"matroska", "mov", "avi"}
    return bool(whole) or seconds < 0.75 * _PROBE


def _film(container: Any, url: str, name: str, access: Callable[[], Any]) -> tuple[Any, Callable[[], Any]]:
    """Return the container of a film on a web server, and what opens it again.

    An MP4 whose index comes last is fetched first if the server cannot skip to it and back.
    """
    if "mov" not in container.format.name:
        return container, access
    readable = False
    with container, suppress(av.error.FFmpegError, OSError):
        readable = bool(next(container.demux(picture_and_sound(container)[0])).size)
    if readable:
        return access(), access
    print(f"{name} is fetched first, since its server cannot skip to the index at its end", file=sys.stderr)
    folder = TemporaryDirectory(prefix="fer_")
    with suppress(av.error.FFmpegError, OSError), Path(folder.name, "film").open("wb") as file:
        file.writelines(_fetched(url))

    def reopen() -> Any:
        # The folder is deleted with this function.
        return open_container(f"file:{folder.name}/film", name, options={"protocol_whitelist": "file"})

    try:
        return reopen(), reopen
    except (av.error.FFmpegError, OSError):
        raise SourceError(f"{name} did not arrive whole; check the connection, and try again") from None


def _open_picture(url: str, name: str) -> Source | None:
    """Open a URL as a picture. None if it is one JPEG after another, or does not arrive in time."""
    until = time.monotonic() + _LONGEST_FETCH
    content = _fetch(url, _LARGEST_PICTURE, until)
    if len(content) >= _LARGEST_PICTURE or time.monotonic() > until:
        return None
    return open_picture(content, name)


def _format(url: str) -> str | None:
    """Return FFmpeg's name for the format of a URL's content, None if it is unknown."""
    with suppress(av.error.FFmpegError, OSError), av.open(BytesIO(_fetch(url, _HEAD))) as container:
        return str(container.format.name).partition(",")[0]
    return None


def _fetch(url: str, most: int, until: float = math.inf) -> bytes:
    """Return the content of a URL, up to about `most` bytes and as far as it arrives `until` a time."""
    content = bytearray()
    with suppress(av.error.FFmpegError, OSError):
        for part in _fetched(url):
            content += part
            if len(content) >= most or time.monotonic() > until:
                break
    return bytes(content)


def _fetched(url: str) -> Iterator[bytes]:
    """Yield the content of a URL in parts. Raise FFmpeg's errors."""
    with av.open(url, format="data", options=_OPTIONS, timeout=(10.0, _SILENCE)) as container:
        yield from map(bytes, container.demux())
