"""Cameras and URLs. Live sources reconnect after a dropout, which appears in the log."""

import errno
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import NoneType
from typing import Any

import av
import cv2

from fer.errors import SourceError
from fer.stream.sources.base import Clock, Kind, Request, Source, believable_rate, later, opener
from fer.stream.sources.files import Decoder, Video, open_container, picture_and_sound
from fer.stream.sources.stills import open_picture
from fer.stream.types import Array, Frame

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 5.0
"""Seconds between two attempts to reconnect; they double from the first to the longest."""
_SILENCE = 5.0
"""Seconds without data after which a network stream counts as dropped."""
_PROBE = 2.0
"""Seconds of a stream that FFmpeg reads to find out what it holds."""
_HEAD = 1 << 16
"""Bytes by which the format of a file is known."""
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


@dataclass(frozen=True)
class Connection:
    """An open camera or stream.

    Attributes:
        frames: Seconds by any clock, and uint8 (H, W, 3) RGB. Ends when the source drops.
        release: Closes the connection. Called once, by the thread that reads `frames`.
        rate: Frames per second.
    """

    frames: Iterator[tuple[float, Array]]
    release: Callable[[], object]
    rate: Fraction


Connect = Callable[[], Connection]


class Live(Source):
    """A source that reconnects, and whose newest frame is the only one that matters.

    `Frame.time` is in seconds since the first frame.

    The thread that iterates is the only one that releases the connection: releasing a camera in the middle of a read
    can crash the process. `close` from another thread ends the iteration after the frame it is waiting for.

    Args:
        kind, name: As in `Source`.
        connect: Opens a connection. Raises `SourceError` if the source is away.
        first: The first connection.
        retry_for: Seconds that the source may be away before `SourceError` is raised. The `event` of the first frame
            after a dropout tells how long it lasted.
    """

    live = True

    def __init__(self, kind: Kind, name: str, connect: Connect, first: Connection, retry_for: float) -> None:
        super().__init__()
        self.kind, self.name, self._connect, self._retry_for, self.rate = kind, name, connect, retry_for, first.rate
        self._connection: Connection | None = first
        self._closed = self._reading = False
        self._lock = Lock()  # a reader that begins while another thread closes the source

    def __iter__(self) -> Iterator[Frame]:
        assert self.rate is not None
        index, offset, now, wait, step = 0, 0.0, 0.0, _FIRST_WAIT, 1 / float(self.rate)
        last = start = time.monotonic()
        with self._lock:
            self._reading = True
        try:
            while self._connection and not self._closed:
                first: float | None = None
                for stamp, image in self._connection.frames:
                    event = None
                    if first is None:  # the source's clock may restart with each connection, so ours measures the gap
                        first = stamp
                        if index:
                            offset = time.monotonic() - start
                            event = f"{self.name} was away for {time.monotonic() - last:.1f} s"
                            self.notes.append(f"{event}, at {now:.1f} s")
                        else:
                            start = time.monotonic()
                    now = later(offset + stamp - first, now if index else None, step)
                    yield Frame(image, index, now, event=event, captured=time.monotonic())
                    index, last, wait = index + 1, time.monotonic(), _FIRST_WAIT
                    if self._closed:
                        return
                wait = self._reconnect(last, wait)
        finally:
            with self._lock:
                self._reading = False
            self.close()

    def _reconnect(self, last: float, wait: float) -> float:
        """Reconnect. Return the wait before the next attempt, should the new connection give no frames either.

        Args:
            last: When the last frame arrived.
            wait: Seconds before the first attempt.
        """
        self._disconnect()
        until = last + self._retry_for
        if self._retry_for and wait == _FIRST_WAIT:
            print(f"{self.name} dropped; trying to reconnect for {self._retry_for:g} s", file=sys.stderr)
        while time.monotonic() < until and not self._closed:
            time.sleep(min(wait, max(0.0, until - time.monotonic())))
            wait = min(2 * wait, _LONGEST_WAIT)
            with suppress(SourceError):
                self._connection = self._connect()
                return wait
        if self._closed:
            return wait
        why = f"{self.name} stopped answering and did not come back within {self._retry_for:g} s"
        raise SourceError(f"{why}; check the connection, or wait longer with retry_for=<seconds>")

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.release()
            self._connection = None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if not self._reading:
                self._disconnect()


@opener("camera")
def open_camera(request: Request) -> Source | None:
    """Open a camera by its index or its device, such as /dev/video0."""
    device = re.fullmatch(r"/dev/video(\d+)", str(request.source))
    index = int(device[1]) if device else request.source
    if not isinstance(index, int):
        return None
    if not 0 <= index < 1000:  # OpenCV reads the thousands as the choice of a backend
        raise SourceError(f"source={str(index)[:20]} is no camera; they count from 0, up to 999")
    connect = partial(_connect_camera, index)
    return Live("camera", f"camera {index}", connect, connect(), request.retry_for)


