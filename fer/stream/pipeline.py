"""The stages of a run, which work in parallel:

    reader thread ──Frame──▶ detection thread ──Detections──▶ calling thread ──FrameResult──▶ one thread per sink

The calling thread tracks, classifies and smooths, so all state is in one place; it also shows the window. For files,
every frame is processed, in order. For live sources, only the newest frame is processed, and dropped frames are
counted. The first error in any thread stops all stages, closes all sinks, and is raised.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

from fer.checks import check_number
from fer.stream.draw.annotate import annotate
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import UNCONFIRMED, SceneCutDetector, Tracker, confirm
from fer.stream.queues import BoundedQueue, close, start, with_end
from fer.stream.sinks.base import Sink, Stop
from fer.stream.sources import Source
from fer.stream.stats import Stats
from fer.stream.types import Array, Detections, Faces, Frame, FrameResult

Detect = Callable[[Frame], Faces]


class Classify(Protocol):
    """`classify([(frame, faces), …])` → float32 (N, K) probabilities of the K `classes` for each frame."""

    classes: tuple[str, ...]

    def __call__(self, frames: Sequence[tuple[Frame, Faces]]) -> list[Array]: ...


_QUEUED = 8
"""Frames between two stages. More would cost memory and gain nothing."""

_BATCH = 8
"""Searched frames of a file whose faces are classified in one batch."""

_BUFFERED = 16
"""The most frames of a file that wait for their faces to be confirmed and for their batch to fill."""


class TemporalState:
    """The state of one run, kept from frame to frame.

    Args:
        tracker: Gives faces their ids; None for stills.
        smoother: Smooths the probabilities of faces with ids, and decides which faces are uncertain.
    """

    def __init__(self, tracker: Tracker | None, smoother: Smoother) -> None:
        self.tracker, self.smoother = tracker, smoother

    def identify(self, item: Detections) -> Detections:
        """Give the faces of the next searched frame their ids, `UNCONFIRMED` for those detected only once."""
        if self.tracker is None:
            return item
        if item.cut:
            self.tracker.cut()
        return replace(item, faces=replace(item.faces, ids=self.tracker.update(item.faces, item.frame.time)))

    def result(self, item: Detections, classes: tuple[str, ...], probabilities: Array) -> FrameResult:
        """Return the result of the next searched frame, smoothed if its faces have ids."""
        judged = self.smoother(item.faces.ids, probabilities, item.frame.time)
        return FrameResult(item.frame, item.faces, classes, probabilities, *judged, unconfirmed=item.unconfirmed)


def results(
    source: Source,
    detect: Detect,
    classify: Classify,
    state: TemporalState,
    stats: Stats,
    every: int = 1,
) -> Generator[FrameResult, None, None]:
    """Yield the result of each frame of `source`. Closing the generator stops the threads and closes the source.

    Args:
        source: Where the frames come from.
        detect: `Frame` → `Faces`.
        classify: Returns the probabilities of faces.
        state: The state of this run, not shared with others.
        stats: Gets the times of the stages and the number of dropped frames.
        every: Search every k-th frame for faces; the frames in between keep those faces. Stills and frames that begin
            another scene are always searched.

    Raises:
        ConfigError: `every` is not a whole number from 1.
        Exception: Any error of the source, `detect` or `classify`.
    """
    check_number("every", every, 1, whole=True)
    step = 1 if source.still else every
    is_cut = SceneCutDetector() if state.tracker else None
    frames: BoundedQueue[Frame] = BoundedQueue(1 if source.live else _QUEUED, newest=source.live)
    detections: BoundedQueue[Detections] = BoundedQueue(1 if source.live else _QUEUED)
    searches = _detect(frames, detect, is_cut, stats, step)
    threads = [
        start("read", stats.timed("decode", iter(source)), frames.put, frames.end),
        start("detect", searches, detections.put, detections.end),
    ]
    try:
        yield from _recognize(iter(detections), classify, state, stats, most=1 if source.live else _BUFFERED)
    finally:
        stats.dropped += frames.dropped
        detections.stop()
        frames.stop()
        if source.live:
            source.close()  # otherwise a camera that hangs would keep its reader waiting
        for thread in threads:
            thread.join(5)
        source.close()


def _detect(
    frames: BoundedQueue[Frame], detect: Detect, is_cut: SceneCutDetector | None, stats: Stats, every: int
) -> Iterator[Detections]:
    for count, frame in enumerate(frames):
        cut = is_cut is not None and is_cut(frame.image)
        searched, faces = cut or count % every == 0, Faces.none()
        if searched and frame.error is None:
            with stats.stage("detect"):
                faces = detect(frame)
        yield Detections(frame, faces, searched, cut)


def only_confirmed(item: Detections) -> Detections:
    """Move the faces that are unconfirmed out of `item.faces`."""
    boxes, scores, ids = item.faces.boxes, item.faces.scores, item.faces.ids
    if ids is None:
        return item
    confirmed = ids != UNCONFIRMED
    faces = Faces(boxes[confirmed], scores[confirmed], ids[confirmed])
    return replace(item, faces=faces, unconfirmed=boxes[~confirmed])


def _recognize(
    items: Iterator[Detections], classify: Classify, state: TemporalState, stats: Stats, most: int
) -> Iterator[FrameResult]:
    """Track faces, remove unconfirmed ones, classify and smooth.

    Up to `most` frames are buffered until a batch is full. The last searched frame and those after it stay in the
    buffer, since the next search may confirm its new faces.
    """
    buffered: list[Detections] = []
    last = 0  # index of the last searched frame in the buffer
    carried: FrameResult | None = None
    for item in with_end(items):
        if item is not None:
            if item.searched and state.tracker is not None:
                with stats.stage("track"):
                    item = state.identify(item)
                if buffered and buffered[last].searched and not item.cut:
                    buffered[last] = replace(buffered[last], faces=confirm(buffered[last].faces, item.faces))
            last = len(buffered) if item.searched else last
            buffered.append(item)
            if len(buffered) < most and sum(each.searched for each in buffered) <= _BATCH:
                continue
        ready = len(buffered) if item is None or last == 0 else last
        batch = [only_confirmed(each) for each in buffered[:ready]]
        buffered, last = buffered[ready:], 0
        searched = [(each.frame, each.faces) for each in batch if each.searched]
        with stats.stage("classify", len(searched)):
            probabilities = iter(classify(searched))
        for each in batch:
            if each.searched:
                carried = state.result(each, classify.classes, next(probabilities))
            else:
                assert carried is not None  # the first frame of a source is always searched
                carried = replace(carried, frame=each.frame, searched=False)
            yield carried


def _write(sink: Sink, stats: Stats, result: FrameResult) -> None:
    picture = None
    if sink.draws and result.frame.error is None:
        with stats.stage("annotate"):
            picture = annotate(result)
    with stats.stage(sink.stage):
        sink.write(result, picture)


def run(
    results: Iterator[FrameResult],
    sinks: Sequence[Sink],
    stats: Stats,
    after_frame: Callable[[], object] = lambda: None,
) -> None:
    """Write every result to every sink and count it in `stats`.

    Each sink writes in its own thread, except `inline` ones (a window), which write in this one. A sink that raises
    `Stop` ends the run normally. Errors and Ctrl-C end it as well: results so far are written, all sinks are closed,
    and the error is raised.
    """
    stats.start()
    with ExitStack() as stack:
        stack.callback(stats.stop)  # after all sinks are closed
        for sink in sinks:
            stack.enter_context(sink)
        inline = [sink for sink in sinks if sink.inline]
        queues = {sink: BoundedQueue[FrameResult](_QUEUED) for sink in sinks if sink.frames and not sink.inline}
        threads = [start(sink.stage, each, partial(_write, sink, stats), each.stop) for sink, each in queues.items()]
        ended_by: BaseException | None = None
        try:
            for result in results:
                if not all([queue.put(result) for queue in queues.values()]):
                    raise Stop  # the error of the sink is raised below
                stats.count(result)
                for sink in inline:
                    _write(sink, stats, result)
                after_frame()
        except (Stop, KeyboardInterrupt) as error:
            ended_by = error
        finally:
            close(results)
            for queue in queues.values():  # the remaining results are still written
                queue.end()
            for thread in threads:
                thread.join()
        for raised in (*(queue.error for queue in queues.values()), ended_by):  # Ctrl-C does not hide a sink's error
            if raised is not None and not isinstance(raised, Stop):
                raise raised
