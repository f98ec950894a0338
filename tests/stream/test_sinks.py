import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer.errors import SinkError
from fer.stream.sinks import Csv, JsonLines, Pictures, VideoFile, part_of, write_whole
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


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


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
    columns = "frame,time,id,x1,y1,x2,y2,score,emotion,confidence,probability_a,probability_b"
    assert path.read_text().splitlines()[0] == columns
    assert list(rows[1].values()) == [
        "1",
        "0.25",
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


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (2, 2), (1, 1)])
def test_a_video_is_whole_and_plays_anywhere(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"a:b 100%d.{ending}"
    with VideoFile(path, Fraction(25)) as video:
        for i in range(10):
            video.write(result(i, time=i / 25), picture(*size, 10 * i))
        assert {p.name for p in tmp_path.iterdir()} <= {part_of(path).name}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    frames = frames_of(path)
    assert len(frames) == 10
    assert (frames[0].width, frames[0].height) == tuple(side + side % 2 for side in size)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25
    if ending != "mkv":
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat"), "the index comes first"


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60), Fraction(15, 2)])
def test_the_rate_of_the_source_is_kept(tmp_path: Path, rate: Fraction) -> None:
    path = tmp_path / "out.mp4"
    with VideoFile(path, rate) as video:
        for i in range(12):
            video.write(result(i, time=float(i / rate)), picture(32, 32))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate
        assert container.streams.video[0].frames == 12


def test_the_times_of_the_source_are_kept(tmp_path: Path) -> None:
    times = [5.0, 5.04, 5.5, 5.5, 5.4, 6.0]  # it starts late, stands still, and runs backwards
    with VideoFile(tmp_path / "out.mp4", Fraction(25)) as video:
        for i, time in enumerate(times):
            video.write(result(i, time=time), picture(32, 32))
    written = [float(frame.time or 0) for frame in frames_of(tmp_path / "out.mp4")]
    assert written == pytest.approx([0, 0.04, 0.5, 0.5, 0.5, 1.0], abs=1e-3)
    assert written == sorted(set(written))


def test_colours_survive(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", Fraction(25)) as video:
        video.write(result(0), picture(64, 64, 220))
    (frame,) = frames_of(tmp_path / "out.mp4")
    assert int(frame.colorspace) == 1, "BT.709, and said so"
    np.testing.assert_allclose(frame.to_ndarray(format="rgb24")[32, 32], [220, 50, 200], atol=6)


def test_a_frame_of_another_size_is_scaled(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", Fraction(25)) as video:
        video.write(result(0), picture(64, 48))
        video.write(result(1, time=0.04), picture(31, 77))
    assert [(f.width, f.height) for f in frames_of(tmp_path / "out.mp4")] == [(64, 48)] * 2


def test_an_error_leaves_no_video_and_an_older_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), VideoFile(path, Fraction(25)) as video:
        video.write(result(0), picture(64, 48))
        _ = 1 / 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"older"


def test_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoFile(tmp_path / "out.mp4", Fraction(25)) as video:
        for i in range(4):
            video.write(result(i, time=i / 25), picture(64, 48))
        raise KeyboardInterrupt
    assert len(frames_of(tmp_path / "out.mp4")) == 4


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.mp4", Fraction(25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="cannot write"),
        VideoFile(tmp_path / "no" / "out.mp4", Fraction(25)) as video,
    ):
        video.write(result(0), picture(64, 48))
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
