"""The straight way through: one frame after the other, one stage after the other."""

import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from fer.stream.annotate import annotate
from fer.stream.sinks import Sink, Stop
from fer.stream.sources import Source
from fer.stream.types import Array, Faces, Frame, FrameResult

Detect = Callable[[Frame], Faces]
Recognise = Callable[[Frame, Faces], Array]


class Stats:
    """What a run counted: frames, frames_with_faces, faces, unreadable stills, emotions by face, and times.

    `seconds` is the wall time of the loop; models are loaded before it begins.
    """

    def __init__(self) -> None:
        self.frames = self.frames_with_faces = self.faces = self.unreadable = self.dropped = 0
        self.emotions: Counter[str] = Counter()
        self.seconds = 0.0
        self._times: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    @property
    def fps(self) -> float:
        """Frames a second, over the whole loop."""
        return self.frames / self.seconds if self.seconds else 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one pass of a stage; one that raises is not counted."""
        start = time.perf_counter()
        yield
        self._times[name].append((time.perf_counter() - start) * 1000)

    def count(self, result: FrameResult) -> None:
        """Add one frame."""
        self.frames += 1
        self.faces += len(result.faces)
        self.frames_with_faces += len(result.faces) > 0
        self.unreadable += result.frame.error is not None
        self.emotions.update(name for name, _ in result.emotions())

    def stages(self) -> dict[str, dict[str, float]]:
        """For each stage that ran, p50, p95 and p99 in milliseconds."""
        points = (50, 95, 99)
        return {
            name: {f"p{p}": round(float(v), 3) for p, v in zip(points, np.percentile(times, points), strict=True)}
            for name, times in self._times.items()
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


def run(
    source: Source,
    detect: Detect,
    recognise: Recognise,
    classes: tuple[str, ...],
    sinks: Sequence[Sink],
    stats: Stats,
    after_frame: Callable[[], object] = lambda: None,
) -> None:
    """Take every frame of `source` to every sink and count it in `stats`.

    detect: `Frame` → `Faces`. recognise: (`Frame`, `Faces`) → float32 (N, K) probabilities, columns as
    `classes`.
    A sink's `Stop` ends the run in good order. Any error, Ctrl-C too, closes all sinks and goes up;
    `stats` holds what was counted until then.
    """
    start = time.perf_counter()
    try:
        with ExitStack() as stack:
            for sink in sinks:
                stack.enter_context(sink)
            frames = iter(source)
            try:
                while True:
                    with stats.stage("decode"):
                        frame = next(frames, None)
                    if frame is None:
                        break
                    result = _answer(frame, detect, recognise, classes, stats)
                    _deliver(result, sinks, stats)
                    after_frame()
            except Stop:
                pass
    finally:
        source.close()
        stats.seconds = time.perf_counter() - start


def _answer(frame: Frame, detect: Detect, recognise: Recognise, classes: tuple[str, ...], stats: Stats) -> FrameResult:
    faces, probabilities = Faces.none(), np.zeros((0, len(classes)), np.float32)
    if frame.error is None:
        with stats.stage("detect"):
            faces = detect(frame)
    if len(faces):
        with stats.stage("recognise"):
            probabilities = recognise(frame, faces)
    result = FrameResult(frame, faces, classes, probabilities)
    stats.count(result)
    return result


def _deliver(result: FrameResult, sinks: Sequence[Sink], stats: Stats) -> None:
    picture = None
    if result.frame.error is None and any(sink.draws for sink in sinks):
        with stats.stage("annotate"):
            picture = annotate(result)
    for sink in sinks:
        with stats.stage(sink.stage):
            sink.write(result, picture)
