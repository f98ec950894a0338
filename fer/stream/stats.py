"""What a run counted, and how long its stages took."""

import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from fer.stream.queues import close
from fer.stream.types import FrameResult

T = TypeVar("T")

_ORDER = ("decode", "detect", "track", "classify", "annotate")
_KEPT = 100_000
"""Times kept of a stage; a run of days measures its last hour or so, in memory that does not grow."""


class Stats:
    """What a run counted: frames, frames_with_faces, faces, unreadable stills, dropped live frames, emotions by face,
    and the times of stages, each of which belongs to one thread.

    `seconds` is the wall time of the run; models are loaded before it begins.
    """

    def __init__(self) -> None:
        self.frames = self.frames_with_faces = self.faces = self.unreadable = self.dropped = 0
        self.emotions: Counter[str] = Counter()
        self.seconds = 0.0
        self._times: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    @property
    def fps(self) -> float:
        """Frames a second, over the whole run."""
        return self.frames / self.seconds if self.seconds else 0.0

    @contextmanager
    def stage(self, name: str, frames: int = 1) -> Iterator[None]:
        """Time one pass of a stage over so many frames; one that raises is not counted."""
        start = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - start, frames)

    def timed(self, name: str, values: Iterator[T]) -> Iterator[T]:
        """The same values, with the time that each took to come as a pass of a stage."""
        try:
            while True:
                start = time.perf_counter()
                value = next(values, None)
                if value is None:
                    return
                self._add(name, time.perf_counter() - start, 1)
                yield value
        finally:
            close(values)

    def _add(self, name: str, seconds: float, frames: int) -> None:
        times = self._times[name]
        times.extend([seconds * 1000 / frames] * frames)
        if len(times) > 2 * _KEPT:
            del times[:_KEPT]

    def count(self, result: FrameResult) -> None:
        """Add one frame."""
        self.frames += 1
        self.faces += len(result.faces)
        self.frames_with_faces += len(result.faces) > 0
        self.unreadable += result.frame.error is not None
        self.emotions.update(name for name, _ in result.emotions())
        if result.frame.captured is not None:
            self._add("latency", time.monotonic() - result.frame.captured, 1)

    def stages(self) -> dict[str, dict[str, float]]:
        """For each stage that ran, p50, p95 and p99 in milliseconds a frame."""
        points = (50, 95, 99)
        names = [n for n in _ORDER if n in self._times] + [n for n in self._times if n not in _ORDER]
        return {
            name: {
                f"p{p}": round(float(v), 3)
                for p, v in zip(points, np.percentile(self._times[name], points), strict=True)
            }
            for name in names
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `stats=` writes them."""
        return {
            "frames": self.frames,
            "frames_with_faces": self.frames_with_faces,
            "faces": self.faces,
            "dropped": self.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "stages": self.stages(),
        }
