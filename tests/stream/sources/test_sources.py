import io
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image as PIL

from fer.errors import SourceError
from fer.stream.sources import open_source

Clip = Callable[..., Path]


def write_image(path: Path, image: np.ndarray) -> Path:
    cv2.imencode(path.suffix, image)[1].tofile(path)
    return path


def test_a_video_gives_every_frame_at_its_own_time(make_clip: Clip) -> None:
    with open_source(str(make_clip())) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == pytest.approx([0.04 * i for i in range(6)], abs=1e-3)
    assert frames[0].image.shape == (48, 64, 3)
    assert [int(frame.image[40, 50, 0]) for frame in frames] == pytest.approx([60 + 5 * i for i in range(6)], abs=3)
    red, green, _ = (int(v) for v in frames[0].image[4, 4])
    assert red > 180 and green < 80, "RGB, not BGR"
    assert source.notes == []
    assert (source.kind, source.total, source.rate) == ("video", 6, 25)


def test_uneven_times_are_kept(make_clip: Clip) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.2]
    with open_source(str(make_clip(times=times))) as source:
        assert [frame.time for frame in source] == pytest.approx(times, abs=1e-3)


def test_times_count_from_the_start_of_the_file(make_clip: Clip) -> None:
    path = make_clip("clip.ts", times=[9.0 + i / 25 for i in range(6)])
    with av.open(str(path)) as container:
        assert container.start_time == 9_000_000
    with open_source(str(path)) as source:
        assert next(iter(source)).time == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("quarter", "corner"), [(90, "right upper"), (180, "right lower"), (270, "left lower")])
def test_a_phone_video_is_turned_upright(make_clip: Clip, quarter: int, corner: str) -> None:
    path = make_clip()
    data = bytearray(path.read_bytes())
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[quarter]  # clockwise, as players turn it
    matrix = [v << 16 for v in (cosine, sine, 0, -sine, cosine, 0, 0, 0)]
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 32] = struct.pack(">8i", *matrix)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        image = next(iter(source)).image
    assert image.shape == ((48, 64, 3) if quarter == 180 else (64, 48, 3))
    side, level = corner.split()
    y, x = (4 if level == "upper" else -4), (4 if side == "left" else -4)
    assert image[y, x, 0] > 180 and image[y, x, 1] < 80


@pytest.mark.parametrize("name", ["a b=c&d,e.mp4", "año 'x' \"y\".mp4", "50%d [1] ${x}.mp4", "file:a:b.mp4", "-x.mp4"])
def test_names_are_only_names(make_clip: Clip, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(name)
    monkeypatch.chdir(path.parent)
    with open_source(name) as source:
        assert len(list(source)) == 6


def test_a_cut_video_gives_what_decodes_and_says_so(make_clip: Clip) -> None:
    path = make_clip("clip.mkv", frames=60, size=(160, 120))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with open_source(str(path)) as source:
        frames = list(source)
    assert 5 < len(frames) < 50
    assert source.notes and "clip.mkv" in source.notes[0]


def test_a_damaged_video_goes_on_behind_the_damage(make_clip: Clip) -> None:
    path = make_clip("clip.mp4", frames=40, size=(160, 120))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    stop = data.index(b"moov") - 4
    third = (stop - start) // 3
    data[start + third : start + 2 * third] = bytes(third)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        frames = list(source)
    assert 5 < len(frames) < 40
    assert frames[-1].time > 1.4
    assert source.notes and "clip.mp4" in " ".join(source.notes)


def test_stopping_early_is_no_loss(make_clip: Clip) -> None:
    with open_source(str(make_clip())) as source:
        frames = iter(source)
        next(frames)
        frames.close()
    assert source.notes == []


def test_an_mp4_without_its_index_says_so(make_clip: Clip) -> None:
    path = make_clip(frames=30)
    path.write_bytes(path.read_bytes()[:-200])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(SourceError, match="without its index"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"only text\n" * 50, "neither a video nor an image"),
        ("notes.txt", b"only text\n" * 50, "holds no video|neither"),
        ("empty.mp4", b"", "empty"),
        ("photo.jpg", b"only text", "cannot be read as an image"),
        ("empty.png", b"", "empty"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / name))


