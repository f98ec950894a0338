"""`resume=auto` of a run over a video: killed anywhere, it ends with what an undisturbed one has."""

import json
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from filelock import FileLock

from fer.errors import ConfigError, SinkError
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeSource
from fer.stream.outputs import Outputs
from fer.stream.pipeline import TemporalState, results, run
from fer.stream.resume import Done, going_on, replayed
from fer.stream.sinks.base import JsonLines, Sink
from fer.stream.sources import open_source
from fer.stream.stats import Stats
from fer.stream.types import Array, Faces, Frame, FrameResult

CLASSES = ("happy", "sad", "odd")


def detect(frame: Frame) -> Faces:
    """Two faces that wander, of which the second comes late and is away for a while."""
    k = frame.index
    boxes = [(5 + k / 20, 4, 25 + k / 20, 30)]
    if 30 < k < 90 or k > 150:
        boxes.append((36.0, 10 + k / 40, 56, 30 + k / 40))
    return Faces(np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32))


def classify(asked: Any) -> list[Array]:
    """Emotions that change slowly, and differ from face to face."""
    answers = []
    for frame, faces in asked:
        angle = frame.index / 9 + np.arange(len(faces))[:, None] + np.arange(3)[None]
        values = np.exp(2 * np.sin(angle))
        answers.append((values / values.sum(1, keepdims=True)).astype(np.float32))
    return answers


class Seeing(Sink):
    """Keeps what it is given, as timeline and report are given what an earlier run has answered."""

    def __init__(self, dies_at: int | None = None, error: type[BaseException] | None = None) -> None:
        self.seen: list[FrameResult] = []
        self._dies_at, self._error = dies_at, error

    def write(self, result: FrameResult, picture: Array | None) -> None:
        self.seen.append(result)
        if result.frame.index == self._dies_at:
            if self._error is not None:
                raise self._error("as asked")
            signal.raise_signal(signal.SIGKILL)


def go(clip: Path, folder: Path, *extra: Sink, resume: str | None = None, settings: Any = None) -> Stats:
    stats = Stats()
    with open_source(str(clip)) as source:
        outputs = Outputs.of(source, None, str(folder / "out.mp4"), str(folder / "out.jsonl"), None)
        assert outputs.log is not None
        with going_on(source, outputs.log, outputs.save, settings or {}, resume) as done:
            sinks = [*outputs.sinks(CLASSES, done=done), *extra]
            state = TemporalState(Tracker(), Smoother())
            run(results(source, detect, classify, CLASSES, state, stats, done=done), sinks, stats)
    return stats


def _die(clip: Path, folder: Path, at: int, resume: str | None) -> None:
    go(clip, folder, Seeing(at), resume=resume)


def killed(clip: Path, folder: Path, at: int, resume: str | None = None) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of OpenCV's threads
    process = context.Process(target=_die, args=(clip, folder, at, resume))
    process.start()
    process.join(100)
    alive = process.is_alive()
    process.kill()
    assert not alive and process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        y, x = np.mgrid[:48, :64]
        for k in range(220):
            grey = 128 + 80 * np.sin((x + k) / 9) * np.cos(y / 7)
            image = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def undisturbed(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    go(clip, folder)
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def times(folder: Path) -> list[float]:
    with av.open(str(folder / "out.mp4")) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def assert_as(folder: Path, undisturbed: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["out.jsonl", "out.mp4"]
    found, expected = rows(folder), rows(undisturbed)
    assert [row["frame"] for row in found] == list(range(220))
    for ours, theirs in zip(found, expected, strict=True):
        assert [face["id"] for face in ours["faces"]] == [face["id"] for face in theirs["faces"]]
        assert [face["emotion"] for face in ours["faces"]] == [face["emotion"] for face in theirs["faces"]]
        for a, b in zip(ours["faces"], theirs["faces"], strict=True):
            assert a["box"] == b["box"] and a["probabilities"] == b["probabilities"]
            assert a["smoothed"] == pytest.approx(b["smoothed"], abs=1e-5)
    assert times(folder) == times(undisturbed)


@pytest.mark.parametrize("at", [20, 75])
def test_a_killed_run_ends_as_an_undisturbed_one(clip: Path, undisturbed: Path, at: int, tmp_path: Path) -> None:
    killed(clip, tmp_path, at)
    killed(clip, tmp_path, at + 60, resume="auto")
    seeing = Seeing()
    stats = go(clip, tmp_path, seeing, resume="auto")
    assert_as(tmp_path, undisturbed)
    assert [result.frame.index for result in seeing.seen] == list(range(220)), "all of it, for timeline and report"
    assert all(result.frame.image.shape == (48, 64, 3) for result in seeing.seen)
    assert stats.frames == 220 and (stats.earlier > 20 or at == 20)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SinkError])
