import re
import threading
import time
from itertools import islice

import cv2
import numpy as np
import pytest

from fer.errors import SourceError
from fer.faces.types import Faces
from fer.stream import pipeline
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeFaceClassifier
from fer.stream.sources import live, open_source
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Frame


def test_a_missing_camera_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for source in (97, "/dev/video97"):
        with pytest.raises(SourceError, match=r"no camera 97; .*source="):
            open_source(source)
    assert capfd.readouterr() == ("", "")


class FakeCapture:
    """A camera of three frames, then a pulled cable."""

    last: "FakeCapture"

    def __init__(self, index: int) -> None:
        self.left = 3
        self.released = False
        FakeCapture.last = self

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> None: ...

    def get(self, key: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((4, 4, 3), (255, 0, 0), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_camera_gives_rgb_and_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    source = open_source(0)
    frames = []
    with pytest.raises(SourceError, match="camera 0 stopped"):
        for frame in source:
            frames.append(frame)
    assert len(frames) == 3
    assert frames[0].image[0, 0].tolist() == [0, 0, 255]
    assert frames[0].time == 0 and frames[2].time >= frames[1].time
    assert FakeCapture.last.released and source.rate == 30


def test_a_camera_is_released_by_the_thread_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    released: list[threading.Thread] = []

    class Slow(FakeCapture):
        def read(self) -> tuple[bool, np.ndarray | None]:
            reading.set()
            go_on.wait(10)
            return super().read()

        def release(self) -> None:
            released.append(threading.current_thread())

    monkeypatch.setattr(cv2, "VideoCapture", Slow)
    source = open_source(0)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    assert reading.wait(10)
    source.close()
    assert not released, "the camera is in the middle of a read"
    go_on.set()
    reader.join(10)
    assert released == [reader]


@pytest.mark.parametrize(
    "end", ["enough frames", "Ctrl-C", "an error of the detector", "an error of a sink", "unplugged"]
)
def test_a_camera_is_released_by_its_reader_however_a_run_ends(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[tuple[str, bool]] = []  # the thread, and whether it happened within a read

    class Camera(FakeCapture):
        def __init__(self, index: int) -> None:
            super().__init__(index)
            self.left, self.reading = 6 if end == "unplugged" else 10_000, False

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.reading = True
            time.sleep(0.03)
            self.reading = False
            return super().read()

        def release(self) -> None:
            released.append((threading.current_thread().name, self.reading))

    def detect(frame: Frame) -> Faces:
        if end == "an error of the detector" and frame.index >= 3:
            raise RuntimeError(end)
        return Faces.none()

    def after_frame() -> None:
        if stats.frames >= 3 and end == "Ctrl-C":
            raise KeyboardInterrupt
        if stats.frames >= 3 and end == "an error of a sink":
            raise RuntimeError(end)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    source, stats, state = open_source(0), Stats(), TemporalState(Tracker(), Smoother())
    results = pipeline.results(source, detect, FakeFaceClassifier(("a", "b")), state, stats)
    try:
        with source:
            pipeline.run(islice(results, 3 if end == "enough frames" else None), [], stats, after_frame)
            results.close()
    except (RuntimeError, SourceError, KeyboardInterrupt):
        assert end != "enough frames"
    finally:
        results.close()
    assert released == [("read", False)]


def test_a_camera_that_nobody_reads_is_released_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    with open_source(0):
        assert not FakeCapture.last.released
    assert FakeCapture.last.released


class Flaky(FakeCapture):
    """Each connection gives three pictures; of the attempts to connect again the first two fail."""

    attempts = 0

    def __init__(self, index: int) -> None:
        super().__init__(index)
        Flaky.attempts += 1

    def isOpened(self) -> bool:
        return Flaky.attempts not in (2, 3)


def test_a_camera_that_drops_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Flaky.attempts = 0
    monkeypatch.setattr(cv2, "VideoCapture", Flaky)
    monkeypatch.setattr(live, "_FIRST_WAIT", 0.02)
    source = open_source(0, retry_for=5)
    frames = [frame for frame, _ in zip(source, range(5), strict=False)]
    source.close()
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.event is None for frame in frames] == [True, True, True, False, True]
    assert re.fullmatch(r"camera 0 was away for \d\.\d s", str(frames[3].event))
    assert frames[3].time - frames[2].time > 0.1
    assert source.notes and "dropped; trying to reconnect for 5 s" in capsys.readouterr().err


def test_a_camera_without_pictures_is_away_and_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connections: list[FakeCapture] = []

    class Dark(FakeCapture):
        """Connects always; only its first connection has pictures."""

        def __init__(self, index: int) -> None:
            super().__init__(index)
            self.left = 0 if connections else 3
            connections.append(self)

    monkeypatch.setattr(cv2, "VideoCapture", Dark)
    monkeypatch.setattr(live, "_FIRST_WAIT", 0.05)
    with pytest.raises(SourceError, match="did not come back"):
        list(open_source(0, retry_for=1))
    assert capsys.readouterr().err.count("dropped") == 1
    assert len(connections) <= 7, "after 0.05, 0.15, 0.35, 0.75 and 1 second, and at most once more"


def test_a_camera_that_stays_away_is_an_error_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Flaky.attempts = 0
    monkeypatch.setattr(cv2, "VideoCapture", Flaky)
    monkeypatch.setattr(Flaky, "isOpened", lambda self: Flaky.attempts == 1)
    source, start = open_source(0, retry_for=0.6), time.monotonic()
    with pytest.raises(SourceError, match=r"did not come back within 0.6 s.*retry_for="):
        list(source)
    assert time.monotonic() - start > 0.6
