"""Animated pictures (GIF, PNG, WebP, AVIF), played as videos."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median

from fer.errors import SourceError
from fer.images import count_frames, read_frames
from fer.stream.sources.base import Kind, Source, believable_rate
from fer.stream.types import Frame

_PROBED = 25
"""Frames whose durations give the rate."""


class Animation(Source):
    """An animated picture, played once. A frame lasts as long as a browser shows it.

    Args:
        content: The file, or its content.
        name: The name used in messages.

    Raises:
        SourceError: Not even the first frame can be read.
    """

    kind: Kind = "video"

    def __init__(self, content: Path | bytes, name: str) -> None:
        super().__init__()
        self.name, self.path = name, content if isinstance(content, Path) else None
        self._content, self.total = content, count_frames(content)
        seconds: list[float] = []
        try:
            seconds.extend(shown for _, shown in islice(read_frames(content), _PROBED))
        except OSError as error:
            if not seconds:
                why = f"{self.path or name} cannot be read as an image ({error.strerror})"
                raise SourceError(f"{why}; check the file, or save it again") from None
        self.rate = believable_rate(Fraction(1 / median(seconds)).limit_denominator(1000))

    def __iter__(self) -> Iterator[Frame]:
        count, now = 0, 0.0
        try:
            for image, seconds in read_frames(self._content):
                yield Frame(image, count, now)
                count, now, self.last_duration = count + 1, now + seconds, seconds
        except OSError as error:
            self.notes.append(f"{self.name}: {count} of its {self.total} frames could be read ({error.strerror})")