def _connect_camera(index: int) -> Connection:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        fix = "connect it, end other programs that use it, try source=0 or source=1, or give source=<file>"
        raise SourceError(f"no camera {index}; {fix}")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame rather than a queue of old ones

    def frames() -> Iterator[tuple[float, Array]]:
        while (image := capture.read()[1]) is not None:
            yield time.monotonic(), cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    rate = Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    return Connection(frames(), capture.release, believable_rate(rate))


@opener("network")
def open_network(request: Request) -> Source | None:
    """Open a URL: a picture or a film on a web server, or a live stream (RTSP, UDP, RTMP, SRT, a camera's HTTP, …)."""
    url = request.url
    if url is None:
        return None
    name, web, start = without_password(url), url.lower().startswith("http"), time.monotonic()
    access = partial(_open_url, url)
    try:
        container = access()
    except SourceError as error:
        why = error.__context__
        unknown = isinstance(why, av.error.InvalidDataError | NoneType) or getattr(why, "errno", 0) == errno.EIO
        if web and unknown and (picture := _open_picture(url)):
            return picture
        raise
    seconds = time.monotonic() - start
    if web and _is_picture(container):
        if picture := _open_picture(url):
            container.close()
            return picture
        if container.format.name == "image2":  # FFmpeg believes a name, or a query, that ends as a picture's
            container.close()
            access = partial(_open_url, url, format=_format(url))
            container = access()
    if web and _has_end(container, seconds):
        container, reopen = _film(container, url, access)
        return Video(container, reopen, name, None, request.threads)
    first = _connected(container, request.threads)
    return Live("network", name, lambda: _connected(access(), request.threads), first, request.retry_for)


def _formats(container: Any) -> set[str]:
    return set(container.format.name.split(","))


def _format(url: str) -> str | None:
    """Return FFmpeg's name for the format of a URL's content, None if it is unknown."""
    with suppress(av.error.FFmpegError, OSError), av.open(BytesIO(_fetch(url, _HEAD))) as container:
        return str(container.format.name).partition(",")[0]
    return None


def _is_picture(container: Any) -> bool:
    """Whether what FFmpeg takes for a film may be a picture."""
    formats, brand = _formats(container), container.metadata.get("major_brand", "")
    return (
        not formats.isdisjoint({"image2", "gif", "apng"})
        or any(each.endswith("_pipe") for each in formats)
        or brand[:3] in ("avi", "hei", "mif")  # AVIF and HEIF are containers like MP4
    )


def _has_end(container: Any, seconds: float) -> bool:
    """Whether what a web server sends is a film rather than a live stream.

    Args:
        container: The open PyAV container.
        seconds: How long it took to open. A live stream gives its first seconds no sooner than they happen.
    """
    formats = _formats(container)
    if not formats.isdisjoint({"hls", "dash", "mpjpeg"}):  # their size is that of a playlist
        return bool(container.duration)
    return bool(
        container.size > 0
        or container.duration
        or not formats.isdisjoint({"matroska", "mov", "avi", "gif", "apng"})
        or seconds < 0.75 * _PROBE
    )


def _open_picture(url: str) -> Source | None:
    """Open a URL as a picture. None if it is none, does not arrive in time, or is one JPEG after another."""
    until = time.monotonic() + _LONGEST_FETCH
    content = _fetch(url, _LARGEST_PICTURE, until)
    if len(content) >= _LARGEST_PICTURE or time.monotonic() > until:
        return None
    return open_picture(content, without_password(url))


def _film(container: Any, url: str, access: Callable[[], Any]) -> tuple[Any, Callable[[], Any]]:
    """Return the container of a film on a web server, and what opens it again.

    An MP4 whose index comes last is fetched first if the server cannot skip to it and back.
    """
    if "mov" not in _formats(container):
        return container, access
    readable = False
    with container, suppress(av.error.FFmpegError, OSError):
        readable = bool(next(container.demux(picture_and_sound(container)[0])).size)
    if readable:
        return access(), access
    name = without_password(url)
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


def _connected(container: Any, threads: int | None) -> Connection:
    decoder, clock = Decoder(container, threads, "SLICE"), Clock()

    def frames() -> Iterator[tuple[float, Array]]:
        for stamp, image in decoder:
            seconds = time.monotonic() if stamp is None else stamp
            yield seconds + clock.offset(0, seconds), image

    video = decoder.stream
    return Connection(frames(), container.close, believable_rate(video.average_rate, video.guessed_rate))


def _open_url(url: str, format: str | None = None) -> Any:
    name = without_password(url)
    try:
        return open_container(url, name, format=format, options=_OPTIONS, timeout=(10.0, _SILENCE))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot open {name}: {why}; check the address, and that it is sending") from None


def without_password(url: str) -> str:
    """Return a URL without its user and password, to be shown and logged."""
    return re.sub(r"(?<=://)[^/]*@", "", url)  # up to the last @, because a password may contain one
