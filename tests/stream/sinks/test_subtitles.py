from dataclasses import replace
from pathlib import Path

import numpy as np
from samples import frame_result

from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.subtitles import Subtitles
from fer.stream.types import FrameResult


def shown(time: float, *labels: int, ids: bool = True) -> FrameResult:
    result = frame_result(0, len(labels), time)
    faces = replace(result.faces, ids=np.arange(1, len(labels) + 1)) if ids else result.faces
    return replace(result, faces=faces, labels=np.array(labels, np.int64))


def written(path: Path, *results: FrameResult) -> str:
    with Subtitles(path, Context(FakeSource(), ("a", "b"))) as sink:
        for result in results:
            sink.write(result)
    return path.read_text(encoding="utf-8")


def test_a_cue_lasts_as_long_as_its_labels_are_shown(tmp_path: Path) -> None:
    frames = [shown(k / 25, *labels) for k, labels in enumerate([(), (0,), (0,), (1,), (1, 0), (), (1,)])]
    assert written(tmp_path / "out.srt", *frames).split("\n\n") == [
        "1\n00:00:00,040 --> 00:00:00,120\na",
        "2\n00:00:00,120 --> 00:00:00,160\nb",
        "3\n00:00:00,160 --> 00:00:00,200\n1 b, 2 a",
        "4\n00:00:00,240 --> 00:00:00,280\nb",
        "",
    ]


def test_times_are_those_of_the_film(tmp_path: Path) -> None:
    text = written(tmp_path / "out.srt", shown(-0.02, 0), shown(3725.9996, 1))
    assert "00:00:00,000 --> 01:02:06,000\na" in text and text.count("-->") == 2


def test_a_film_without_faces_has_no_cue(tmp_path: Path) -> None:
    assert written(tmp_path / "out.srt", shown(0), shown(1)) == ""
