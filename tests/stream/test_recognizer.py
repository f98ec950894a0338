import math
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fer.errors import ArtifactError, ConfigError, FerError, SourceError
from fer.stream import Recognizer, recognizer
from fer.stream.fakes import FakeDetector, FakeSource
from fer.stream.sources import open_source

BOX = (8.0, 8.0, 40.0, 40.0)


def test_a_picture_by_array_and_by_path(one: Recognizer, tmp_path: Path) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), image)
    for given in (image, str(tmp_path / "p.png"), tmp_path / "p.png"):
        result = one(given)
        assert (len(result.faces), result.faces.ids, result.smoothed) == (1, None, None)
        assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert result.uncertain.shape == (1,)
    with pytest.raises(SourceError, match=r"none\.png"):
        one(tmp_path / "none.png")


def test_another_model_of_the_same_classes_takes_over_in_running_streams(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / f"new{model.suffix}"
    copy.write_bytes(model.read_bytes())
    recognizer = Recognizer(model)
    classify = recognizer.classify
    recognizer.use(copy)
    assert recognizer.model == classify.model == copy.name
    recognizer.classes = ("calm", "excited")
    with pytest.raises(ArtifactError, match="start again with artifact="):
        recognizer.use(model)
    assert classify.model == copy.name


def test_the_threads_of_the_host_program_stay_as_they_are(model: Path) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(3)
        cv2.setNumThreads(5)
        recognizer = Recognizer(model)
        recognizer(np.zeros((48, 64, 3), np.uint8))
        list(recognizer.stream(FakeSource(3)))
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 5)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_what_is_not_one_picture_is_named(one: Recognizer, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    black = np.zeros((48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), black)
    several = ([black, black], black[None], iter([black]), [tmp_path / "p.png"], tmp_path, make_clip())
    for given in (*several, None, 0, 2.5, True, {}, object, black[:0], black / 255, b"text", ""):
        with pytest.raises(FerError, match=r"stream\(\)|give|empty"):
            one(given)


def test_a_list_holds_pictures_and_an_iterator_is_a_video(one: Recognizer, tmp_path: Path) -> None:
    black = np.zeros((48, 64, 3), np.uint8)
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, black)
    pictures = ([black, black], (black, black), np.stack([black, black]), [path, Path(path)], [black, path])
    for given in (*pictures, np.array([path, path]), (tmp_path / "p.png" for _ in range(2))):
        results = list(one.stream(given))
        assert [(len(r.faces), r.faces.ids, r.frame.time) for r in results] == [(1, None, 0)] * 2
    for given in (iter([black] * 3), (black for _ in range(3)), deque([black] * 3)):
        assert [r.faces.ids.tolist() for r in one.stream(given)] == [[1]] * 3
    assert [r.frame.time for r in one.stream((k / 5, black) for k in range(3))] == [0, 0.2, 0.4]


@pytest.mark.parametrize("times", [(0, 0), (1, 0.5), (0, None), (0, math.nan), (0, "1"), (0, math.inf), (False, 1)])
def test_a_time_that_does_not_increase_is_refused(one: Recognizer, times: tuple[Any, Any]) -> None:
    black, session = np.zeros((48, 64, 3), np.uint8), one.session()
    with pytest.raises(SourceError, match="seconds"):
        list(one.stream(iter([(time, black) for time in times])))
    if None not in times:
        with pytest.raises(SourceError, match="seconds"):
            [session(black, time) for time in times]
    assert len(session(black, 7.0).faces) in (0, 1), "the session goes on"


def test_what_a_stream_does_not_read_is_logged(
    one: Recognizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "other.bin").write_bytes(b"no picture")
    assert len(list(one.stream(tmp_path))) == 2
    assert "broken.jpg" in caplog.text and "other.bin" in caplog.text
    caplog.clear()
    with open_source(tmp_path) as source:
        assert len(list(one.stream(source))) == 2 and len(source.notes) == 2
    assert not caplog.text, "whoever opened it has the notes"


def test_a_stream_has_ids_and_ends(one: Recognizer) -> None:
    results = list(one.stream(FakeSource(5)))
    assert [r.faces.ids.tolist() for r in results] == [[1]] * 5
    assert results[-1].smoothed.shape == (1, 3)


def test_max_frames_ends_a_stream_and_closes_its_source(one: Recognizer) -> None:
    source = FakeSource(50)
    assert len(list(one.stream(source, max_frames=7))) == 7 and source.closed
    assert len(list(one.stream(FakeSource(5), max_frames=99))) == 5
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(ConfigError, match="max_frames"):
            next(one.stream(FakeSource(5), max_frames=wrong))


def test_each_session_has_ids_of_its_own(one: Recognizer) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    first, second = one.session(), one.session()
    assert [len(first(image, k / 30).faces) for k in range(3)] == [1, 1, 1]
    assert second(image, 0.1).faces.ids.tolist() == first(image, 0.2).faces.ids.tolist() == [1]
    assert len(first(image).faces) == 1  # by the clock


@pytest.mark.parametrize("step", [1 / 240, 1 / 30, 0.9, 2.0, 3600.0])
def test_a_session_that_is_fed_at_any_pace_keeps_the_id_of_a_face_in_its_place(one: Recognizer, step: float) -> None:
    session, image = one.session(), np.full((48, 64, 3), 90, np.uint8)
    assert [session(image, k * step).faces.ids.tolist() for k in range(5)] == [[1]] * 5


def test_a_new_face_waits_only_for_a_look_that_comes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "Detector", lambda **_: FakeDetector((8.0, 8.0, 40.0, 40.0), blind=frozenset({0})))
    session, image = Recognizer(model), np.full((48, 64, 3), 90, np.uint8)
    for step, seen in ((1 / 30, [0, 0, 1]), (2.0, [0, 1, 1])):
        fed = session.session()
        assert [len(fed(image, k * step).faces) for k in range(3)] == seen
    fed = session.session()
    fed(image, 0.0)
    first = fed(image, 0.1)
    assert len(first.unconfirmed) == 1, "it is known, so that it can be hidden"


def test_sessions_may_run_side_by_side(one: Recognizer) -> None:
    image, wrong = np.full((48, 64, 3), 90, np.uint8), []

    def view() -> None:
        session = one.session()
        ids = [session(image, k / 30).faces.ids.tolist() for k in range(20)]
        wrong.extend(i for i in ids[1:] if i != [1])

    threads = [threading.Thread(target=view) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_invalid_values_are_refused_at_once(model: Path) -> None:
    wrong = [{"detector": {"width": 3}}, {"smoothing": {"seconds": -1}}]
    unknown = [{"detector": {"size": 3}}, {"smoothing": [1]}, {"smoothing": {1: 2}}, {"artifact": 3}]
    for values in (*wrong, *unknown, {"device": "tpu"}):
        with pytest.raises(ConfigError):
            Recognizer(artifact=values.pop("artifact", model), **values)
    with pytest.raises(ConfigError, match="tracking"):  # when it is used first: its libraries take a second to import
        Recognizer(model, tracking={"seconds": 3}).session()


def test_a_fault_of_a_stage_is_not_taken_for_an_unknown_key(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(width: int = 3, device: str = "", threads: int | None = None) -> None:
        raise TypeError("of the stage itself")

    monkeypatch.setattr(recognizer, "Detector", broken)
    with pytest.raises(TypeError, match="of the stage itself"):
        Recognizer(model)
    for wrong in ({"size": 3}, [3]):
        with pytest.raises(ConfigError, match=r"conf/infer\.yaml"):
            Recognizer(model, detector=wrong)
