import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import SourceError
from fer.stream import Recognizer
from fer.stream.browser.uploads import answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    return made


def test_a_film(one: Recognizer, folder: Path, make_clip: Callable[..., Path]) -> None:
    shares: list[float] = []
    made = answer(make_clip(frames=20), folder, one, 10, advance=shares.append)
    assert made.words.startswith("20 frames, 20 with faces · ") and made.words.endswith(" %")
    assert made.film and made.timeline and made.picture is None
    assert {path.name for path in folder.iterdir()} == {"result.mp4", "log.jsonl", "timeline.png"}
    assert len(made.log.read_text().splitlines()) == 20
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("ending", [".png", ".JPG", ".webp", ".bmp"])
def test_a_picture(one: Recognizer, folder: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"p{ending}"
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    made = answer(path, folder, one, 10)
    assert made.words.startswith("1 face · ") and made.picture and made.film is None and made.timeline is None
    assert {path.name for path in folder.iterdir()} == {"result.png", "log.jsonl"}
    assert len(json.loads(made.log.read_text())["faces"]) == 1


def test_faces_are_hidden_where_that_is_asked_for(one: Recognizer, folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), noise)
    made = answer(tmp_path / "p.png", folder, one, 10, blur="faces")
    shown = cv2.imread(str(made.picture))
    assert shown is not None
    assert shown[26:34, 14:34].std() < 30 < noise[26:34, 14:34].std()


def test_too_long(one: Recognizer, folder: Path, make_clip: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="longer than the 2 seconds"):
        answer(make_clip(frames=80), folder, one, 2)
    late = make_clip(frames=4, times=[0, 0.04, 0.08, 30])  # few frames, so that its header seems short
    with pytest.raises(SourceError, match="longer than the 2 seconds"):
        answer(late, folder, one, 2)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("list.mkv", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("list.m3u8", b"\x00\x00\x00\x18ftypmp42"),
        ("page.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("empty.jpg", b""),
        ("broken.jpg", b"\xff\xd8\xff\x00"),
        ("broken.mp4", b"\x00\x00\x00\x18ftypmp42" + b"x" * 99),
    ],
)
def test_what_is_no_media_is_refused(one: Recognizer, folder: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError):
        answer(tmp_path / name, folder, one, 10)
    assert not list(folder.iterdir())


def test_a_playlist_opens_no_other_file(one: Recognizer, folder: Path, make_clip: Callable[..., Path]) -> None:
    playlist = make_clip().with_name("list.mp4")
    playlist.write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(SourceError, match="no picture or film that is taken"):
        answer(playlist, folder, one, 10)
