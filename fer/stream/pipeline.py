"""The stages of a run, which work in parallel:

    reader thread ──Frame──▶ search thread ──Detections──▶ calling thread ──FrameResult──▶ one thread per sink

The calling thread tracks, classifies and smooths; it also shows the window. If not every frame is searched, the search
thread tracks, since new faces decide which frame it searches next. For files, every frame is processed, in order. For
live sources, only the newest frame is processed, and dropped frames are counted. The first error in any thread stops
all stages, closes all sinks, and is raised.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from fer.checks import check_number
from fer.faces.types import Array, Faces
from fer.stream.draw.annotate import annotate
from fer.stream.faces.track import Tracker
from fer.stream.queues import BoundedQueue, close, room, start, with_end
from fer.stream.search import Detect, search
from fer.stream.sinks.base import Sink, Stop
from fer.stream.sources import Source
from fer.stream.state import TemporalState, without
from fer.stream.stats import Stats
from fer.stream.types import Detections, Frame, FrameResult


class Classify(Protocol):
    """`classify([(frame, faces), …])` → float32 (N, K) probabilities of the K `classes` for each frame."""

    classes: tuple[str, ...]

    def __call__(self, frames: Sequence[tuple[Frame, Faces]]) -> list[Array]: ...


_QUEUED = 8
"""The most frames between two stages. More would cost memory and gain nothing."""

_BATCH = 8
"""Searched frames of a file whose faces are classified in one batch."""

_BUFFERED = 16
"""The most frames of a file that wait for their batch to fill."""


def results(
    source: Source,
    detect: Detect,
    classify: Classify,
    state: TemporalState,
    stats: Stats,
    every: int = 1,
    copy_width: int | None = None,
    skip_still: bool = False,
) -> Generator[FrameResult, None, None]:
    """Yield the result of each frame of `source`. Closing the generator stops the threads and closes the source.

    Args:
        source: Where the frames come from.
        detect: `Frame` → `Faces`.
        classify: Returns the probabilities of faces.
        state: The state of this run, not shared with others.
        stats: Gets the times of the stages and the numbers of dropped frames and of unconfirmed faces.
        every: Search every k-th frame for faces; the frames in between keep those faces. Stills, frames that begin
            another scene, and frames after a search that found new faces or missed some are always searched.
        copy_width: Width in pixels of the copies that will be searched.
        skip_still: As in `search`.

    Raises:
        ConfigError: `every` is not a whole number from 1.
        Exception: Any error of the source, `detect` or `classify`.
    """
    check_number("every", every, 1, whole=True)
    step = 1 if source.still else every
    frames = BoundedQueue[Frame](1 if source.live else _room, newest=source.live)
    detections = BoundedQueue[Detections](1 if source.live else _room)
    read = iter(source) if source.live or source.still else _with_copies(iter(source), step, copy_width)
    searched = search(frames, detect, state.tracker, stats, step, skip_still)
    tracked: Iterator[Detections] = iter(detections)
    if state.tracker is not None:
        track = partial(_track, state=state, tracker=state.tracker, stats=stats, ahead=not source.live)
        if step == 1 and not skip_still:  # no search depends on the tracker, so this thread can track
            tracked = track(tracked)
        else:
            searched = track(searched)
    threads = [
        start("read", stats.timed("decode", read), frames.put, frames.end),
        start("search", searched, detections.put, detections.end),
    ]
    try:
        yield from _recognize(tracked, classify, state, stats, most=1 if source.live else _BUFFERED)
    finally:
        stats.dropped += frames.dropped
        detections.stop()
        frames.stop()
        if source.live:
            source.close()  # otherwise a camera that hangs would keep its reader waiting
        for thread in threads:
            thread.join(5)
        source.close()


def _room(value: "Frame | Detections | _Drawing") -> int:
    """Return the length of a queue of frames as large as this one."""
    return room(_QUEUED, (value if isinstance(value, Frame) else value.frame).image.nbytes)


def _with_copies(frames: Iterator[Frame], every: int, width: int | None) -> Iterator[Frame]:
    """Make the copies that the next stage needs, while the pixels are in the cache of this core.

    The next stage takes longer than this one, and would also wait for Python's lock after each call of OpenCV.
    """
    for count, frame in enumerate(frames):
        if frame.error is None:
            frame.thumbnail()
            if width is not None and count % every == 0:
                frame.reduced(width)
        yield frame


def _track(
    items: Iterator[Detections], state: TemporalState, tracker: Tracker, stats: Stats, ahead: bool
) -> Iterator[Detections]:
    """Give faces their ids, and remove unconfirmed ones.

    If `ahead`, a frame with new faces is held until the next one, which is always searched, has confirmed or dropped
    them.
    """
    held: list[Detections] = []
    for item in with_end(items):
        dropped = np.zeros(0, np.int64)
        if item is not None and item.searched:
            with stats.stage("track"):
                item, dropped = state.identify(item, ahead)
            stats.unconfirmed += len(dropped)
        yield from (without(each, dropped) for each in held)
        held = [] if item is None else [item]
        if not (ahead and len(tracker.waiting)):
            yield from held
            held = []


def _recognize(
    items: Iterator[Detections], classify: Classify, state: TemporalState, stats: Stats, most: int
) -> Iterator[FrameResult]:
    """Classify and smooth. Up to `most` frames are buffered until a batch is full."""
    buffered: list[Detections] = []
    carried: FrameResult | None = None
    for item in with_end(items):
        if item is not None:
            buffered.append(item)
            space = room(most, item.frame.image.nbytes)
            if len(buffered) < space and sum(each.searched for each in buffered) < _BATCH:
                continue
        batch, buffered = buffered, []
        searched = [(each.frame, each.faces) for each in batch if each.searched]
        if searched:
            with stats.stage("classify", len(searched)):
                probabilities = iter(classify(searched))
        for each in batch:
            if each.searched:
                carried = state.result(each, classify.classes, next(probabilities))
            else:
                assert carried is not None  # the first frame of a source is always searched
                carried = replace(carried, frame=each.frame, searched=False, cut=False)
            yield carried


class _Drawing:
    """A result and its annotated picture, which is drawn once, for the first sink that needs it."""

    def __init__(self, result: FrameResult) -> None:
        self.result, self.frame = result, result.frame
        self._picture: Array | None = None
        self._lock = threading.Lock()

    def picture(self, stats: Stats) -> Array | None:
        """Return the picture; None for a frame without an image."""
        with self._lock:
            if self._picture is None and self.frame.error is None:
                with stats.stage("annotate"):
                    self._picture = annotate(self.result)
            return self._picture


def _write(sink: Sink, stats: Stats, drawing: _Drawing) -> None:
    picture = drawing.picture(stats) if sink.draws else None
    with stats.stage(sink.stage):
        sink.write(drawing.result, picture)


def run(
    results: Iterator[FrameResult],
    sinks: Sequence[Sink],
    stats: Stats,
    after_frame: Callable[[], object] = lambda: None,
) -> None:
    """Write every result to every sink and count it in `stats`.

    Each sink writes in its own thread, except `inline` ones (a window), which write in this one. A sink that raises
    `Stop` ends the run normally. Errors and Ctrl-C end it as well: results so far are written, all sinks are closed,
    and the first error is raised, with the texts of further ones as its notes. A second Ctrl-C does not interrupt the
    closing.
    """
    stats.start()
    opened: list[Sink] = []
    with _interrupts() as hold_off:
        try:
            for sink in sinks:
                sink.__enter__()
                opened.append(sink)
        except BaseException as error:
            errors = [error]
        else:
            errors = _deliver(results, opened, stats, after_frame, hold_off)
        ended_by = _first(errors)
        for sink in reversed(opened):
            try:
                sink.__exit__(None if ended_by is None else type(ended_by), ended_by)
            except Exception as error:  # the others are closed as well
                errors.append(error)
    stats.stop()
    if (first := _first(errors)) is not None:
        for text in dict.fromkeys(map(str, errors)):
            if text not in ("", str(first)):
                first.add_note(text)
        raise first


def _deliver(
    results: Iterator[FrameResult],
    sinks: Sequence[Sink],
    stats: Stats,
    after_frame: Callable[[], object],
    hold_off: Callable[[], object],
) -> list[BaseException]:
    """Pass every result to every sink, and return the errors that ended this. Call `hold_off` after the last result."""
    inline = [sink for sink in sinks if sink.inline]
    queues = {sink: BoundedQueue[_Drawing](_room) for sink in sinks if sink.frames and not sink.inline}
    threads = [start(sink.stage, each, partial(_write, sink, stats), each.stop) for sink, each in queues.items()]
    errors: list[BaseException | None] = []
    try:
        try:
            for result in results:
                drawing = _Drawing(result)
                if not all([queue.put(drawing) for queue in queues.values()]):
                    break  # a sink has failed
                stats.count(result)
                for sink in inline:
                    _write(sink, stats, drawing)
                after_frame()
        finally:
            hold_off()
            close(results)
    except BaseException as error:
        errors.append(error)
    for queue in queues.values():  # the remaining results are still written
        queue.end()
    for thread in threads:
        thread.join()
    errors += [queue.error for queue in queues.values()]
    return [error for error in errors if error is not None and not isinstance(error, Stop)]


def _first(errors: Sequence[BaseException]) -> BaseException | None:
    """Return the first error, None if there is none. Ctrl-C hides no other error."""
    return min(errors, key=lambda error: isinstance(error, KeyboardInterrupt), default=None)


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Yield a function that holds off Ctrl-C, and `kill` where it acts like Ctrl-C, until this context ends."""
    held = []

    def hold_off() -> None:
        if threading.current_thread() is threading.main_thread():  # the only one that signals interrupt
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is signal.default_int_handler:
                    signal.signal(number, lambda *_: os.write(2, b"still writing the outputs; please wait\n"))
                    held.append(number)

    try:
        yield hold_off
    finally:
        for number in held:
            signal.signal(number, signal.default_int_handler)
