"""Counts of a run, and the times of its stages."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from fer.faces.types import Array
from fer.stream.queues import close
from fer.stream.types import FrameResult

T = TypeVar("T")

_PERCENTILES = (50, 95, 99)

_COUNTS = ("frames", "frames_with_faces", "faces", "unreadable", "unconfirmed", "dropped", "skipped")

_MEASURED = 20_000
"""Number of times kept per stage, the latest, so that memory does not grow with the run."""


class Stats:
    """Counts and times of a run. Threads add times; only one counts.

    Attributes:
        frames, frames_with_faces, faces: Numbers processed so far.
        unreadable: Stills that could not be read.
        dropped: Frames of a live source that were skipped.
        skipped: Frames that were not searched because nothing moved (`detector.skip_still`).
        unconfirmed: Faces that were found once and not again by the next search, and so were left out.
        emotions: Number of faces by the class shown.
    """

    def __init__(self) -> None:
        self.frames = self.frames_with_faces = self.faces = self.unreadable = self.dropped = self.unconfirmed = 0
        self.skipped = 0
        self.emotions: Counter[str] = Counter()
        self._begin: float | None = None
        self._end: float | None = None
        self._times = defaultdict[str, deque[float]](lambda: deque(maxlen=_MEASURED))

    def start(self) -> None:
        """Start the clock, once the model is loaded."""
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock, once all sinks are closed."""
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Duration of the run; until now, if it has not ended."""
        return 0.0 if self._begin is None else (self._end or time.perf_counter()) - self._begin

    @property
    def fps(self) -> float:
        """Frames per second over the whole run."""
        return self.frames / self.seconds if self.seconds else 0.0

    @contextmanager
    def stage(self, name: str, frames: int = 1) -> Iterator[None]:
        """Time one pass of a stage over `frames` frames. A pass that raises is not counted."""
        start = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - start, frames)

    def timed(self, name: str, values: Iterator[T]) -> Iterator[T]:
        """Yield the values, timing each as one pass of a stage."""
        start = time.perf_counter()
        try:
            for value in values:
                self._add(name, time.perf_counter() - start)
                yield value
                start = time.perf_counter()
        finally:
            close(values)

    def _add(self, name: str, seconds: float, frames: int = 1) -> None:
        self._times[name].extend([seconds * 1000 / max(1, frames)] * frames)

    def count(self, result: FrameResult) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(result.faces)
        self.frames_with_faces += len(result.faces) > 0
        self.unreadable += result.frame.error is not None
        self.emotions.update(name for name, _ in result.emotions())
        if result.frame.captured is not None:
            self._add("latency", time.monotonic() - result.frame.captured)

    def add(self, other: "Stats") -> None:
        """Add the counts and times of another run."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.emotions.update(other.emotions)
        self._begin, self._end = 0.0, self.seconds + other.seconds
        for name, times in other._times.items():
            self._times[name].extend(times)

    def stages(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of each stage that ran, in milliseconds per frame."""
        return {
            name: {f"p{q}": round(float(value), 3) for q, value in zip(_PERCENTILES, _percentiles(times), strict=True)}
            for name, times in self._times.items()
            if times
        }

    def as_dict(self) -> dict[str, Any]:
        """Return what `stats=` writes, as plain values."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {**counts, "seconds": round(self.seconds, 3), "fps": round(self.fps, 2), "stages": self.stages()}


def _percentiles(times: Collection[float]) -> Array:
    """Return what `numpy.percentile` does, which takes 10 ms to import more of NumPy."""
    return np.interp(_PERCENTILES, np.linspace(0, 100, len(times)), sorted(times))
