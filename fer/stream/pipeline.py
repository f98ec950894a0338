"""The stages, side by side: read, find faces, say what they show, write.

    reader thread ──Frame──▶ search thread ──Detections──▶ the caller's own thread ──FrameResult──▶ a thread for each sink

Every frame of a file is answered, in order; of a live source the newest one is, and drops are counted. Tracking,
smoothing and the window stay in the caller's thread, which has all the state. The first error of any thread ends all of
them, closes all sinks, and is the one that goes up.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import numpy as np

from fer.errors import ConfigError, FerError
from fer.stream.draw.annotate import annotate
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import UNCONFIRMED, CutDetector, Tracker, confirm
from fer.stream.queues import BoundedQueue, close, fill
from fer.stream.sinks.base import Sink, Stop
from fer.stream.sources import Source
from fer.stream.stats import Stats
from fer.stream.types import Array, Faces, Frame, FrameResult

Detect = Callable[[Frame], Faces]
Recognise = Callable[[Sequence[tuple[Frame, Faces]]], list[Array]]
Draw = Callable[[FrameResult], Array]

_WAITING = 8
"""Frames that wait between two stages; more would only cost memory."""

_TOGETHER = 8
"""Frames of a file whose faces are recognised in one batch."""

_HELD = 16
"""Frames of a file that wait at most for their faces to be confirmed."""


@dataclass(frozen=True, eq=False)
class Detections:
    """A frame after the search. faces: None where it was not searched at. cut: whether another scene begins with it.
    unconfirmed: float32 (M, 4), the boxes that were left out of `faces`, or None."""

    frame: Frame
    faces: Faces | None
    cut: bool = False
    unconfirmed: Array | None = None


class TemporalState:
    """What a viewer's run remembers from frame to frame: who is who, and how they searched.

    tracker: None leaves the faces without ids, and then nothing is smoothed either.
    """

    def __init__(self, tracker: Tracker | None, smoother: Smoother | None) -> None:
        self.tracker, self.smoother = tracker, smoother

    def result(self, frame: Frame, faces: Faces, classes: tuple[str, ...], probabilities: Array) -> FrameResult:
        """The result of the next frame that was searched at."""
        if self.smoother is None:
            return FrameResult(frame, faces, classes, probabilities)
        if faces.ids is None:
            return FrameResult(frame, faces, classes, probabilities, uncertain=self.smoother.doubt(probabilities))
        smoothed, labels, uncertain = self.smoother(faces.ids, probabilities, frame.time)
        return FrameResult(frame, faces, classes, probabilities, smoothed, labels, uncertain)


def results(
    source: Source,
    detect: Detect,
    classify: Recognise,
    classes: tuple[str, ...],
    state: TemporalState,
    stats: Stats,
    every: int = 1,
) -> Generator[FrameResult, None, None]:
    """Yield the result of each frame of `source`; closing the generator stops the threads and closes the source.

    detect: `Frame` → `Faces`. classify: several (`Frame`, `Faces`) → for each float32 (N, K) probabilities, columns as
    `classes`. every: search each k-th frame and carry its faces over to those between; a cut is always searched, and so
    is each still.
    Raises what the source, `detect` or `classify` raise, and `ConfigError` for an `every` that cannot work.
    """
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ConfigError(f"every={every} cannot work; give a whole number from 1")
    if source.still:
        every = 1  # a photo shows other faces than the one before
    is_cut: Callable[[Array], bool] = CutDetector() if state.tracker else lambda image: False
    frames: BoundedQueue[Frame] = BoundedQueue(1 if source.live else _WAITING, newest=source.live)
    seen: BoundedQueue[Detections] = BoundedQueue(1 if source.live else _WAITING)
    threads: list[threading.Thread] = []
    try:
        threads += [
            fill(frames, lambda: stats.timed("decode", iter(source)), "read"),
            fill(seen, lambda: _search(frames, detect, stats, every, is_cut), "search"),
        ]
        confirmed = _settled(iter(seen), state.tracker, stats, wait=not source.live)
        yield from _recognised(confirmed, classify, classes, state, stats, 1 if source.live else _TOGETHER)
    finally:
        stats.dropped += frames.dropped
        seen.stop()
        frames.stop()
        if source.live:
            source.close()  # a camera that does not answer would keep its reader waiting
        for thread in threads:
            thread.join(5)
        source.close()


def _search(
    frames: BoundedQueue[Frame], detect: Detect, stats: Stats, every: int, is_cut: Callable[[Array], bool]
) -> Iterator[Detections]:
    try:
        for count, frame in enumerate(frames):
            if frame.error is not None:
                yield Detections(frame, Faces.none())
                continue
            cut = is_cut(frame.image)
            if count % every and not cut:
                yield Detections(frame, None)
                continue
            with stats.stage("detect"):
                faces = detect(frame)
            yield Detections(frame, faces, cut)
    finally:
        frames.stop()


def _settled(seen: Iterator[Detections], tracker: Tracker | None, stats: Stats, wait: bool) -> Iterator[Detections]:
    """The same frames with ids, and without the faces that have none.

    wait: hold a frame back until the next one that was searched has told who its new faces are.
    """
    if tracker is None:
        yield from seen
        return
    held: list[Detections] = []  # a searched frame, and those up to the next one
    try:
        for item in seen:
            if item.faces is None:
                if held and len(held) < _HELD:
                    held.append(item)
                else:
                    yield from _released(held)
                    held = []
                    yield item
                continue
            if item.cut:
                tracker.cut()
            with stats.stage("track"):
                now = replace(item, faces=replace(item.faces, ids=tracker.update(item.faces, item.frame.time)))
            if held and not item.cut:
                held[0] = replace(held[0], faces=confirm(held[0].faces, now.faces))
            yield from _released(held)
            held = [now] if wait else []
            if not wait:
                yield from _released([now])
    except FerError:  # of the source: what it gave before is answered first
        yield from _released(held)
        raise
    yield from _released(held)


def _released(held: list[Detections]) -> Iterator[Detections]:
    for item in held:
        if item.faces is not None and item.faces.ids is not None:
            confirmed = np.asarray(item.faces.ids != UNCONFIRMED)
            item = replace(item, faces=item.faces.only(confirmed), unconfirmed=item.faces.boxes[~confirmed])
        yield item


def with_ids(faces: Faces, tracker: Tracker, time: float) -> Faces:
    """The faces of a live frame with ids, without those that have none yet. time: seconds."""
    ids = tracker.update(faces, time)
    return replace(faces, ids=ids).only(ids != UNCONFIRMED)


def _recognised(
    seen: Iterator[Detections],
    classify: Recognise,
    classes: tuple[str, ...],
    state: TemporalState,
    stats: Stats,
    together: int,
) -> Iterator[FrameResult]:
    last: FrameResult | None = None
    waiting: list[Detections] = []

    def answer() -> Iterator[FrameResult]:
        nonlocal last
        asked = [(s.frame, s.faces) for s in waiting if s.faces is not None]
        answers: Iterator[Array] = iter(())
        if any(len(faces) for _, faces in asked):  # a stage without faces is no stage
            with stats.stage("classify", len(asked)):
                answers = iter(classify(asked))
        for item in waiting:
            if item.faces is not None:
                empty = np.zeros((0, len(classes)), np.float32)
                last = state.result(item.frame, item.faces, classes, next(answers, empty))
                if item.unconfirmed is not None and len(item.unconfirmed):
                    last = replace(last, unconfirmed=item.unconfirmed)
                yield last
            else:
                assert last is not None
                yield replace(last, frame=item.frame, searched=False)
        waiting.clear()

    try:
        for item in seen:
            waiting.append(item)
            if sum(s.faces is not None for s in waiting) >= together or len(waiting) >= min(2 * together, _HELD):
                yield from answer()
    except FerError:
        yield from answer()
        raise
    yield from answer()


class _Writer:
    """One sink in a thread of its own, fed by a short pipe."""

    def __init__(self, sink: Sink, draw: Draw, stats: Stats) -> None:
        self.pipe: BoundedQueue[FrameResult] = BoundedQueue(_WAITING)
        self.error: BaseException | None = None
        self._sink, self._draw, self._stats = sink, draw, stats
        self._thread = threading.Thread(target=self._write, name=sink.stage, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            for result in self.pipe:
                deliver(self._sink, result, self._draw, self._stats)
        except BaseException as error:
            self.error = error
            self.pipe.stop()

    def finish(self) -> None:
        """Let it write what waits, and see it end."""
        self.pipe.end()
        self._thread.join()


def deliver(sink: Sink, result: FrameResult, draw: Draw, stats: Stats) -> None:
    """Hand a result to a sink, with its picture where it wants one."""
    picture = None
    if result.frame.error is None and sink.draws:
        with stats.stage("annotate"):
            picture = draw(result)
    with stats.stage(sink.stage):
        sink.write(result, picture)


def run(
    answers: Iterator[FrameResult],
    sinks: Sequence[Sink],
    stats: Stats,
    after_frame: Callable[[], object] = lambda: None,
    draw: Draw = annotate,
) -> None:
    """Take every result to every sink and count it in `stats`.

    Sinks write beside each other, each in its own thread; one that is `inline` (a window) is called here. A sink's
    `Stop` ends the run in good order. Any error, Ctrl-C too, stops and closes everything and goes up; `stats` holds
    what was counted until then.
    """
    start = time.perf_counter()
    try:
        with ExitStack() as stack:
            for sink in sinks:
                stack.enter_context(sink)
            writers = [_Writer(sink, draw, stats) for sink in sinks if not sink.inline]
            inline = [sink for sink in sinks if sink.inline]
            stopped: KeyboardInterrupt | None = None
            with suppress(Stop):
                try:
                    for result in answers:
                        for writer in writers:
                            if not writer.pipe.put(result):
                                raise writer.error or RuntimeError("a sink ended on its own")
                        stats.count(result)
                        for sink in inline:
                            deliver(sink, result, draw, stats)
                        after_frame()
                except KeyboardInterrupt as error:
                    stopped = error
                finally:
                    close(answers)
                    for writer in writers:  # what has been answered is written, whatever happened since
                        writer.finish()
            for writer in writers:  # neither `Stop` nor Ctrl-C hides what failed while the rest was written
                if writer.error is not None and not isinstance(writer.error, Stop):
                    raise writer.error
            if stopped is not None:
                raise stopped
    finally:
        stats.seconds = time.perf_counter() - start
