import itertools
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from fer.errors import ConfigError, SinkError, SourceError
from fer.faces.types import Array, Faces
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import _recognize, results, run
from fer.stream.sinks.base import Sink, Stop
from fer.stream.sources import Kind
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Detections, Frame, FrameResult

CLASSES = ("happy", "sad", "odd")
BOX = (8.0, 8.0, 40.0, 40.0)


class Collecting(Sink):
    """Collect results; raise `error` in place of result number `at`."""

    def __init__(self, draws: bool = False, error: BaseException | None = None, at: int = 0) -> None:
        self.draws, self.error, self.at = draws, error, at
        self.results: list[FrameResult] = []
        self.pictures: list[Array | None] = []
        self.closed: bool | None = None

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if self.error and len(self.results) == self.at:
            raise self.error
        self.results.append(result)
        self.pictures.append(picture)

    def close(self, whole: bool) -> None:
        self.closed = whole


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


class Camera(FakeSource):
    """A live source with a pause before each frame."""

    live = True

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            time.sleep(0.001)
            yield frame


class Scenes(FakeSource):
    """Scenes of `length` frames each."""

    def __init__(self, frames: int, length: int, rate: Fraction | int = 25) -> None:
        super().__init__(frames, rate=rate)
        self._length = length

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            scene = np.random.default_rng(frame.index // self._length).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            yield replace(frame, image=np.repeat(np.repeat(scene, 8, 0), 8, 1))


def go(source: FakeSource, *sinks: Sink, detect: FakeDetector | None = None) -> Stats:
    stats = Stats()
    go.stats = stats
    classify = FakeFaceClassifier(CLASSES, 1)
    state = TemporalState(None, Smoother())
    run(results(source, detect or FakeDetector(BOX), classify, state, stats), sinks, stats)
    return stats


def watch(
    source: FakeSource,
    detect: FakeDetector,
    every: int = 1,
    classify: FakeFaceClassifier | None = None,
    lost: float = 1.0,
    stats: Stats | None = None,
) -> list[FrameResult]:
    state, classify = TemporalState(Tracker(lost), Smoother()), classify or FakeFaceClassifier(CLASSES, 1)
    return list(results(source, detect, classify, state, stats or Stats(), every))


def test_every_frame_reaches_every_sink() -> None:
    plain, drawn, source = Collecting(), Collecting(draws=True), FakeSource(6)
    stats = go(source, plain, drawn, detect=FakeDetector(BOX, (0, 0, 5, 5), blind=frozenset({2, 3})))
    for sink in (plain, drawn):
        assert [r.frame.index for r in sink.results] == list(range(6))
        assert [len(r.faces) for r in sink.results] == [2, 2, 0, 0, 2, 2]
        assert sink.closed is True
    assert plain.results[0].emotions() == [("sad", pytest.approx(0.88))] * 2
    assert drawn.pictures[0] is not None and (drawn.pictures[0] != drawn.results[0].frame.image).any()
    assert (stats.frames, stats.frames_with_faces, stats.faces) == (6, 4, 8)
    assert stats.emotions == {"sad": 8}
    assert source.closed


def test_pictures_are_only_drawn_for_sinks_that_want_them() -> None:
    stats = go(FakeSource(2), Collecting())
    assert "annotate" not in stats.stages()


def test_a_frame_is_annotated_once_however_many_sinks_draw() -> None:
    sinks = [Collecting(draws=True) for _ in range(3)]
    sinks[2].inline = True
    stats = go(FakeSource(5), *sinks, Collecting())
    assert len(stats._times["annotate"]) == 5
    for pictures in zip(*(sink.pictures for sink in sinks), strict=True):
        assert all(picture is pictures[0] for picture in pictures)


class Counting(FakeSource):
    """A source that counts how many of its images are alive."""

    def __iter__(self) -> Iterator[Frame]:
        self.alive, self.most = 0, 0
        width, height = self._size
        for index in range(self._frames):
            image = np.empty((height, width, 3), np.uint8)  # takes no memory, since nothing is written to it
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(image, self._gone)
            yield Frame(image, index, index / 25)

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize(
    ("size", "every", "most"),
    [((3840, 2160), 1, 12), ((3840, 2160), 7, 12), ((7680, 4320), 1, 10), ((4320, 7680), 3, 10), ((64, 48), 1, 48)],
)
def test_the_frames_that_are_alive_are_bounded_by_their_bytes(
    size: tuple[int, int], every: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            time.sleep(0.01)
            self.results.append(result.faces)

    monkeypatch.setattr("fer.stream.search.SceneCutDetector", lambda: lambda image: False)
    source, slow, stats = Counting(60, size=size), Slow(), Stats()
    state = TemporalState(Tracker(), Smoother())
    run(results(source, FakeDetector(BOX), FakeFaceClassifier(CLASSES), state, stats, every), [slow], stats)
    assert source.most <= most
    assert [len(faces) for faces in slow.results] == [1] * 60, "faces are still confirmed"


def test_one_sink_that_cannot_be_closed_does_not_keep_the_others_from_closing() -> None:
    class Failing(Collecting):
        def close(self, complete: bool) -> None:
            raise SinkError("no room")

    first, second = Collecting(), Collecting()
    with pytest.raises(SinkError, match="no room"):
        go(FakeSource(3), first, Failing(), second, Failing())
    assert (first.closed, second.closed) == (True, True)
    stopped = Collecting(error=KeyboardInterrupt(), at=2)
    stopped.inline = True
    with pytest.raises(SinkError, match="no room"):
        go(FakeSource(50), first, Failing(), stopped)
    assert (first.closed, stopped.closed) == (True, True)
    with pytest.raises(SourceError, match="frame 2") as caught:  # the first error is the one that is raised
        go(FakeSource(3, fails_at=2), first, Failing(), second)
    assert (first.closed, second.closed) == (False, False)
    assert caught.value.__notes__ == ["no room"]


def test_no_error_of_several_vanishes() -> None:
    class Failing(Collecting):
        def close(self, complete: bool) -> None:
            raise SinkError(f"{self.error} at the end" if self.at else "full")

    for failing in ((Failing(error=SinkError("full"), at=2), Failing()), (Failing(error=SinkError("full")), Failing())):
        with pytest.raises(SinkError, match="full") as caught:
            go(FakeSource(6), *failing)
        notes = getattr(caught.value, "__notes__", [])
        assert notes == (["full at the end"] if failing[0].at else []), "and none is said twice"


@pytest.mark.parametrize("where", ["write", "close"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_does_not_cut_off_outputs_that_are_being_completed(
    where: str, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            if where == "write" and result.frame.index == 10:
                pressed.wait(5)
                os.kill(os.getpid(), number)
                time.sleep(0.05)
            super().write(result, picture)

        def close(self, complete: bool) -> None:
            if where == "close":
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            super().close(complete)

    class Stops(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            if result.frame.index == 12:
                threading.Timer(0.1, pressed.set).start()
                raise KeyboardInterrupt
            super().write(result, picture)

    pressed, before = threading.Event(), signal.signal(number, signal.default_int_handler)
    first, second, stops = Collecting(), Interrupted(), Stops()
    stops.inline = True
    try:
        with pytest.raises(KeyboardInterrupt):
            go(FakeSource(60), first, second, stops)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert (first.closed, second.closed, stops.closed) == (True, True, True)
    assert len(first.results) == len(second.results) == 13
    assert "still writing" in capfd.readouterr().err


def test_a_source_that_fails_closes_all_sinks_as_incomplete() -> None:
    sinks, source = (Collecting(), Collecting()), FakeSource(6, fails_at=4)
    with pytest.raises(SourceError, match="frame 4"):
        go(source, *sinks)
    assert all(len(sink.results) == 4 and sink.closed is False for sink in sinks)
    assert source.closed
    assert go.stats.frames == 4


def test_a_sink_that_fails_closes_all_others() -> None:
    first, second = Collecting(), Collecting(error=SinkError("full"), at=1)
    source = FakeSource(6)
    with pytest.raises(SinkError, match="full"):
        go(source, first, second)
    assert (first.closed, second.closed, source.closed) == (False, False, True)


def test_ctrl_c_closes_all_sinks_as_complete() -> None:
    first, second = Collecting(), Collecting(error=KeyboardInterrupt(), at=3)
    with pytest.raises(KeyboardInterrupt):
        go(FakeSource(60), first, second)
    assert (first.closed, second.closed) == (True, True)
    assert len(second.results) == 3 and len(first.results) >= go.stats.frames >= 3
    assert go.stats.seconds > 0


def test_ctrl_c_does_not_hide_what_failed_while_the_rest_was_written() -> None:
    class Slow(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            time.sleep(0.2)
            super().write(result, picture)

    stopped, failing, other = (
        Collecting(error=KeyboardInterrupt(), at=3),
        Slow(error=SinkError("no room"), at=3),
        Collecting(),
    )
    stopped.inline = True
    with pytest.raises(SinkError, match="no room"):
        go(FakeSource(20), failing, other, stopped)
    assert len(failing.results) == 3 and len(other.results) == 4
    assert not failing.closed and not other.closed


def test_a_sink_may_stop_the_run_in_good_order() -> None:
    first, second = Collecting(), Collecting(error=Stop(), at=2)
    second.inline = True
    stats = go(FakeSource(60), first, second)
    assert (len(first.results), first.closed, second.closed, stats.frames) == (3, True, True, 3)
    first, second = Collecting(), Collecting(error=Stop(), at=2)
    stats = go(FakeSource(60), first, second)
    assert (len(second.results), first.closed, second.closed) == (2, True, True) and stats.frames < 60


def test_a_stop_does_not_hide_a_full_disk() -> None:
    pressed = threading.Event()

    class Full(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            pressed.wait(10)
            raise SinkError("full")

    class Quits(Collecting):
        inline = True

        def write(self, result: FrameResult, picture: Array | None) -> None:
            pressed.set()
            raise Stop

    sinks = Full(), Quits()
    with pytest.raises(SinkError, match="full"):
        go(FakeSource(60), *sinks)
    assert [sink.closed for sink in sinks] == [False, False]


def test_a_slow_sink_loses_nothing() -> None:
    class Slow(Collecting):
        def write(self, result: FrameResult, picture: Array | None) -> None:
            time.sleep(0.002)
            super().write(result, picture)

    slow = Slow()
    go(FakeSource(60), slow, Collecting())
    assert [r.frame.index for r in slow.results] == list(range(60))


def test_an_error_of_the_detector_ends_all() -> None:
    def broken(frame: Frame) -> Faces:
        if frame.index == 3:
            raise ZeroDivisionError("in the detector")
        return Faces.none()

    sink, source = Collecting(), FakeSource(50)
    with pytest.raises(ZeroDivisionError):
        go(source, sink, detect=broken)
    assert (sink.closed, source.closed) == (False, True)


def test_leaving_the_loop_stops_the_threads() -> None:
    source = FakeSource(10_000)
    stream = results(
        source, FakeDetector(BOX), FakeFaceClassifier(CLASSES), TemporalState(Tracker(), Smoother()), Stats()
    )
    assert next(stream).frame.index == 0
    stream.close()
    assert source.closed


def test_frames_of_a_file_wait_until_their_faces_are_confirmed() -> None:
    output = watch(FakeSource(6), FakeDetector(BOX, blind=frozenset({3})))
    assert [r.frame.index for r in output] == list(range(6))
    ids = [r.faces.ids.tolist() for r in output]
    assert ids == [[1], [1], [1], [], [1], [1]]
    assert all(r.smoothed is not None and r.labels is not None for r in output)


def test_a_face_detected_once_is_left_out() -> None:
    output = watch(FakeSource(6), FakeDetector(BOX, blind=frozenset({0, 1, 3, 4, 5})))
    assert [len(r.faces) for r in output] == [0] * 6


def test_a_live_face_is_left_out_until_it_is_confirmed() -> None:
    class Slow(Camera):  # slow enough that no frame is dropped
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    output = watch(Slow(8), FakeDetector(BOX, blind=frozenset({0, 1, 5, 6})))
    assert [r.faces.ids.tolist() for r in output] == [[], [], [], [1], [1], [], [], [1]]
    assert [len(r.unconfirmed) for r in output] == [0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("every", [1, 3])
def test_live_frames_are_not_buffered(every: int) -> None:
    class Waiting(FakeSource):
        live, wanted = True, threading.Semaphore(1)

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                assert self.wanted.acquire(timeout=5), "the frame before it has not come yet"
                yield frame

    source, state = Waiting(8), TemporalState(Tracker(), Smoother())
    for k, result in enumerate(results(source, FakeDetector(BOX), FakeFaceClassifier(CLASSES), state, Stats(), every)):
        assert result.frame.index == k
        source.wanted.release()


def test_a_slow_stage_gets_the_newest_frame_of_a_live_source() -> None:
    class Slow(FakeDetector):
        def __call__(self, frame: Frame) -> Faces:
            time.sleep(0.02)
            return super().__call__(frame)

    stats, source = Stats(), Camera(200)
    state = TemporalState(Tracker(), Smoother())
    output = list(results(source, Slow(BOX), FakeFaceClassifier(CLASSES), state, stats))
    assert 3 < len(output) < 100
    assert stats.dropped + len(output) == 200
    assert output[-1].frame.index == 199


@pytest.mark.parametrize("every", [2, 3, 20])
def test_faces_are_carried_over_between_searches(every: int) -> None:
    searched: list[int] = []

    class Noting(FakeDetector):
        def __call__(self, frame: Frame) -> Faces:
            searched.append(frame.index)
            return super().__call__(frame)

    output = watch(FakeSource(45), Noting(BOX), every)
    assert searched == sorted({*range(0, 45, every), 1}), "the second frame confirms the face of the first"
    assert [r.frame.index for r in output] == list(range(45))
    assert [r.searched for r in output] == [k in searched for k in range(45)]
    assert [r.faces.ids.tolist() for r in output] == [[1]] * 45
    assert [row["carried"] for r in output if not r.searched for row in [r.row()]] == [True] * (45 - len(searched))


@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(30), Fraction(240)])
@pytest.mark.parametrize("every", [1, 7, 31, 90])
@pytest.mark.parametrize("lost", [0.1, 1.0])
def test_no_face_vanishes_at_any_pace(every: int, rate: Fraction, lost: float) -> None:
    output = watch(FakeSource(100, rate=rate), FakeDetector(BOX), every, lost=lost)
    assert [r.faces.ids.tolist() for r in output] == [[1]] * 100


@pytest.mark.parametrize(
    "times", [[0.0], [0.0, 3.0], [0.0, 0.04, 3.04, 3.08, 6.0, 9.0], [0.0, 0.04, 100.0, 100.04, 100.08]]
)
def test_no_face_vanishes_beside_gaps(times: list[float]) -> None:
    class Uneven(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame, at in zip(super().__iter__(), times, strict=True):
                yield replace(frame, time=at)

    for every in (1, 2, 50):
        output = watch(Uneven(len(times)), FakeDetector(BOX), every)
        assert [r.faces.ids.tolist() for r in output] == [[1]] * len(times)


def test_a_face_of_the_last_frame_and_of_a_scene_of_one_frame_is_reported() -> None:
    stats = Stats()
    last = watch(FakeSource(6), FakeDetector(BOX, blind=frozenset(range(5))), stats=stats)
    assert [len(r.faces) for r in last] == [0] * 5 + [1]
    scenes = watch(Scenes(4, length=1, rate=Fraction(1, 2)), FakeDetector(BOX), stats=stats)
    assert [r.faces.ids.tolist() for r in scenes] == [[1], [2], [3], [4]]
    slides = watch(Scenes(120, length=50), FakeDetector(BOX), every=30, stats=stats)
    assert [r.faces.ids.tolist() for r in slides] == [[1]] * 50 + [[2]] * 50 + [[3]] * 20
    assert stats.unconfirmed == 0


@pytest.mark.parametrize("every", [1, 4, 60])
def test_faces_that_the_next_search_does_not_find_are_counted_and_get_no_number(every: int) -> None:
    stats = Stats()
    blind = frozenset(range(100)) - {8, 60, 61, 62, 63, 64}
    output = watch(FakeSource(100), FakeDetector(BOX, blind=blind), every, stats=stats)
    seen = {i: r.faces.ids.tolist() for i, r in enumerate(output) if len(r.faces)}
    assert set(seen) >= {60, 61, 62, 63} and all(ids == [1] for ids in seen.values())
    assert stats.unconfirmed == (1 if every < 60 else 0)


def test_a_face_that_one_search_misses_is_looked_for_in_the_next_frame() -> None:
    output = watch(FakeSource(70), FakeDetector(BOX, blind=frozenset({30})), every=30)
    assert [i for i, r in enumerate(output) if not len(r.faces)] == [30]
    assert {tuple(r.faces.ids.tolist()) for r in output if len(r.faces)} == {(1,)}


def test_a_large_frame_does_not_wait_for_others() -> None:
    items = [Detections(Frame(np.zeros((2160, 3840, 3), np.uint8), 0, k / 25), Faces.none()) for k in range(6)]
    asked = 0

    def counted() -> Iterator[Detections]:
        nonlocal asked
        for item in items:
            asked += 1
            yield item

    state = TemporalState(Tracker(), Smoother())
    output = _recognize(counted(), FakeFaceClassifier(CLASSES), state, Stats(), most=16)
    next(output)
    assert asked == 3, "they are large"


def test_a_frame_with_an_error_neither_fails_nor_ends_a_track() -> None:
    class Broken(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                good = frame.index not in (0, 3, 4)
                yield frame if good else Frame(frame.image[:0, :0], frame.index, frame.time, error="damaged")

    for every in (1, 3):
        output = watch(Broken(8), FakeDetector(BOX), every)
        assert {tuple(r.faces.ids.tolist()) for r in output if len(r.faces)} == {(1,)}
        assert len(output[-1].faces) == 1


def test_an_interruption_of_the_source_counts_as_out_of_sight() -> None:
    class Away(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                away = frame.index >= 5
                yield replace(frame, time=frame.time + 30 * away, event="away" if frame.index == 5 else None)

    assert [r.faces.ids.tolist() for r in watch(Away(8), FakeDetector(BOX))] == [[1]] * 5 + [[2]] * 3


@pytest.mark.parametrize("kind", ["image", "folder"])
def test_each_still_is_searched(kind: Kind) -> None:
    source, state = FakeSource(5), TemporalState(None, Smoother())
    source.kind = kind
    output = list(results(source, FakeDetector(BOX), FakeFaceClassifier(CLASSES), state, Stats(), every=3))
    assert [r.searched for r in output] == [True] * 5


def test_a_cut_is_searched_and_ends_the_tracks() -> None:
    output = watch(Scenes(10, length=5), FakeDetector(BOX), every=4)
    assert [r.searched for r in output] == [True, True, False, False, True, True, True, False, True, False]
    assert [r.faces.ids.tolist() for r in output] == [[1]] * 5 + [[2]] * 5


def test_faces_of_several_frames_are_one_batch() -> None:
    batches: list[int] = []

    class Noting(FakeFaceClassifier):
        def __call__(self, frames: Sequence[tuple[Frame, Faces]]) -> list[Array]:
            batches.append(len(frames))
            return super().__call__(frames)

    watch(FakeSource(9), FakeDetector(BOX), classify=Noting(CLASSES))
    assert sum(batches) == 9 and max(batches) == 8
    batches.clear()
    watch(Camera(50, rate=1000), FakeDetector(BOX), classify=Noting(CLASSES))
    assert max(batches) == 1


def test_a_video_that_changes_its_size_goes_on() -> None:
    class Turning(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                image = frame.image if frame.index < 4 else np.ascontiguousarray(np.rot90(frame.image))
                yield Frame(image, frame.index, frame.time)

    output = watch(Turning(8), FakeDetector(BOX), every=3)
    assert [r.faces.ids.tolist() for r in output] == [[1]] * 4 + [[2]] * 4
    assert output[4].searched


def test_a_film_without_faces() -> None:
    output = watch(FakeSource(7), FakeDetector())
    assert [len(r.faces) for r in output] == [0] * 7


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "two"])
def test_an_invalid_every_is_named(every: object) -> None:
    with pytest.raises(ConfigError, match="every="):
        watch(FakeSource(2), FakeDetector(), every)


def test_each_face_has_its_pose_and_those_turned_too_far_are_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pointing(FakeDetector):
        def __call__(self, frame: Frame) -> Faces:
            faces = super().__call__(frame)
            return replace(faces, points=np.zeros((len(faces), 5, 2), np.float32))

    def pose(self: object, image: Array, faces: Faces, time: float) -> Array:
        return np.array([[10 * time * 25, 0, 0]] * len(faces), np.float32)

    monkeypatch.setattr("fer.faces.pose.HeadPose.__call__", pose)
    output = watch(FakeSource(7), Pointing(BOX), every=2)
    assert [float(result.pose[0, 0]) for result in output if result.searched] == [0, 10, 20, 40, 60]
    assert [bool(result.uncertain[0]) for result in output] == [result.pose[0, 0] > 40 for result in output]
    assert all(a.pose is b.pose for a, b in itertools.pairwise(output) if not b.searched), "carried as boxes are"
