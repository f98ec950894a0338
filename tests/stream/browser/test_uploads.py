import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PIL

from fer.errors import SourceError
from fer.stream import Recognizer
from fer.stream.browser.uploads import process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results = tmp_path / "results"
    results.mkdir()
    return results


def test_a_video_becomes_a_video_a_log_and_a_timeline(
    one: Recognizer, folder: Path, make_clip: Callable[..., Path]
) -> None:
    shares: list[float] = []
    summary, paths = process(make_clip(frames=20), folder, one, 10, advance=shares.append)
    assert summary.startswith("20 frames, 20 with faces · ") and summary.endswith(" %")
    assert {key: path.name for key, path in paths.items()} == {
        "save": "result.mp4", "log": "log.jsonl", "timeline": "timeline.png"
    }  # fmt: skip
    assert set(folder.iterdir()) == set(paths.values())
    assert len(paths["log"].read_text().splitlines()) == 20
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp", ".bmp"])
def test_a_picture_becomes_a_picture_and_a_log(one: Recognizer, folder: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    summary, paths = process(path, folder, one, 10)
    assert summary.startswith("1 face · ")
    assert {path.name for path in folder.iterdir()} == {"result.png", "log.jsonl"}
    assert len(json.loads(paths["log"].read_text())["faces"]) == 1


@pytest.mark.parametrize("name", ["photo", "photo.mp4", "photo.jfif", "photo.HEIC"])
def test_a_picture_is_known_by_its_content(one: Recognizer, folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    summary, paths = process(tmp_path / name, folder, one, 10)
    assert summary.startswith("1 face · ") and set(paths) == {"save", "log"}


def test_an_animation_becomes_a_video(one: Recognizer, folder: Path, tmp_path: Path) -> None:
    frames = [PIL.new("RGB", (64, 48), (90, 90, k)) for k in range(12)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    summary, paths = process(tmp_path / "a.gif", folder, one, 10)
    assert summary.startswith("12 frames, 12 with faces") and set(paths) == {"save", "log", "timeline"}


def test_blur_hides_faces(one: Recognizer, folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), noise)
    _, paths = process(tmp_path / "p.png", folder, one, 10, blur="faces")
    shown = cv2.imread(str(paths["save"]))
    assert shown is not None
    assert shown[26:34, 14:34].std() < 30 < noise[26:34, 14:34].std()


def test_a_video_that_is_too_long_is_refused(one: Recognizer, folder: Path, make_clip: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match="limit of 2 seconds"):
        process(make_clip(frames=80), folder, one, 2)
    late = make_clip(frames=4, times=[0, 0.04, 0.08, 30])  # few frames, so that its header seems short
    with pytest.raises(SourceError, match="limit of 2 seconds"):
        process(late, folder, one, 2)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("list.mkv", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("page.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("empty.jpg", b""),
        ("broken.jpg", b"\xff\xd8\xff\x00"),
        ("broken.mp4", b"\x00\x00\x00\x18ftypmp42" + b"x" * 99),
    ],
)
def test_other_files_are_refused(one: Recognizer, folder: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError):
        process(tmp_path / name, folder, one, 10)
    assert not list(folder.iterdir())


def test_a_playlist_opens_no_other_file(one: Recognizer, folder: Path, make_clip: Callable[..., Path]) -> None:
    playlist = make_clip().with_name("list.mp4")
    playlist.write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(SourceError, match="not a picture or video"):
        process(playlist, folder, one, 10)
