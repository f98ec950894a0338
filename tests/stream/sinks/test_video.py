import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from samples import flat, frame_result

from fer.errors import SinkError
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.video import VideoFile


def context(rate: Fraction = Fraction(25), sound: Path | None = None) -> Context:
    source = FakeSource()
    source.rate, source.path = rate, sound
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


def test_the_times_of_the_source_are_kept(tmp_path: Path) -> None:
    times = [5.0, 5.04, 5.5, 5.5, 5.4, 6.0]  # it starts late, stands still, and runs backwards
    with VideoFile(tmp_path / "out.mp4", context()) as video:
        for i, time in enumerate(times):
            video.write(frame_result(i, time=time), flat(32, 32))
    written = [float(frame.time or 0) for frame in frames_of(tmp_path / "out.mp4")]
    assert written == pytest.approx([0, 0.04, 0.5, 0.5, 0.5, 1.0], abs=1e-3)
    assert written == sorted(set(written))


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
    with pytest.raises(SinkError, match="make room"), VideoFile(path, context()) as video:
        add(video, 0, 2000)
    assert len(played(path)) >= 40
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def film(path: Path, codec: str, frames: int = 75) -> Path:
    """25 frames a second, and a tone that begins in the middle."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=16_000)
        sound.layout = "mono"
        for _ in range(frames):
            out.mux(video.encode(av.VideoFrame.from_ndarray(flat(64, 48), format="rgb24")))
        out.mux(video.encode(None))
        time = np.arange(frames * 640) / 16_000
        tone = (np.sin(2 * np.pi * 440 * time) * (time > frames / 50) * 20_000).astype(np.int16)
        for k in range(0, len(tone), 1024):
            piece = av.AudioFrame.from_ndarray(tone[None, k : k + 1024], format="s16", layout="mono")
            piece.sample_rate, piece.pts = 16_000, k
            out.mux(sound.encode(piece))
        out.mux(sound.encode(None))
    return path


def loud_from(path: Path) -> tuple[str, float, float]:
    """The codec of the sound, when it begins to be loud, and when it ends, in seconds."""
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.name
        rate = container.streams.audio[0].codec_context.sample_rate
        pieces = [(f.time, f.to_ndarray()[0]) for f in container.decode(audio=0)]
    volume = np.concatenate([p.astype(float) / (32768 if p.dtype == np.int16 else 1) for _, p in pieces])
    return codec, pieces[0][0] + int(np.argmax(np.abs(volume) > 0.3)) / rate, pieces[0][0] + len(volume) / rate


@pytest.mark.parametrize(
    ("source", "codec", "ending"), [("a.mp4", "aac", "mp4"), ("a.mov", "pcm_s16le", "mov"), ("a.mkv", "flac", "mkv")]
)
def test_the_sound_stays_with_its_pictures(tmp_path: Path, source: str, codec: str, ending: str) -> None:
    clip = film(tmp_path / source, codec)
    with VideoFile(tmp_path / f"out.{ending}", context(sound=clip)) as video:
        add(video, 0, 75, start=0.0)
    name, loud, end = loud_from(tmp_path / f"out.{ending}")
    assert name == "aac"
    assert loud == pytest.approx(1.5, abs=0.1) and end == pytest.approx(3.0, abs=0.2)
    assert len(frames_of(tmp_path / f"out.{ending}")) == 75


def test_sound_ends_with_a_video_that_is_stopped(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mp4", "aac")
    with pytest.raises(KeyboardInterrupt), VideoFile(tmp_path / "out.mp4", context(sound=clip)) as video:
        add(video, 0, 50, start=0.0)
        raise KeyboardInterrupt
    assert loud_from(tmp_path / "out.mp4")[2] == pytest.approx(2.0, abs=0.15)


def test_a_source_without_sound_or_none_that_can_be_read(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    for k, clip in enumerate((make_clip("a.mp4"), tmp_path / "none.mp4")):
        with VideoFile(tmp_path / f"out{k}.mp4", context(sound=clip)) as video:
            add(video, 0, 5)
        with av.open(str(tmp_path / f"out{k}.mp4")) as container:
            assert not container.streams.audio
