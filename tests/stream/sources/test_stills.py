import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pillow_heif.HeifImagePlugin  # noqa: F401 (teaches Pillow HEIF)
import pytest
from PIL import Image as PIL

from fer.errors import SourceError
from fer.stream.sources import open_source

Clip = Callable[..., Path]


def write_image(path: Path, image: np.ndarray) -> Path:
    cv2.imencode(path.suffix, image)[1].tofile(path)
    return path


@pytest.mark.parametrize(("head", "channels"), [(b"Pf", 1), (b"PF", 3)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pfm", ""])
def test_pictures_that_only_ffmpeg_knows_are_read_whatever_their_ending(
    head: bytes, channels: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(head + b"\n4 4\n-1.0\n" + np.full(16 * channels, 0.5, "<f4").tobytes())
    (frame,) = open_source(str(path))
    assert frame.image.shape == (4, 4, 3) and frame.image.mean() == pytest.approx(128, abs=3)


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
        (np.full((5, 7, 4), (0, 100, 200, 255), np.uint8), [200, 100, 0]),
        (np.full((5, 7, 4), (0, 100, 200, 0), np.uint8), [255, 255, 255]),
        (np.full((1, 1, 3), (0, 100, 200), np.uint8), [200, 100, 0]),
    ],
)
def test_any_depth_and_any_channels(tmp_path: Path, image: np.ndarray, wanted: list[int]) -> None:
    path = write_image(tmp_path / "ünï.png", image)
    with open_source(str(path)) as source:
        (frame,) = source
    assert frame.image.shape == (*image.shape[:2], 3)
    assert frame.image[0, 0].tolist() == pytest.approx(wanted, abs=1)


def test_a_folder_goes_by_number_and_past_broken_files(tmp_path: Path) -> None:
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


def test_a_folder_without_images_points_to_patterns(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write_image(tmp_path / "below" / "a.png", np.zeros((6, 6, 3), np.uint8))
    with pytest.raises(SourceError, match=r"no images and no films in .*/\*\*/\*\.jpg"):
        open_source(str(tmp_path))


def photo(path: Path, kind: str = "JPEG", **options: object) -> Path:
    PIL.new("RGB", (8, 6), (250, 0, 0)).save(path, kind, **options)
    return path


NAMES = ["photo", "photo.jfif", "photo.JPG", "photo.jpg.txt", "photo.mp4", "photo.v2 (1)"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_may_have_any_ending_or_none(tmp_path: Path, kind: str, name: str) -> None:
    photo(tmp_path / name, kind)
    expected = None
    for source, as_kind in ((tmp_path / name, "image"), (tmp_path, "folder"), (tmp_path / "p*", "folder")):
        opened = open_source(str(source))
        (frame,) = opened
        assert (opened.kind, opened.notes, frame.file) == (as_kind, [], name)
        expected = frame.image if expected is None else expected
        np.testing.assert_array_equal(frame.image, expected)


def test_what_is_no_picture_in_a_folder_is_counted_once(tmp_path: Path) -> None:
    photo(tmp_path / "a")
    for name in ("a.txt", "labels.csv", "Thumbs.db", ".DS_Store", "IMG_1.AAE"):
        (tmp_path / name).write_bytes(b"text")
    assert open_source(str(tmp_path)).notes == []
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / "page.pdf").write_bytes(b"%PDF")
    (note,) = open_source(str(tmp_path)).notes
    assert "2 files are not images" in note and "clip.mp4" in note


def test_a_pattern_reaches_all_folders_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("top.jpg", "a/1.jpg", "a/b/2.jpg"):
        photo(tmp_path / name)
    for pattern in ("**/*.jpg", "**"):
        assert [frame.file for frame in open_source(str(tmp_path / pattern))] == ["top.jpg", "a/1.jpg", "a/b/2.jpg"]


def test_folders_below_a_folder_are_said(tmp_path: Path) -> None:
    for name in ("below", ".thumbnails"):
        (tmp_path / name).mkdir()
    photo(tmp_path / "top.jpg")
    photo(tmp_path / ".thumbnails" / "top.jpg")
    assert open_source(str(tmp_path)).notes == []
    photo(tmp_path / "below" / "a.jpg")
    (note,) = open_source(str(tmp_path)).notes
    assert "1 folder" in note and "**" in note


def test_of_several_frames_or_pages_the_first_is_used_and_that_is_said(tmp_path: Path) -> None:
    more = {"save_all": True, "append_images": [PIL.new("RGB", (8, 6), (0, 0, 250))]}
    photo(tmp_path / "a.gif", "GIF", **more)
    photo(tmp_path / "b.tif", "TIFF", **more)
    photo(tmp_path / "c.mpo", "MPO", **more)
    photo(tmp_path / "d.gif", "GIF")
    source = open_source(str(tmp_path))
    assert all(np.abs(frame.image.astype(int) - (250, 0, 0)).max() < 5 for frame in source)
    (note,) = source.notes
    assert "2 images have several frames or pages" in note and "a.gif" in note
    single = open_source(str(tmp_path / "b.tif"))
    assert single.kind == "image" and "first of its 2 pages" in single.notes[0]
    assert open_source(str(tmp_path / "c.mpo")).notes == []


def test_a_broken_picture_is_missed_in_a_folder_whatever_is_in_it(tmp_path: Path) -> None:
    photo(tmp_path / "good.png", "PNG")
    (tmp_path / "broken.heic").write_bytes(b"nothing")
    source = open_source(str(tmp_path))
    assert [frame.error is None for frame in source] == [False, True]
    assert len(source.notes) == 1 and "broken.heic" in source.notes[0]
