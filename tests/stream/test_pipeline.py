import json
import time

import numpy as np
import pytest

from fer.errors import SinkError, SourceError
from fer.stream.fakes import FakeDetector, FakeRecogniser, FakeSource
from fer.stream.pipeline import Stats, run
from fer.stream.sinks import Sink, Stop
from fer.stream.types import Array, FrameResult

CLASSES = ("happy", "sad", "odd")
BOX = (8.0, 8.0, 40.0, 40.0)


class Kept(Sink):
    """Keeps what it is given; raises `error` in place of result number `at`."""

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


def go(source: FakeSource, *sinks: Sink, detect: FakeDetector | None = None) -> Stats:
    stats = Stats()
    go.stats = stats
    run(source, detect or FakeDetector(BOX), FakeRecogniser(CLASSES, 1), CLASSES, sinks, stats)
    return stats


def test_every_frame_reaches_every_sink() -> None:
    plain, drawn, source = Kept(), Kept(draws=True), FakeSource(6)
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


def test_nobody_draws_for_nobody() -> None:
    stats = go(FakeSource(2), Kept())
    assert "annotate" not in stats.stages()


def test_a_source_that_breaks_closes_all_sinks_as_broken() -> None:
    sinks, source = (Kept(), Kept()), FakeSource(6, fails_at=4)
    with pytest.raises(SourceError, match="frame 4"):
        go(source, *sinks)
    assert all(len(sink.results) == 4 and sink.closed is False for sink in sinks)
    assert source.closed
    assert go.stats.frames == 4


def test_a_sink_that_breaks_closes_all_others() -> None:
    first, second = Kept(), Kept(error=SinkError("full"), at=1)
    source = FakeSource(6)
    with pytest.raises(SinkError, match="full"):
        go(source, first, second)
    assert (first.closed, second.closed, source.closed) == (False, False, True)


def test_ctrl_c_closes_all_sinks_as_whole() -> None:
    first, second = Kept(), Kept(error=KeyboardInterrupt(), at=3)
    with pytest.raises(KeyboardInterrupt):
        go(FakeSource(6), first, second)
    assert (first.closed, second.closed) == (True, True)
    assert go.stats.frames == 4 and go.stats.seconds > 0


def test_a_sink_may_stop_the_run_in_good_order() -> None:
    first, second = Kept(), Kept(error=Stop(), at=2)
    stats = go(FakeSource(6), first, second)
    assert (len(first.results), first.closed, second.closed, stats.frames) == (3, True, True, 3)


def test_statistics_have_the_schema() -> None:
    stats = go(FakeSource(5), Kept(draws=True))
    values = json.loads(json.dumps(stats.as_dict()))
    assert list(values) == ["frames", "frames_with_faces", "faces", "dropped", "seconds", "fps", "stages"]
    assert list(values["stages"]) == ["decode", "detect", "recognise", "annotate", "write"]
    for times in values["stages"].values():
        assert list(times) == ["p50", "p95", "p99"]
        assert 0 <= times["p50"] <= times["p95"] <= times["p99"] < 10_000
    assert values["fps"] == pytest.approx(5 / stats.seconds, abs=0.01)


def test_stages_are_in_milliseconds() -> None:
    stats = Stats()
    for seconds in (0.01, 0.01, 0.03):
        with stats.stage("wait"):
            time.sleep(seconds)
    times = stats.stages()["wait"]
    assert 10 <= times["p50"] < 25 and 28 <= times["p99"] < 200


def test_an_empty_run_has_statistics() -> None:
    values = go(FakeSource(0), Kept()).as_dict()
    assert (values["frames"], values["stages"]) == (0, {"decode": values["stages"]["decode"]})
    assert np.isfinite(values["fps"])
