"""The base class of all sources of frames, and the registry of functions that open one."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from fer.files import expand
from fer.stream.types import Frame

_DEFAULT_RATE = Fraction(30)
_FASTEST = 240
"""Higher rates are ignored: recordings of browsers give the ticks of their clock, 1000 per second, as their rate."""

Kind = Literal["image", "folder", "video", "camera", "network"]


class Source:
    """Yields `Frame`s once, in order. Used as a context manager, it closes what it holds open.

    Attributes:
        name: The name used in messages.
        kind: The kind of source; sinks declare which kinds they fit.
        path: Its file, folder or pattern, None for cameras and streams.
        total: Expected number of frames, None if unknown; of a film the true number, once all are read.
        last_duration: Seconds for which the last frame of a film is shown, once all are read; None if unknown.
        rate: Frames per second, None for stills.
        live: Whether only the newest frame matters, as with a camera.
        notes: Losses, one line each, such as damaged frames; complete once all frames are read.
    """

    name: str
    kind: Kind
    path: Path | None = None
    total: int | None = None
    last_duration: float | None = None
    rate: Fraction | None = None
    live: bool = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def still(self) -> bool:
        """Whether its frames are unrelated photos rather than a video."""
        return self.kind in ("image", "folder")

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raise `SourceError` if the source breaks."""
        raise NotImplementedError

    def reopen(self) -> Any:
        """Return a second PyAV container of a film, for its sound; None for any other source.

        Raises:
            SourceError, OSError: It cannot be opened again.
        """
        return None

    def close(self) -> None:
        """Release files, cameras and connections. May be called twice."""


class Clock:
    """Turns the timestamps of a source's streams into seconds since its start.

    Clocks restart where recordings are joined, wrap after 33 bits, and jump. Each such stretch of the source gets its
    own offset, the same for all streams, so that it begins where the one before ended. The rule is that of FFmpeg's
    program (`ts_discontinuity_detect` in fftools/ffmpeg_demux.c): a stretch begins where a stream runs back by more
    than 0.1 s, or ahead by more than `ahead`. Unlike there, a stream may fall silent for longer while others go on.

    Args:
        start: Timestamp of the start of the source, in seconds.
        ahead: The longest gap that is believed, in seconds.
    """

    _BACK = 0.1

    def __init__(self, start: float = 0.0, ahead: float = 10.0) -> None:
        self._offsets, self._ahead = [-start], ahead
        self._newest = [-math.inf]  # per stretch, the last time of any stream
        self._began_by: int | None = None  # the stream whose last packet began a stretch
        self._streams: dict[int, tuple[int, float, float]] = {}  # stretch, time, and end of the last packet

    def offset(self, stream: int, stamp: float, duration: float = 0.0) -> float:
        """Return the seconds to be added to the timestamps of the next packet of a stream.

        Args:
            stream: Index of the stream.
            stamp: Decoding timestamp of the packet, in seconds.
            duration: Duration of the packet, in seconds; 0 stands for that of the packet before.
        """
        latest = len(self._offsets) - 1
        stretch, last, end = self._streams.get(stream, (latest, None, self._newest[latest]))
        if self._began_by == stream:  # with its last packet
            before, now = (abs(stamp + offset - end) for offset in self._offsets[-2:])
            if before <= self._BACK < now:  # that was no stretch, only one wrong timestamp
                latest -= 1
                del self._offsets[-1], self._newest[-1]
            self._began_by = None
        stretch = min(stretch, latest)
        if not self._fits(stamp + self._offsets[stretch], last, self._newest[stretch]):
            if stretch == latest:
                self._offsets.append(end - stamp)
                self._newest.append(end)
                self._began_by = stream
            elif stamp + self._offsets[latest] < end - self._BACK:
                self._offsets[latest] = end - stamp  # it ended later than the stream that began the stretch
            stretch = len(self._offsets) - 1
        now = stamp + self._offsets[stretch]
        self._newest[stretch] = max(self._newest[stretch], now)
        self._streams[stream] = stretch, now, now + (duration or (0.0 if last is None else max(0.0, now - last)))
        return self._offsets[stretch]

    def _fits(self, now: float, last: float | None, newest: float) -> bool:
        """Whether a packet belongs to a stretch, given the last time of its own stream and of all streams."""
        earliest = newest - self._ahead if last is None else last - self._BACK
        return newest == -math.inf or earliest <= now <= newest + self._ahead


def later(time: float, last: float | None, step: float) -> float:
    """Return the time of a frame, in seconds: `time` if that is later than the `last` frame.

    Else it is half a `step`, the seconds between two frames, after the last one: a clock that stood still for a frame
    is soon caught up with.
    """
    return max(time, 0.0) if last is None else time if time > last else last + step / 2


def believable_rate(*rates: Fraction | None) -> Fraction:
    """Return the first plausible rate in frames per second, or 30 if there is none."""
    return next((Fraction(rate) for rate in rates if rate and 0 < rate <= _FASTEST), _DEFAULT_RATE)


@dataclass(frozen=True)
class Request:
    """The source that the user asked for.

    Attributes:
        source: Camera index, or text: a path, a pattern, a URL, or anything else that an opener understands.
        threads: Number of decoding threads, None for the decoder's default.
        retry_for: Seconds that a live source may be away before the run ends.
    """

    source: int | str
    threads: int | None = None
    retry_for: float = 0.0

    @property
    def url(self) -> str | None:
        """The source if it is a URL."""
        text = str(self.source)
        return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) else None

    @property
    def path(self) -> Path | None:
        """The source as a path, which need not exist; None for an index or a URL."""
        return None if isinstance(self.source, int) or self.url else expand(self.source)


Opener = Callable[[Request], Source | None]
OPENERS: dict[str, Opener] = {}
"""Openers by name. Each opens a source of its own kind and returns None for any other."""


def opener(name: str) -> Callable[[Opener], Opener]:
    """Register a function that opens one kind of source. `open_source` asks the latest one first.

    The function returns None for a source of another kind, and raises `SourceError` if one of its own cannot be opened.
    """

    def register(function: Opener) -> Opener:
        OPENERS[name] = function
        return function

    return register
