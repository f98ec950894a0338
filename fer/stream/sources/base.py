"""What a source of frames is, and the registry of functions that open one."""

import glob
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
"""The highest rate that is believed; browsers give the ticks of their clock, 1000 per second, as the rate."""

Kind = Literal["image", "folder", "video", "camera", "network"]


class Source:
    """Yields `Frame`s once, in order. Used as a context manager, it closes what it holds open.

    Attributes:
        name: How messages call it.
        kind: What it is; sinks declare which kinds they fit.
        path: Its file or folder, None for cameras and streams.
        files: Every file that it reads, so that no output overwrites one of them.
        total: How many frames to expect, None if unknown.
        rate: Frames per second, None for stills.
        live: Whether only the newest frame matters, as with a camera.
        notes: What was lost on the way, one line each; complete once all frames are read.
    """

    name: str
    kind: Kind
    path: Path | None = None
    files: tuple[Path, ...] = ()
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
        """Whether its frames are unrelated photos rather than a film."""
        return self.kind in ("image", "folder")

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raise `SourceError` if the source breaks."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what is held open. May be called twice."""


def believable_rate(*rates: Fraction | None) -> Fraction:
    """The first of several claims of frames per second that can be true; 30 if there is none."""
    return next((Fraction(rate) for rate in rates if rate and 0 < rate <= _FASTEST), _DEFAULT_RATE)


@dataclass(frozen=True)
class Request:
    """What the user asked to open.

    Attributes:
        source: Camera index, or text: a path, a pattern, a URL, or whatever else an opener understands.
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

    def matches(self) -> list[Path]:
        """The files that match the source as a pattern, none if a file of this name exists."""
        if self.path is None or self.path.exists() or not glob.has_magic(str(self.path)):
            return []
        files = (Path(name) for name in glob.glob(str(self.path)))  # noqa: PTH207 (a pattern may be absolute)
        return [file for file in files if file.is_file()]


Opener = Callable[[Request], Source | None]
OPENERS: dict[str, Opener] = {}
"""Functions that open a source if it is of their kind and return None otherwise, by name."""


def opener(name: str) -> Callable[[Opener], Opener]:
    """Register a function that opens one kind of source. `open_source` asks the latest one first.

    It returns None for whatever is not of its kind, and raises `SourceError` for what is, but cannot be opened.
    """

    def register(function: Opener) -> Opener:
        OPENERS[name] = function
        return function

    return register
