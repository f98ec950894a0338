import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import ConfigError, SourceError
from fer.stream import Recognizer, recognizer
from fer.stream.fakes import FakeDetector, FakeSource

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
    with pytest.raises(ValueError, match="uint8"):
        one(image.astype(float))


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
    session, image = Recognizer(model, threads=1), np.full((48, 64, 3), 90, np.uint8)
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
    for values in (*wrong, {"device": "tpu"}, {"threads": "many"}, {"threads": -1}):
        with pytest.raises(ConfigError):
            Recognizer(model, **values)
