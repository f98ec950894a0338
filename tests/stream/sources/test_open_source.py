from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import SourceError
from fer.stream.fakes import FakeSource
from fer.stream.sources import OPENERS, Request, open_source, opener

Clip = Callable[..., Path]


def write_image(path: Path, image: np.ndarray) -> Path:
    cv2.imencode(path.suffix, image)[1].tofile(path)
    return path


@pytest.mark.parametrize("name", ["a b=c&d,e.mp4", "año 'x' \"y\".mp4", "50%d [1] ${x}.mp4", "file:a:b.mp4", "-x.mp4"])
def test_names_are_only_names(make_clip: Clip, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(name)
    monkeypatch.chdir(path.parent)
    with open_source(name) as source:
        assert len(list(source)) == 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"only text\n" * 50, "neither a video nor an image"),
        ("notes.txt", b"only text\n" * 50, "holds no video|neither"),
        ("empty.mp4", b"", "is empty; copy"),
        ("segment.m4s", b"\0\0\0\x18stypmsdh" + bytes(99), "without its index"),
        ("photo.jpg", b"only text", "neither a video nor an image"),
        ("empty.png", b"", "is empty; copy"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file .*holidy\.mp4"):
        open_source(str(tmp_path / "holidy.mp4"))


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


def test_a_pattern_names_images(tmp_path: Path) -> None:
    for name in ("a/f10.png", "a/f2.png", "b/f1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, np.full((6, 6, 3), 50, np.uint8))
    with open_source(str(tmp_path / "a" / "f*.png")) as source:
        assert [frame.file for frame in source] == ["f2.png", "f10.png"]
        assert (source.kind, source.total, source.name) == ("folder", 2, "f*.png")
    with open_source(str(tmp_path / "?" / "*")) as source:
        assert [frame.file for frame in source] == ["a/f2.png", "a/f10.png", "b/f1.png"]
    with pytest.raises(SourceError, match=r"no images and no films in .*x\*\.png"):
        open_source(str(tmp_path / "x*.png"))
    (tmp_path / "odd[1].png").write_bytes((tmp_path / "a" / "f2.png").read_bytes())
    with open_source(str(tmp_path / "odd[1].png")) as source:
        assert source.kind == "image"


def test_a_name_like_a_home_folder_is_a_name(make_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip("~nobody.mp4")
    monkeypatch.chdir(path.parent)
    with open_source("~nobody.mp4") as source:
        assert source.path == Path("~nobody.mp4")
    with pytest.raises(SourceError, match=r"no file ~no\.one/clip"):
        open_source("~no.one/clip.mp4")


def test_an_opener_of_ones_own_is_asked_first(make_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPENERS, "own", lambda request: None)
    asked = []

    @opener("own")
    def own(request: Request) -> FakeSource | None:
        asked.append((request.source, request.path, request.url, request.threads))
        return FakeSource(3) if request.source == "fake://3" else None

    assert isinstance(open_source("fake://3", threads=2), FakeSource)
    path = make_clip("a.mp4")
    with open_source(str(path)) as source:
        assert source.name == "a.mp4"
    assert asked == [("fake://3", None, "fake://3", 2), (str(path), path, None, None)]
