"""The base class of all sources of frames, and the registry of functions that open one."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

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
        total: Expected number of frames, None if unknown.
        rate: Frames per second, None for stills.
        live: Whether only the newest frame matters, as with a camera.
        notes: Losses, one line each, such as damaged frames; complete once all frames are read.
    """

    name: str
    kind: Kind
    path: Path | None = None
    total: int | None = None
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

    def close(self) -> None:
        """Release files, cameras and connections. May be called twice."""


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
