import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from samples import flat, frame_result

from fer.errors import SinkError
from fer.faces.types import Faces
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import open_source
from fer.stream.types import FrameResult


def context(rate: Fraction = Fraction(25)) -> Context:
    source = FakeSource()
    source.rate = rate
    return Context(source)


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (2, 2), (1, 1)])
def test_a_video_is_complete_and_plays_anywhere(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"a:b 100%d.{ending}"
    with VideoFile(path, context()) as video:
        for i in range(10):
            video.write(frame_result(i, time=i / 25), flat(*size, 10 * i))
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    frames = frames_of(path)
    assert len(frames) == 10
    assert (frames[0].width, frames[0].height) == tuple(side + side % 2 for side in size)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25
        assert stream.frames == (0 if ending == "mkv" else 10), "its index is complete; Matroska does not count"


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60), Fraction(15, 2)])
def test_the_rate_of_the_source_is_kept(tmp_path: Path, rate: Fraction) -> None:
    path = tmp_path / "out.mp4"
    with VideoFile(path, context(rate)) as video:
        for i in range(12):
            video.write(frame_result(i, time=float(i / rate)), flat(32, 32))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate
        assert container.streams.video[0].frames == 12


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_the_times_of_the_source_are_kept(tmp_path: Path, ending: str) -> None:
    times = [5.0, 5.04, 5.5, 5.501, 5.501 + (ending != "mkv") * 1e-6, 6.0]  # late, still, and two in one tick
    with VideoFile(tmp_path / f"out.{ending}", context()) as video:
        for i, time in enumerate(times):
            video.write(frame_result(i, time=time), flat(32, 32))
    written = [float(frame.time or 0) for frame in frames_of(tmp_path / f"out.{ending}")]
    assert written == pytest.approx(times, abs=2e-3) and written == sorted(written)


def saved(clip: Path, path: Path) -> tuple[list[float], float, float]:
    """Save a film, as infer.py would. Return the times in the log, and durations before and after, all in seconds."""
    times = []
    with open_source(str(clip)) as source, VideoFile(path, Context(source)) as video:
        for frame in source:
            times.append(frame.time)
            video.write(FrameResult(frame, Faces.none(), (), np.zeros((0, 0), np.float32)), frame.image)
    assert source.notes == []
    lengths = []
    for name in (clip, path):
        with av.open(str(name)) as container:
            lengths.append((container.duration or 0) / av.time_base)
    return times, *lengths


PACES = {
    "one_frame": ([0], 0.04),
    "slow": ([0, 2, 4], 2.0),
    "fast": ([k / 1000 for k in range(20)], 0.001),
    "uneven": ([0, 0.04, 0.5, 0.52, 1.9], 0.3),
    "slides": ([0, 3, 3.5], 4.0),
}
"""Times of frames, and how long the last one lasts."""


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_films_of_any_pace_keep_their_times(tmp_path: Path, pace: str, ending: str, container: str) -> None:
    times, last = PACES[pace]
    with av.open(str(tmp_path / f"clip.{container}"), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(flat(64, 48, 5 * k), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.duration = round(1000 * ([*times, times[-1] + last][k + 1] - time))
                out.mux(packet)
        out.mux(stream.encode(None))
    log, before, after = saved(tmp_path / f"clip.{container}", tmp_path / f"out.{ending}")
    assert log == pytest.approx(times, abs=1e-3)
    assert [f.time for f in frames_of(tmp_path / f"out.{ending}")] == pytest.approx(log, abs=1e-3)
    assert after == pytest.approx(before, abs=2e-3) and after == pytest.approx(times[-1] + last, abs=2e-3)


def test_a_last_frame_of_unknown_duration_lasts_as_long_as_the_one_before(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", context()) as video:
        for i in range(20):
            video.write(frame_result(i, time=i / 1000), flat(32, 32))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(0.02, abs=1e-3)


def test_colours_survive(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", context()) as video:
        video.write(frame_result(0), flat(64, 64, 220))
    (frame,) = frames_of(tmp_path / "out.mp4")
    assert int(frame.colorspace) == 1, "BT.709"
    np.testing.assert_allclose(frame.to_ndarray(format="rgb24")[32, 32], [220, 50, 200], atol=6)


def test_a_frame_of_another_size_is_scaled(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", context()) as video:
        video.write(frame_result(0), flat(64, 48))
        video.write(frame_result(1, time=0.04), flat(31, 77))
    assert [(f.width, f.height) for f in frames_of(tmp_path / "out.mp4")] == [(64, 48)] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_frames_are_kept_however_the_run_ends(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    with pytest.raises(error), VideoFile(path, context()) as video:
        for i in range(4):
            video.write(frame_result(i, time=i / 25), flat(64, 48))
        raise error
    assert len(frames_of(path)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", context()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="cannot write"),
        VideoFile(tmp_path / "no" / "out.mp4", context()) as video,
    ):
        video.write(frame_result(0), flat(64, 48))


def noise(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def add(video: VideoFile, first: int, last: int, start: float = 2.0) -> None:
    for i in range(first, last):
        video.write(frame_result(i, time=start + i / 25), noise(i))


def played(path: Path) -> list[av.VideoFrame]:
    """What a player shows of a file that is cut short."""
    frames = []
    with suppress(av.error.InvalidDataError), av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame)
    return frames


def test_a_killed_video_plays_until_the_next_run_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoFile(path, context()) as video:
        add(video, 0, 170)
        (part,) = tmp_path.iterdir()
        left = part.read_bytes()  # as a kill leaves it
        assert not path.exists() and len(played(part)) >= 100
    path.unlink()
    part.write_bytes(left)
    with VideoFile(path, context()) as video:
        add(video, 0, 10)
    assert len(frames_of(path)) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can become larger than 300 kB."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_a_video_that_plays(small_disk: None, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(SinkError, match="holds no files so large"), VideoFile(path, context()) as video:
        add(video, 0, 2000)
    assert len(played(path)) >= 40
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