def test_a_stopped_run_goes_on_too(clip: Path, undisturbed: Path, error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        go(clip, tmp_path, Seeing(130, error))
    assert (tmp_path / "out.mp4").exists()
    assert go(clip, tmp_path, resume="auto").earlier >= 50
    assert_as(tmp_path, undisturbed)


def test_a_row_cut_short_is_written_anew(clip: Path, undisturbed: Path, tmp_path: Path) -> None:
    killed(clip, tmp_path, 140)
    log = tmp_path / "out.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    go(clip, tmp_path, resume="auto")
    assert_as(tmp_path, undisturbed)


def test_other_settings_another_source_or_a_finished_run_begin_anew(clip: Path, tmp_path: Path) -> None:
    killed(clip, tmp_path, 140)
    assert go(clip, tmp_path, resume="auto", settings={"every": 3}).earlier == 0
    assert go(clip, tmp_path, resume="auto").earlier == 0
    killed(clip, tmp_path, 140)
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    assert go(other, tmp_path, resume="auto").earlier == 0
    killed(clip, tmp_path, 140)
    assert go(clip, tmp_path).earlier == 0, "without resume=auto"


def test_an_older_video_is_not_taken_for_ones_own(clip: Path, undisturbed: Path, tmp_path: Path) -> None:
    """One that could be cut after any frame, of a run that was killed before its own film had begun."""
    with av.open(str(tmp_path / "out.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    killed(clip, tmp_path, 8)
    assert len(rows(tmp_path)) >= 5 and (tmp_path / "out.mp4").exists()
    assert go(clip, tmp_path, resume="auto").earlier == 0
    assert_as(tmp_path, undisturbed)


class Scenes(FakeSource):
    """24 frames, with a cut before frame 14."""

    def __init__(self, path: Path) -> None:
        super().__init__(24)
        self.path = path

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            scene = np.random.default_rng(frame.index // 14).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            yield replace(frame, image=np.repeat(np.repeat(scene, 8, 0), 8, 1))


@pytest.mark.parametrize("every", [1, 3])
def test_wherever_a_run_ended_it_goes_on_as_if_undisturbed(tmp_path: Path, every: int) -> None:
    """Where a face has just come, where a scene begins, and between two searches too."""
    log, source = tmp_path / "out.jsonl", tmp_path / "clip.mp4"
    source.touch()

    def late(frame: Frame) -> Faces:
        return detect(replace(frame, index=frame.index + 24))  # the second face comes with frame 7

    def answered(done: Done | None, stats: Stats) -> list[dict[str, Any]]:
        state, clip = TemporalState(Tracker(), Smoother()), Scenes(source)
        return [r.row() for r in results(clip, late, classify, CLASSES, state, stats, every, done)]

    expected = answered(None, Stats())
    assert {face["id"] for row in expected for face in row["faces"]} == {1, 2, 3, 4}
    for n in range(1, 24):
        with suppress(KeyboardInterrupt), going_on(Scenes(source), log, None, {}, None):
            log.write_text("".join(json.dumps(row) + "\n" for row in expected[:n]))
            raise KeyboardInterrupt
        stats = Stats()
        with going_on(Scenes(source), log, None, {}, "auto") as done:
            found = answered(done, stats)
        assert n - stats.earlier <= every, "little is done again"
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.get("carried") == theirs.get("carried"), n
            assert [face["id"] for face in ours["faces"]] == [face["id"] for face in theirs["faces"]], n
            for a, b in zip(ours["faces"], theirs["faces"], strict=True):
                assert a["box"] == b["box"] and a["smoothed"] == pytest.approx(b["smoothed"], abs=1e-5)


def test_leaving_what_was_logged_closes_the_source(tmp_path: Path) -> None:
    source = FakeSource(9)
    (tmp_path / "out.jsonl").write_text('{"frame": 0, "time": 0.0, "faces": []}\n')
    done, state = Done(tmp_path / "out.jsonl", 1, 0.0), TemporalState(Tracker(), Smoother())
    answers = results(source, detect, classify, CLASSES, state, Stats(), done=done)
    next(answers)
    answers.close()
    assert source.closed


def test_a_log_that_was_edited_is_gone_on_with_up_to_there(clip: Path, tmp_path: Path) -> None:
    log, good = tmp_path / "out.jsonl", '{{"frame": {}, "time": 0.0, "faces": []}}\n'
    faces = ("3", '[{"id": []}]', "[[]]", "[{}]")
    odd = ["null", "[1]", "3", "{", '{"a":' * 5000, '{"frame": 2}']
    for row in odd + [f'{{"frame": 2, "time": 0, "faces": {value}}}' for value in faces]:
        with pytest.raises(SinkError), open_source(str(clip)) as source, going_on(source, log, None, {}, None):
            log.write_text(good.format(0) + good.format(1) + row + "\n" + good.format(3))
            raise SinkError("as asked")
        with open_source(str(clip)) as source, going_on(source, log, None, {}, "auto") as done:
            assert done is not None and done.frames == 2, row


def test_what_cannot_be_gone_on_with_is_one_line(clip: Path, tmp_path: Path) -> None:
    with open_source(str(clip)) as source:
        for log, resume, message in (
            (tmp_path / "out.csv", "auto", r"log=<name>\.jsonl"),
            (None, "auto", r"log=<name>\.jsonl"),
            (tmp_path / "out.jsonl", "yes", "resume=auto"),
        ):
            with pytest.raises(ConfigError, match=message), going_on(source, log, None, {}, resume):
                pass
        run_of_none = going_on(FakeSource(), tmp_path / "out.jsonl", None, {}, "auto")
        with pytest.raises(ConfigError, match="video file"), run_of_none:
            pass
        second = going_on(source, tmp_path / "out.jsonl", None, {}, None)
        with FileLock(tmp_path / ".out.jsonl.lock"), pytest.raises(ConfigError, match="is writing"), second:
            pass


def test_rows_become_results_again(tmp_path: Path) -> None:
    class Keep(Sink):
        def __init__(self) -> None:
            self.seen: list[FrameResult] = []

        def write(self, result: FrameResult, picture: Array | None) -> None:
            self.seen.append(result)

    keep, stats = Keep(), Stats()
    log = JsonLines(tmp_path / "a.jsonl")
    answers = results(FakeSource(60), detect, classify, CLASSES, TemporalState(Tracker(), Smoother()), stats, every=2)
    run(answers, [log, keep], stats)
    for row, result in zip((tmp_path / "a.jsonl").read_text().splitlines(), keep.seen, strict=True):
        assert replayed(json.loads(row), result.frame, CLASSES).row() == json.loads(row)
