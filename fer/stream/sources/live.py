"""Live sources: a camera, or a stream of the network. One that drops is waited for, and its log says so."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from fer.errors import SourceError
from fer.stream.sources import DEFAULT_RATE, Kind, Source, Video, has_video, pictures
from fer.stream.sources.stills import quiet
from fer.stream.types import Array, Frame

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 5.0
_SILENCE = 5.0
"""Seconds without a picture after which a stream of the network counts as dropped."""


class Live(Source):
    """A source whose newest frame matters. `time` is seconds since its first frame.

    retry_for: seconds that it may be away before the run ends; the frame after says how long it was. Attempts come
    at growing intervals, 0.25 to 5 s.
    """

    live = True

    def __init__(self, retry_for: float) -> None:
        super().__init__()
        self._retry_for = retry_for
        self._closed = False

    def _connect(self) -> None:
        """Raises `SourceError` where it is not there."""
        raise NotImplementedError

    def _read(self) -> Iterator[tuple[float, Array]]:
        """Seconds by any clock, and uint8 (H, W, 3) RGB, until it drops."""
        raise NotImplementedError

    def _disconnect(self) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        """Raises `SourceError` once it has been away for `retry_for` seconds."""
        index, offset, now, wait = 0, 0.0, 0.0, _FIRST_WAIT
        last = start = time.monotonic()
        try:
            while not self._closed:
                first: float | None = None
                for stamp, image in self._read():
                    event = None
                    if first is None:
                        # Its own clock may begin anew with each connection; the gap is measured by ours.
                        first = stamp
                        offset = time.monotonic() - start if index else 0.0
                        if index:
                            event = f"{self.name} was away for {time.monotonic() - last:.1f} s"
                            self.notes.append(f"{event}, at {now:.1f} s")
                        else:
                            start = time.monotonic()
                    now = max(now, offset + stamp - first)
                    yield Frame(image, index, now, event=event, captured=time.monotonic())
                    index, last, wait = index + 1, time.monotonic(), _FIRST_WAIT
                if not self._closed:
                    wait = self._reconnect(last, wait)
        finally:
            self.close()

    def _reconnect(self, last: float, wait: float) -> float:
        """last: when there was a picture. wait: seconds before the first attempt; returns those before the next one,
        since what connects and gives no picture is as far away as before."""
        self._disconnect()
        until = last + self._retry_for
        if self._retry_for and wait == _FIRST_WAIT:
            print(f"{self.name} dropped; trying for {self._retry_for:g} s to have it back", file=sys.stderr)
        while time.monotonic() < until and not self._closed:
            time.sleep(min(wait, max(0.0, until - time.monotonic())))
            wait = min(2 * wait, _LONGEST_WAIT)
            with suppress(SourceError):
                self._connect()
                return wait
        if not self._closed:
            again = f" and did not come back within {self._retry_for:g} s" if self._retry_for else ""
            raise SourceError(f"{self.name} stopped answering{again}; mend it, or wait longer with retry_for=<seconds>")
        return wait

    def close(self) -> None:
        self._closed = True
        self._disconnect()


class Camera(Live):
    """A camera by index. Raises `SourceError` where it is not there, naming those that are."""

    kind: Kind = "camera"

    def __init__(self, index: int, retry_for: float = 0.0) -> None:
        super().__init__(retry_for)
        self.name, self._index = f"camera {index}", index
        if not 0 <= index < 1000:  # OpenCV takes the thousands for a choice of its own parts
            raise SourceError(f"source={str(index)[:20]} is no camera; they count from 0, up to 999")
        self._capture: cv2.VideoCapture | None = None
        self._connect()
        assert self._capture is not None
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else DEFAULT_RATE

    def _connect(self) -> None:
        with quiet():
            self._capture = cv2.VideoCapture(self._index)
        if not self._capture.isOpened():
            raise SourceError(f"no camera {self._index}; {_cameras()}")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture rather than a queue of old ones

    def _read(self) -> Iterator[tuple[float, Array]]:
        while self._capture is not None:
            good, picture = self._capture.read()
            if not good:
                return
            yield time.monotonic(), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def _disconnect(self) -> None:
        if self._capture is not None:
            self._capture.release()


def open_network(url: str, retry_for: float = 0.0, threads: int | None = None) -> Source:
    """A film of the network that has an end, such as an MP4 over HTTP, or else a live stream. Raises `SourceError`."""
    container = _open_url(url)
    if container.duration and url.lower().startswith("http"):
        return Video(container, without_password(url), None, threads)
    return Network(url, retry_for, threads, container)


class Network(Live):
    """A stream of the network, at its own timestamps: RTSP, UDP, RTMP, SRT, TCP, or HTTP without an end.

    container: of `url`, opened; each connection after that is a new one. Raises `SourceError`.
    """

    kind: Kind = "network"

    def __init__(self, url: str, retry_for: float, threads: int | None, container: Any) -> None:
        super().__init__(retry_for)
        self._url, self._threads = url, threads
        self.name = without_password(url)
        self._container: Any = None
        self._take(container)
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self.rate = rate if rate and 1 <= rate <= 1000 else DEFAULT_RATE

    def _connect(self) -> None:
        self._take(_open_url(self._url))

    def _take(self, container: Any) -> None:
        self._container = container
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # whole frames side by side would be as many frames late
        if self._threads is not None:
            stream.codec_context.thread_count = self._threads

    def _read(self) -> Iterator[tuple[float, Array]]:
        container = self._container
        try:
            for stamp, image in pictures(container, container.streams.video[0], _ignore):
                yield time.monotonic() if stamp is None else stamp, image
        finally:
            container.close()

    def _disconnect(self) -> None:
        """Nothing: only the thread that reads may close it, and FFmpeg lets it go after `_SILENCE`."""


def _ignore() -> None:
    """A damaged packet of a stream is a picture less, and nothing to report."""


_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt,crypto"


def _open_url(url: str) -> Any:
    """An opened FFmpeg container with video. Raises `SourceError`."""
    options = {
        "protocol_whitelist": _PROTOCOLS,  # a playlist must not name files of this computer
        "rtsp_transport": "tcp",  # what arrives is whole
        "analyzeduration": "2000000",
    }
    name = without_password(url)
    try:
        container = av.open(url, options=options, timeout=(10.0, _SILENCE), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot open {name}: {why}; check the address, and that it is sending") from None
    if not has_video(container):
        container.close()
        raise SourceError(f"{name} holds no video that can be decoded; check the address")
    return container


def without_password(url: str) -> str:
    """A URL as it may be shown and logged."""
    return re.sub(r"(?<=://)[^/]*@", "", url)  # to the last @: a password may hold one


def _cameras() -> str:
    """Which cameras there are, as far as that can be told without waking them."""
    if not sys.platform.startswith("linux"):
        return "try source=0 or source=1, allow this program to use the camera, or give source=<file>"
    names = (p.name.removeprefix("video") for p in Path("/dev").glob("video*"))
    found = sorted(int(name) for name in names if name.isdecimal())
    if not found:
        return "this computer shows none (no /dev/video*); connect one, or give source=<file>"
    return f"there is {', '.join(f'source={i}' for i in found)} (if it fails, another program may hold it)"
