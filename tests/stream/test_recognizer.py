import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.errors import ConfigError, SourceError
from fer.stream import Recognizer
from fer.stream.fakes import FakeSource

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
    assert [len(first(image, k / 30).faces) for k in range(3)] == [0, 1, 1]
    assert len(second(image, 0.0).faces) == 0
    assert second(image, 0.1).faces.ids.tolist() == first(image, 0.2).faces.ids.tolist() == [1]
    assert len(first(image).faces) == 1  # by the clock


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
