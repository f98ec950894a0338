import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import ROOT, frame_result

from fer.errors import SinkError
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.logs import Csv, JsonLines, StatsFile, class_columns


def test_json_lines_grow_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonLines(path) as log:
        assert path.read_text() == ""
        for i in range(3):
            log.write(frame_result(i, faces=i, time=i / 4, file="ö\udcff.png"), None)
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert len(rows) == i + 1
    assert [len(row["faces"]) for row in rows] == [0, 1, 2]
    assert rows[1]["time"] == 0.25 and rows[1]["file"] == "ö\udcff.png"
    assert "ö" in path.read_text()


def test_each_row_names_the_model_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonLines(path, Context(FakeSource(), model="m.int8.onnx")) as log:
        for faces in range(2):
            log.write(frame_result(faces, faces=faces), None)
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["m.int8.onnx"] * 2


def test_csv_has_a_row_for_each_face_and_one_for_none(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with Csv(path, Context(FakeSource(), ("a", "b"), "m.onnx")) as log:
        for i in range(3):
            log.write(frame_result(i, faces=i, time=i / 4), None)
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == (1, 2, 4)[i]
    assert [row["frame"] for row in rows] == ["0", "1", "2", "2"]
    assert [row["emotion"] for row in rows] == ["", "b", "b", "b"]
    columns = "frame,time,event,carried,id,x1,y1,x2,y2,score,yaw,pitch,roll,emotion,confidence,uncertain,"
    columns += "probability_a,probability_b,model"
    assert path.read_text().splitlines()[0] == columns
    assert list(rows[1].values()) == [
        "1",
        "0.25",
        "",
        "FALSE",
        "",
        "0.0",
        "0.0",
        "2.0",
        "2.0",
        "0.5",
        "",
        "",
        "",
        "b",
        "0.75",
        "FALSE",
        "0.25",
        "0.75",
        "m.onnx",
    ]


def test_csv_says_which_faces_are_those_of_an_earlier_frame(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with Csv(path, Context(FakeSource(), ("a", "b"))) as log:
        for searched in (True, False):
            log.write(replace(frame_result(0), searched=searched), None)
    assert [row["carried"] for row in csv.DictReader(path.read_text().splitlines())] == ["FALSE", "TRUE"]


def logged(folder: Path) -> tuple[Path, Path]:
    """A log of both kinds: no face, a face whose pose is known, and one whose pose is not."""
    csv_path, jsonl_path = folder / "faces.csv", folder / "faces.jsonl"
    context = Context(FakeSource(), ("a", "b"), "m.onnx")
    pose = np.array([[-12.34, 5, 0.04], [np.nan] * 3], np.float32)
    with Csv(csv_path, context) as table, JsonLines(jsonl_path, context) as lines:
        for result in (frame_result(0, faces=0), replace(frame_result(1, faces=2, time=0.04), pose=pose)):
            table.write(result)
            lines.write(result)
    return csv_path, jsonl_path


def test_pandas_takes_both_logs_as_they_are(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    csv_path, jsonl_path = logged(tmp_path)
    table = pandas.read_csv(csv_path)
    assert len(table) == 3 and table.id.isna().all() and table.carried.dtype == bool
    numbers = ["time", "x1", "score", "yaw", "pitch", "roll", "confidence", "probability_a", "probability_b"]
    assert {str(table[name].dtype) for name in numbers} == {"float64"}
    assert table.yaw.tolist()[1:2] == [-12.3] and table.yaw.isna().tolist() == [True, False, True]
    assert table.emotion.isna().tolist() == [True, False, False]
    assert table.dropna(subset=["uncertain"]).uncertain.astype(bool).tolist() == [False, False]
    rows = pandas.read_json(jsonl_path, lines=True)
    assert rows.time.tolist() == [0, 0.04]
    faces = pandas.json_normalize(rows.to_dict("records"), "faces", ["frame", "time"])
    assert len(faces) == 2 and faces.yaw.isna().tolist() == [False, True] and faces["probabilities.b"].dtype == float
    assert faces.uncertain.dtype == bool and (faces.time == 0.04).all()


def test_the_snippet_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    logged(tmp_path)
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "live.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(snippet, {})
    assert "12.3" in capsys.readouterr().out


def test_columns_have_plain_names_whatever_the_classes_are_called() -> None:
    columns = class_columns(("very happy", "very-happy", "so_so", 'a,"b"', "ärger"))
    expected = ["very_happy", "very_happy_2", "so_so", "a__b_", "ärger"]
    assert list(columns.values()) == [f"probability_{name}" for name in expected]


def test_csv_of_stills_names_files_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    stills = FakeSource()
    stills.kind = "folder"
    with Csv(path, Context(stills, ("a", "b"))) as log:
        log.write(frame_result(0, faces=0, file="a, b.png", error="broken"), None)
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert (row["file"], row["error"], row["emotion"]) == ("a, b.png", "broken", "")


def test_rows_outlive_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with pytest.raises(ZeroDivisionError), JsonLines(path) as log:
        log.write(frame_result(0), None)
        _ = 1 / 0
    assert len(path.read_text().splitlines()) == 1


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write"), JsonLines(tmp_path / "no" / "log.jsonl"):
        pass


def test_a_log_that_is_deleted_during_the_run_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log.jsonl"
    path.parent.mkdir()
    with pytest.raises(SinkError, match=r"log\.jsonl was moved or deleted"), JsonLines(path) as log:
        log.write(frame_result(0), None)
        shutil.rmtree(path.parent)


@pytest.mark.parametrize(("error", "written"), [(KeyboardInterrupt, True), (ZeroDivisionError, False)])
def test_statistics_are_written_unless_the_run_fails(error: type[BaseException], written: bool, tmp_path: Path) -> None:
    context = Context(FakeSource(), model="m.onnx")
    with pytest.raises(error), StatsFile(tmp_path / "stats.json", context):
        context.stats.count(frame_result(0))
        raise error
    assert (tmp_path / "stats.json").exists() == written
    if written:
        values = json.loads((tmp_path / "stats.json").read_text())
        assert (values["model"], values["faces"]) == ("m.onnx", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(SinkError, match="No space left"), JsonLines(Path("/dev/full")) as log:
        log.write(frame_result(0), None)