def test_a_picture_in_a_format_without_a_decoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    with pytest.raises(SourceError, match="no video that can be decoded"):
        open_source(str(tmp_path / "a.gif"))


@pytest.mark.parametrize("codec", [b"V_NOBODY/ISO/AVC", b"V_XXXX"])
def test_a_video_of_an_unknown_codec_is_refused(codec: bytes, make_clip: Clip) -> None:
    path = make_clip("clip.mkv")
    data = path.read_bytes()
    name = b"V_MPEG4/ISO/AVC"
    assert data.count(name) == 1
    path.write_bytes(data.replace(name, codec.ljust(len(name), b"\0")[: len(name)]))
    with pytest.raises(SourceError, match="no video that can be decoded"):
        open_source(str(path), threads=1)


@pytest.mark.parametrize("head", [b"Pf\n4 4\n-1.0\n", b"PF\n4 4\n-1.0\n"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pfm"])
def test_floating_point_pictures_are_read_or_refused(head: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(head + bytes(4 * 16 * 3))
    try:
        with open_source(str(path)) as source:
            (frame,) = source
        assert frame.image.shape == (4, 4, 3)
    except SourceError as error:
        assert "cannot be read as an image" in str(error)


def png(width: int, height: int) -> bytes:
    """A PNG that claims to be so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def test_a_picture_that_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(30_000, 30_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match="more pixels than"):
        open_source(str(tmp_path / "a.png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_photo_of_a_large_camera_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((11_600, 8_700), np.uint8))[1].tobytes())
    with open_source(str(tmp_path / "a.jpg")) as source:
        assert next(iter(source)).image.shape == (11_600, 8_700, 3)


def test_what_is_missing_is_named_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"no file .*holidy\.mp4.*did you mean .*holiday\.mp4"):
        open_source(str(tmp_path / "holidy.mp4"))
    with pytest.raises(SourceError, match="no folder"):
        open_source(str(tmp_path / "nowhere" / "clip.mp4"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no source"),
        ("", "no source"),
        (-1, "count from 0"),
        (10**30, "up to 999"),
    ],
)
def test_sources_that_are_not_there(source: int | str | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(source)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_is_turned_by_its_exif(tmp_path: Path, suffix: str) -> None:
    exif = PIL.Exif()
    exif[0x112] = 6  # turn clockwise by 90°
    image = PIL.new("RGB", (40, 20), (10, 10, 10))
    image.paste((250, 0, 0), (0, 0, 20, 10))
    image.save(tmp_path / f"photo{suffix}", exif=exif)
    with open_source(str(tmp_path / f"photo{suffix}")) as source:
        (frame,) = source
    assert frame.image.shape == (40, 20, 3)
    assert frame.image[3, -4].tolist() == pytest.approx([250, 0, 0], abs=12)
    assert (source.kind, frame.file, frame.time) == ("image", f"photo{suffix}", 0.0)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (np.full((5, 7), 100, np.uint8), [100, 100, 100]),
        (np.full((5, 7), 100 * 257, np.uint16), [100, 100, 100]),
        (np.full((5, 7, 3), (0, 100 * 257, 200 * 257), np.uint16), [200, 100, 0]),
        (np.full((5, 7, 4), (0, 100, 200, 128), np.uint8), [200, 100, 0]),
        (np.full((1, 1, 3), (0, 100, 200), np.uint8), [200, 100, 0]),
    ],
)
def test_any_depth_and_any_channels(tmp_path: Path, image: np.ndarray, wanted: list[int]) -> None:
    path = write_image(tmp_path / "ünï.png", image)
    with open_source(str(path)) as source:
        (frame,) = source
    assert frame.image.shape == (*image.shape[:2], 3)
    assert frame.image[0, 0].tolist() == pytest.approx(wanted, abs=1)


def test_a_folder_goes_by_number_and_past_broken_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("f10.png", "f2.png", "F1.JPG"):
        write_image(tmp_path / name, np.full((6, 6, 3), 50, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    good = write_image(tmp_path / "f3.png", noise).read_bytes()
    (tmp_path / "f3.png").write_bytes(good[: len(good) // 2])
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub.png").mkdir()
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.file for frame in frames] == ["F1.JPG", "f2.png", "f3.png", "f10.png"]
    assert [frame.error is not None for frame in frames] == [False, False, True, False]
    assert source.total == 4 and len(source.notes) == 1 and "f3.png" in source.notes[0]
    assert capfd.readouterr().err == "", "libpng must not speak"


def test_a_folder_without_images_points_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        open_source(str(tmp_path))
    (tmp_path / "below").mkdir()
    write_image(tmp_path / "below" / "a.png", np.zeros((6, 6, 3), np.uint8))
    with pytest.raises(SourceError, match="below"):
        open_source(str(tmp_path))


def test_a_pattern_names_images_or_one_video(tmp_path: Path, make_clip: Clip) -> None:
    for name in ("a/f10.png", "a/f2.png", "b/f1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, np.full((6, 6, 3), 50, np.uint8))
    with open_source(str(tmp_path / "a" / "f*.png")) as source:
        assert [frame.file for frame in source] == ["f2.png", "f10.png"]
        assert (source.kind, source.total, source.name) == ("folder", 2, "f*.png")
    with open_source(str(tmp_path / "?" / "*")) as source:
        assert [frame.file for frame in source] == ["a/f2.png", "a/f10.png", "b/f1.png"]
    clip = make_clip("one.mkv")
    with open_source(str(clip.parent / "o*.mkv")) as source:
        assert source.kind == "video" and source.path == clip
    make_clip("other.mkv")
    with pytest.raises(SourceError, match="2 files and no image"):
        open_source(str(clip.parent / "o*.mkv"))
    with pytest.raises(SourceError, match=r"no file .*x\*\.png"):
        open_source(str(tmp_path / "x*.png"))
    (tmp_path / "odd[1].png").write_bytes((tmp_path / "a" / "f2.png").read_bytes())
    with open_source(str(tmp_path / "odd[1].png")) as source:
        assert source.kind == "image"


def test_silence_holds_for_c_libraries_and_ends() -> None:
    code = (
        "import os, sys\nfrom fer.stream.sources.stills import quiet\n"
        "with quiet():\n    os.write(2, b'inside')\nos.write(2, b'outside')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "outside"


def test_two_threads_that_ask_for_silence_do_not_keep_it() -> None:
    code = """
import os, threading
from fer.stream.sources.stills import quiet
inside, left = threading.Event(), threading.Event()
def second():
    inside.wait()
    with quiet():
        left.wait()
thread = threading.Thread(target=second)
thread.start()
with quiet():
    inside.set()
    left.wait(0.3)
left.set()
thread.join()
os.write(2, b'outside')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "outside"


def as_a_browser_records(path: Path) -> Path:
    """150 frames in 5 seconds, at uneven times, of which the file does not tell how long they last."""
    times = np.arange(150) * 1000 / 30 + np.random.default_rng(0).integers(0, 30, 150)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # DefaultDuration of Matroska, which becomes Void
    length = data[at + 3] & 0x7F
    path.write_bytes(data[:at] + bytes([0xEC, 0x80 | length + 2]) + bytes(length + 2) + data[at + 4 + length :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].guessed_rate == 1000
    return path


def test_the_clock_of_a_recording_is_not_its_rate(tmp_path: Path) -> None:
    with open_source(str(as_a_browser_records(tmp_path / "a.webm"))) as source:
        assert source.rate == 30 and source.total in range(145, 156)


def test_a_name_like_a_home_folder_is_a_name(make_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip("~nobody.mp4")
    monkeypatch.chdir(path.parent)
    with open_source("~nobody.mp4") as source:
        assert source.path == Path("~nobody.mp4")
    with pytest.raises(SourceError, match=r"no file ~no\.one/clip"):
        open_source("~no.one/clip.mp4")


def test_a_moving_gif_moves(tmp_path: Path) -> None:
    pictures = [PIL.new("RGB", (32, 32), (60 * i, 0, 0)) for i in range(4)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    (tmp_path / "a.gif").write_bytes(buffer.getvalue())
    with open_source(str(tmp_path / "a.gif")) as source:
        assert [round(frame.time, 1) for frame in source] == [0.0, 0.1, 0.2, 0.3]
