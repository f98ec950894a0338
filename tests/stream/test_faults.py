"""What goes wrong in the middle of a run: after it nothing hangs, finished rows are on disk, videos play."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from fer.errors import FerError, SinkError, SourceError
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import results, run
from fer.stream.sinks import Context, Sink
from fer.stream.sinks.logs import Csv, JsonLines
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import open_source
from fer.stream.state import TemporalState
from fer.stream.stats import Stats

CLASSES = ("happy", "sad", "odd")
BOX = (8.0, 8.0, 40.0, 40.0)
WATCHDOG = 10


@pytest.fixture(autouse=True)
def watchdog():
    def bite(*_: object) -> None:
        pytest.fail(f"hangs for more than {WATCHDOG} s")

    before = signal.signal(signal.SIGALRM, bite)
    signal.alarm(WATCHDOG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def go(source, *sinks: Sink, detect=None) -> Stats:
    stats, state = Stats(), TemporalState(Tracker(), Smoother())
    detect = detect or FakeDetector(BOX)
    run(results(source, detect, FakeFaceClassifier(CLASSES), state, stats), sinks, stats)
    return stats


def outputs(folder: Path) -> list[Sink]:
    context = Context(FakeSource(), CLASSES)
    video = VideoFile(folder / "out.mp4", context)
    return [JsonLines(folder / "out.jsonl"), Csv(folder / "out.csv", context), video]


def rows(folder: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in (folder / "out.jsonl").read_text().splitlines()]


def decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("at", [0, 1, 2, 7, 23])
def test_the_reader_dies(at: int, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"frame {at}"):
        go(FakeSource(24, fails_at=at), *outputs(tmp_path))
    assert rows(tmp_path) == list(range(at))
    assert not list(tmp_path.glob(".*"))
    assert (decoded(tmp_path / "out.mp4") if at else 0) == at


def test_the_disk_of_the_log_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(SinkError, match="No space left on device"):
        go(FakeSource(500), JsonLines(Path("/dev/full")), JsonLines(tmp_path / "out.jsonl"))
    actual = rows(tmp_path)
    assert actual == list(range(len(actual)))


def test_no_face_in_the_whole_run(tmp_path: Path) -> None:
    stats = go(FakeSource(30), *outputs(tmp_path), detect=FakeDetector())
    assert rows(tmp_path) == list(range(30))
    assert (stats.faces, decoded(tmp_path / "out.mp4")) == (0, 30)


class Changing(FakeSource):
    """A source that turns from landscape to portrait, and then to noise."""

    def __iter__(self):
        rng = np.random.default_rng(0)
        for frame in super().__iter__():
            image = frame.image
            if 5 <= frame.index < 10:
                image = np.ascontiguousarray(np.rot90(image))
            if frame.index >= 10:
                image = rng.integers(0, 256, image.shape, dtype=np.uint8)
            yield type(frame)(image, frame.index, frame.time)


def test_the_size_changes_and_frames_turn_to_garbage(tmp_path: Path) -> None:
    go(Changing(15), *outputs(tmp_path))
    assert rows(tmp_path) == list(range(15))
    assert decoded(tmp_path / "out.mp4") == 15


def test_a_cut_file_is_processed_as_far_as_it_goes(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_clip("whole.mkv", frames=150)
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    with open_source(str(tmp_path / "cut.mkv")) as source:
        go(source, *outputs(tmp_path))
    actual = rows(tmp_path)
    assert actual == list(range(len(actual))) and 5 < len(actual) < 150
    assert decoded(tmp_path / "out.mp4") == len(actual)
    assert source.notes


def test_a_detector_that_fails_leaves_the_results_so_far(tmp_path: Path) -> None:
    def broken(frame):
        if frame.index == 9:
            raise MemoryError("no memory")
        return FakeDetector(BOX)(frame)

    with pytest.raises(MemoryError):
        go(FakeSource(50), *outputs(tmp_path), detect=broken)
    actual = rows(tmp_path)
    assert actual == list(range(len(actual)))
    assert decoded(tmp_path / "out.mp4") == len(actual)


def test_a_missing_artifact_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    from fer.stream import Recognizer

    with pytest.raises(FerError, match="no model file"):
        Recognizer(tmp_path / "none.ts")
    assert list(tmp_path.iterdir()) == []


class Slow(FakeSource):
    def __iter__(self):
        for frame in super().__iter__():
            time.sleep(0.002)
            yield frame


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.1, 0.37])
def test_ctrl_c_at_any_moment(wait: float, tmp_path: Path) -> None:
    log = tmp_path / "out.jsonl"

    def interrupt() -> None:
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.001)
        time.sleep(wait)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        go(Slow(100_000), *outputs(tmp_path))
    thread.join()
    actual = rows(tmp_path)
    assert actual == list(range(len(actual)))
    assert abs(len(actual) - decoded(tmp_path / "out.mp4")) <= 1, "a frame may be written to only one of them"
