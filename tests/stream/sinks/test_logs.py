import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import SinkError
from fer.stream.sinks.base import Csv, JsonLines, Pictures, write_whole
from fer.stream.types import Faces, Frame, FrameResult

CLASSES = ("a", "b")


def result(
    index: int, faces: int = 1, time: float = 0.0, file: str | None = None, error: str | None = None
) -> FrameResult:
    side = 0 if error else 4
    frame = Frame(np.zeros((side, side, 3), np.uint8), index, time, file, error)
    boxes = np.array([[0, 0, 2, 2 + i / 2] for i in range(faces)], np.float32).reshape(-1, 4)
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (faces, 1))
    return FrameResult(frame, Faces(boxes, np.full(faces, 0.5, np.float32)), CLASSES, probabilities)


def picture(width: int, height: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), (value, 50, 200), np.uint8)


def test_json_lines_grow_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonLines(path) as log:
        assert path.read_text() == ""
        for i in range(3):
            log.write(result(i, faces=i, time=i / 4, file="ö\udcff.png"), None)
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert len(rows) == i + 1
    assert [len(row["faces"]) for row in rows] == [0, 1, 2]
    assert rows[1]["time"] == 0.25 and rows[1]["file"] == "ö\udcff.png"
    assert "ö" in path.read_text()


def test_csv_has_a_row_for_each_face_and_one_for_none(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with Csv(path, CLASSES, stills=False) as log:
        for i in range(3):
            log.write(result(i, faces=i, time=i / 4), None)
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == (1, 2, 4)[i]
    assert [row["frame"] for row in rows] == ["0", "1", "2", "2"]
    assert [row["emotion"] for row in rows] == ["", "b", "b", "b"]
    columns = "frame,time,event,id,x1,y1,x2,y2,score,emotion,confidence,probability_a,probability_b"
    assert path.read_text().splitlines()[0] == columns
    assert list(rows[1].values()) == [
        "1",
        "0.25",
        "",
        "",
        "0.0",
        "0.0",
        "2.0",
        "2.0",
        "0.5",
        "b",
        "0.75",
        "0.25",
        "0.75",
    ]


def test_csv_of_stills_names_files_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with Csv(path, CLASSES, stills=True) as log:
        log.write(result(0, faces=0, file="a, b.png", error="broken"), None)
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert (row["file"], row["error"], row["emotion"]) == ("a, b.png", "broken", "")


def test_rows_outlive_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with pytest.raises(ZeroDivisionError), JsonLines(path) as log:
        log.write(result(0), None)
        _ = 1 / 0
    assert len(path.read_text().splitlines()) == 1


def test_a_place_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write"), JsonLines(tmp_path / "no" / "log.jsonl"):
        pass
    with pytest.raises(SinkError, match="cannot write"):
        write_whole(tmp_path / "no" / "stats.json", b"{}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(SinkError, match="No space left"), JsonLines(Path("/dev/full")) as log:
        log.write(result(0), None)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_picture_is_written_in_its_colours(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ü.{ending}"
    with Pictures(path, folder=False) as sink:
        sink.write(result(0, file="a.png"), picture(32, 32, 220))
    back = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(back[16, 16], [220, 50, 200], atol=6)


def test_a_folder_keeps_names(tmp_path: Path) -> None:
    with Pictures(tmp_path, folder=True) as sink:
        for i, name in enumerate(("a.png", "b.JPG", "c.avif")):
            sink.write(result(i, file=name), picture(8, 8))
        sink.write(result(3, faces=0, file="d.png", error="broken"), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.JPG", "c.avif.png"]


def test_a_picture_too_large_for_its_format(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"use \.png"), Pictures(tmp_path / "a.webp", folder=False) as sink:
        sink.write(result(0, file="a.png"), picture(20000, 2))
    assert list(tmp_path.iterdir()) == []
