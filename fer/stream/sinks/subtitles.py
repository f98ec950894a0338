"""The labels of a film as subtitles."""

from pathlib import Path
from typing import Self, TextIO

from fer.faces.types import Array
from fer.stream.sinks.base import FILMS, Context, Sink, sink, sink_errors
from fer.stream.types import FrameResult

_ALONE = 1 / 30
"""Seconds for which the last frame is shown if the rate is unknown."""


@sink("subtitles", ".srt", sources=FILMS)
class Subtitles(Sink):
    """SubRip: one cue for as long as the same labels are shown, such as "happy", or "1 happy, 2 sad" for several faces.

    Each cue is on disk as soon as it ends.
    """

    stage = "subtitles"
    inline = True
    _file: TextIO

    def __init__(self, path: Path, context: Context) -> None:
        self.path, self._last = path, float(1 / context.source.rate) if context.source.rate else _ALONE
        self._text, self._begin, self._time, self._count = "", 0.0, 0.0, 0

    def __enter__(self) -> Self:
        with sink_errors(self.path):
            self._file = self.path.open("w", 1, encoding="utf-8", newline="")
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        names, ids = [emotion for emotion, _ in result.emotions()], result.faces.ids
        if len(names) > 1 and ids is not None:
            names = [f"{identity} {name}" for identity, name in zip(ids, names, strict=True)]
        text = ", ".join(names)
        self._time = result.frame.time
        if text != self._text:
            self._end_cue(self._time)
            self._text, self._begin = text, self._time

    def _end_cue(self, end: float) -> None:
        if self._text:
            self._count += 1
            with sink_errors(self.path):
                self._file.write(f"{self._count}\n{_clock(self._begin)} --> {_clock(end)}\n{self._text}\n\n")

    def close(self, complete: bool) -> None:
        self._end_cue(self._time + self._last)
        with sink_errors(self.path):
            self._file.close()


def _clock(seconds: float) -> str:
    """Format seconds as 01:02:03,456. What is before 0 is at 0."""
    milliseconds = max(0, round(1000 * seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
