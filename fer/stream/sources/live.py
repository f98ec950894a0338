"""Live sources, which reconnect after a dropout that appears in the log, and cameras."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from threading import Lock

import cv2

from fer.errors import SourceError
from fer.faces.types import Array
from fer.stream.sources.base import Kind, Request, Source, believable_rate, later, opener
from fer.stream.types import Frame

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 5.0
"""Seconds between two attempts to reconnect; they double from the first to the longest."""


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
