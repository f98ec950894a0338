"""The stages of a run, side by side:

    reader thread ──Frame──▶ detection thread ──Detections──▶ calling thread ──FrameResult──▶ one thread per sink

The calling thread tracks, classifies and smooths, so all state is in one place; it also shows the window. For files,
every frame is processed, in order. For live sources, the newest frame is, and dropped frames are counted. The first
error of any thread stops all stages, closes all sinks, and is the one raised.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from fer.checks import check_number
from fer.stream.draw.annotate import annotate
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import UNCONFIRMED, SceneCutDetector, Tracker, confirm
from fer.stream.queues import BoundedQueue, close, drain, fill, with_end
from fer.stream.sinks.base import Sink, Stop
from fer.stream.sources import Source
from fer.stream.stats import Stats
from fer.stream.types import Array, Detections, Faces, Frame, FrameResult

Detect = Callable[[Frame], Faces]
Classify = Callable[[Sequence[tuple[Frame, Faces]]], list[Array]]

_QUEUED = 8
"""Frames between two stages. More would cost memory and gain nothing."""

_BATCH = 8
"""Frames of a file whose faces are classified in one batch."""

_BUFFERED = 16
"""Frames of a file that are buffered at most until their faces are confirmed or their batch is full."""


class TemporalState:
    """What one viewer's run remembers from frame to frame.

    Args:
        tracker: Gives faces their ids; None for stills.
        smoother: Smooths the probabilities of faces with ids, and judges which are uncertain; None for neither.
    """

    def __init__(self, tracker: Tracker | None, smoother: Smoother | None) -> None:
        self.tracker, self.smoother = tracker, smoother

    def identify(self, item: Detections) -> Detections:
        """Give the faces of the next searched frame their ids, `UNCONFIRMED` for those seen only once."""
        assert self.tracker is not None
        if item.cut:
            self.tracker.cut()
        return replace(item, faces=replace(item.faces, ids=self.tracker.update(item.faces, item.frame.time)))

    def result(self, item: Detections, classes: tuple[str, ...], probabilities: Array) -> FrameResult:
        """Return the result of the next searched frame, smoothed if its faces have ids."""
        frame, faces = item.frame, item.faces
        result = FrameResult(frame, faces, classes, probabilities, unconfirmed=item.unconfirmed)
        if self.smoother is None:
            return result
        if faces.ids is None:
            return replace(result, uncertain=self.smoother.uncertain(probabilities))
        smoothed, labels, uncertain = self.smoother(faces.ids, probabilities, frame.time)
        return replace(result, smoothed=smoothed, labels=labels, uncertain=uncertain)


def results(
    source: Source,
    detect: Detect,
    classify: Classify,
    classes: tuple[str, ...],
    state: TemporalState,
    stats: Stats,
    every: int = 1,
) -> Generator[FrameResult, None, None]:
    """Yield the result of each frame of `source`. Closing the generator stops the threads and closes the source.

    Args:
        source: Where the frames come from.
        detect: `Frame` → `Faces`.
        classify: Several (`Frame`, `Faces`) → for each float32 (N, K) probabilities.
        classes: Names of the K columns.
        state: Used by this run alone.
        stats: Gets the times of the stages and the number of dropped frames.
        every: Search each k-th frame and carry its faces over to those between. Stills and frames that begin another
            scene are always searched.

    Raises:
        ConfigError: `every` is not a whole number from 1.
        Exception: Whatever the source, `detect` or `classify` raise.
    """
    check_number("every", every, 1, whole=True)
    step = 1 if source.still else every
    is_cut = SceneCutDetector() if state.tracker else None
    frames: BoundedQueue[Frame] = BoundedQueue(1 if source.live else _QUEUED, newest=source.live)
    detections: BoundedQueue[Detections] = BoundedQueue(1 if source.live else _QUEUED)
    threads: list[threading.Thread] = []
    try:
        threads.append(fill(frames, stats.timed("decode", iter(source)), "read"))
        threads.append(fill(detections, _detect(frames, detect, is_cut, stats, step), "detect"))
        tracked = _track(iter(detections), state, stats, wait=not source.live)
        yield from _classify(tracked, classify, classes, state, stats, most=1 if source.live else _BUFFERED)
    finally:
        stats.dropped += frames.dropped
        detections.stop()
        frames.stop()
        if source.live:
            source.close()  # a camera that does not answer would keep its reader waiting
        for thread in threads:
            thread.join(5)
        source.close()


def _detect(
    frames: BoundedQueue[Frame], detect: Detect, is_cut: SceneCutDetector | None, stats: Stats, every: int
) -> Iterator[Detections]:
    try:
        for count, frame in enumerate(frames):
            cut = is_cut is not None and is_cut(frame.image)
            searched, faces = cut or count % every == 0, Faces.none()
            if searched and frame.error is None:
                with stats.stage("detect"):
                    faces = detect(frame)
            yield Detections(frame, faces, searched, cut)
    finally:
        frames.stop()


def _track(items: Iterator[Detections], state: TemporalState, stats: Stats, wait: bool) -> Iterator[Detections]:
    """Give the faces ids and remove those that are unconfirmed.

    wait: Buffer each searched frame, and those after it, until the next search confirms its new faces.
    """
    if state.tracker is None:
        yield from items
        return
    buffered: list[Detections] = []
    for item in with_end(items):
        if item is not None and item.searched:
            with stats.stage("track"):
                item = state.identify(item)
            if buffered and not item.cut:
                buffered[0] = replace(buffered[0], faces=confirm(buffered[0].faces, item.faces))
        if item is None or item.searched:
            yield from map(only_confirmed, buffered)
            buffered = []
        if item is not None:
            buffered.append(item)
            if not wait or len(buffered) > _BUFFERED or not buffered[0].searched:
                yield from map(only_confirmed, buffered)
                buffered = []


def only_confirmed(item: Detections) -> Detections:
    """Move the faces that are unconfirmed out of `item.faces`."""
    if item.faces.ids is None:
        return item
    confirmed = item.faces.ids != UNCONFIRMED
    return replace(item, faces=item.faces.only(confirmed), unconfirmed=item.faces.boxes[~confirmed])


def _classify(
    items: Iterator[Detections],
    classify: Classify,
    classes: tuple[str, ...],
    state: TemporalState,
    stats: Stats,
    most: int,
) -> Iterator[FrameResult]:
    """most: How many frames may wait for their batch to fill."""
    last: FrameResult | None = None
    batch: list[Detections] = []
    for item in with_end(items):
        if item is not None:
            batch.append(item)
            if len(batch) < most and sum(i.searched for i in batch) < _BATCH:
                continue
        searched = [(i.frame, i.faces) for i in batch if i.searched]
        probabilities = iter([np.zeros((0, len(classes)), np.float32)] * len(searched))
        if any(len(faces) for _, faces in searched):
            with stats.stage("classify", len(searched)):
                probabilities = iter(classify(searched))
        for i in batch:
            if i.searched:
                last = state.result(i, classes, next(probabilities))
            else:
                assert last is not None  # the first frame of a source is always searched
                last = replace(last, frame=i.frame, searched=False)
            yield last
        batch = []


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

    Each sink writes in its own thread, except those that are `inline` (a window), which write in this one. A sink that
    raises `Stop` ends the run in good order. Any error, and Ctrl-C, ends the run as well: results so far are written,
    all sinks are closed, and the error is raised.
    """
    stats.start()
    try:
        with ExitStack() as stack:
            for sink in sinks:
                stack.enter_context(sink)
            inline = [sink for sink in sinks if sink.inline]
            threaded = [sink for sink in sinks if sink.frames and not sink.inline]
            queues = [BoundedQueue[FrameResult](_QUEUED) for _ in threaded]
            writes = [partial(_write, sink, stats) for sink in threaded]
            threads = [drain(*each) for each in zip(queues, writes, (sink.stage for sink in threaded), strict=True)]
            ended_by: BaseException | None = None
            try:
                for result in results:
                    for queue in queues:
                        if not queue.put(result):
                            raise queue.error or RuntimeError("a sink ended on its own")
                    stats.count(result)
                    for sink in inline:
                        _write(sink, stats, result)
                    after_frame()
            except (Stop, KeyboardInterrupt) as error:
                ended_by = error
            finally:
                close(results)
                for queue, thread in zip(queues, threads, strict=True):  # what is left is written
                    queue.end()
                    thread.join()
            for raised in (*(queue.error for queue in queues), ended_by):  # Ctrl-C does not hide a sink's error
                if raised is not None and not isinstance(raised, Stop):
                    raise raised
    finally:
        stats.stop()
