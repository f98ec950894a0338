from pathlib import Path

import cv2
import numpy as np
import pytest
from samples import flat, frame_result

from fer.errors import SinkError
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.pictures import Pictures
from fer.stream.sources import Kind, open_source


def source(kind: Kind) -> FakeSource:
    made = FakeSource()
    made.kind = kind
    return made


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_picture_is_written_in_its_colours(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ü.{ending}"
    with Pictures(path, Context(source("image"))) as sink:
        sink.write(frame_result(0, file="a.png"), flat(32, 32, 220))
    back = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(back[16, 16], [220, 50, 200], atol=6)


def test_a_folder_keeps_names(tmp_path: Path) -> None:
    with Pictures(tmp_path, Context(source("folder"))) as sink:
        for i, name in enumerate(("a.png", "b.JPG", "c.avif")):
            sink.write(frame_result(i, file=name), flat(8, 8))
        sink.write(frame_result(3, faces=0, file="d.png", error="broken"), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.JPG", "c.avif.png"]


def test_no_picture_of_a_folder_replaces_another(tmp_path: Path) -> None:
    names = ["photo", "photo.png", "photo.png.png", "photo.heic", "photo.jfif"]
    for name in names:
        cv2.imencode(".png", flat(8, 8))[1].tofile(tmp_path / name)
    with open_source(str(tmp_path)) as opened, Pictures(tmp_path / "out", Context(opened)) as sink:
        for frame in opened:
            sink.write(frame_result(frame.index, file=frame.file), flat(8, 8))
    assert len(list((tmp_path / "out").iterdir())) == len(names)


def test_a_picture_too_large_for_its_format(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"use \.png"), Pictures(tmp_path / "a.webp", Context(source("image"))) as sink:
        sink.write(frame_result(0, file="a.png"), flat(20000, 2))
    assert list(tmp_path.iterdir()) == []
