"""Animated pictures are videos, played as a browser shows them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer.errors import SourceError
from fer.stream.sources import open_source

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
FRAMES = [Image.new("RGB", (40, 24), colour) for colour in COLOURS]


def save(path: Path, kind: str, durations: list[int] | int, frames: list[Image.Image] = FRAMES, **more: object) -> Path:
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=durations, **more)
    return path


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("name", ["moving", "moving.jpg", "moving.mp4"])
def test_an_animation_is_played_with_its_own_durations_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    with open_source(str(save(tmp_path / name, kind, [50, 200, 100, 50]))) as source:
        frames = list(source)
    assert (source.kind, source.total, source.still, source.notes) == ("video", 4, False, [])
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.05, 0.25, 0.35], abs=0.002)
    assert [frame.file for frame in frames] == [None] * 4
    assert source.last_duration == pytest.approx(0.05, abs=0.002)
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert frame.image.shape == (24, 40, 3)
        assert np.abs(frame.image.astype(int) - colour).max() < 30


@pytest.mark.parametrize(("shown", "rate"), [(0, 10), (10, 10), (20, 50), (40, 25), (1000, 1)])
def test_the_rate_comes_from_the_durations_and_those_that_browsers_ignore_are_a_tenth(
    tmp_path: Path, shown: int, rate: int
) -> None:
    source = open_source(str(save(tmp_path / "a.gif", "GIF", shown)))
    assert source.rate == rate
    assert [frame.time for frame in source] == pytest.approx([k / rate for k in range(4)])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_of_one_frame_is_a_still(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "a", kind, 40, FRAMES[:1])
    source = open_source(str(tmp_path / "a"))
    assert (source.kind, len(list(source)), source.notes) == ("image", 1, [])


def test_the_picture_for_programs_that_play_no_animation_is_not_one_of_its_frames(tmp_path: Path) -> None:
    source = open_source(str(save(tmp_path / "a.png", "PNG", 40, default_image=True)))
    assert [tuple(frame.image[0, 0]) for frame in source] == COLOURS[1:]
    assert source.total == 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_transparent_parts_are_white_as_on_a_page(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGBA", (40, 24), (0, 0, 0, 0)) for _ in range(2)]
    for k, frame in enumerate(frames):
        frame.paste((200, 0, 0, 255), (4 + k, 4, 20, 20))
    more = {"lossless": True} if kind == "WEBP" else {"disposal": 2}
    source = open_source(str(save(tmp_path / "a", kind, 40, frames, **more)))
    for k, frame in enumerate(source):
        assert frame.image[0, 0].tolist() == [255, 255, 255]
        assert frame.image[10, 4 + k].tolist() == pytest.approx([200, 0, 0], abs=3)
        assert frame.image[10, 3 + k].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_an_animation_cut_short_gives_the_frames_that_are_whole_and_says_so(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 60, 80, 3), dtype=np.uint8)
    path = save(tmp_path / "a.gif", kind, 40, [Image.fromarray(each) for each in noise])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    source = open_source(str(path))
    frames = list(source)
    assert 2 <= len(frames) < 6
    assert len(source.notes) == 1 and f"{len(frames)} of its" in source.notes[0]
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(SourceError, match="cut short"):
        list(open_source(str(path)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_damaged_animation_is_not_taken_for_a_still(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3), dtype=np.uint8)
    path = save(tmp_path / "a.gif", "GIF", 40, [Image.fromarray(each) for each in noise])
    content = path.read_bytes()
    # A block begins, and the file ends: Pillow cannot even count the frames.
    path.write_bytes(content[: content.index(b"!\xf9\x04", int(share * len(content))) + 3])
    source = open_source(str(path))
    frames = list(source)
    assert source.kind == "video" and 1 <= len(frames) < 6
    assert len(source.notes) == 1 and f"{len(frames)} of its" in source.notes[0]
