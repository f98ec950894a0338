import numpy as np
import pytest

from fer.errors import ConfigError
from fer.stream.faces.track import UNCONFIRMED, SceneCutDetector, Tracker, confirm
from fer.stream.types import Faces


def faces(*boxes: tuple[float, float, float, float], ids: list[int] | None = None) -> Faces:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(array, np.full(len(boxes), 0.9, np.float32), ids=None if ids is None else np.array(ids, np.int64))


LEFT, RIGHT = (10.0, 10.0, 50.0, 50.0), (100.0, 10.0, 140.0, 50.0)


def moved(box: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    return box[0] + by, box[1], box[2] + by, box[3]


def test_ids_are_confirmed_at_the_second_detection_and_stay() -> None:
    tracker = Tracker()
    assert tracker.update(faces(LEFT, RIGHT), 0.0).tolist() == [UNCONFIRMED, UNCONFIRMED]
    first = tracker.update(faces(moved(LEFT, 2), moved(RIGHT, -2)), 1 / 30).tolist()
    assert sorted(first) == [1, 2]
    for k in range(2, 20):
        ids = tracker.update(faces(moved(RIGHT, -2 * k), moved(LEFT, 2 * k)), k / 30).tolist()
        assert ids == first[::-1]


def test_a_face_that_returns_in_time_keeps_its_id_and_a_later_one_does_not() -> None:
    tracker = Tracker(lost=0.5)
    for k in range(5):
        ids = tracker.update(faces(LEFT), k / 30)
    assert ids.tolist() == [1]
    for k in range(5, 10):
        assert tracker.update(Faces.none(), k / 30).shape == (0,)
    assert tracker.update(faces(LEFT), 10 / 30).tolist() == [1]
    for k in range(11, 60):
        tracker.update(Faces.none(), k / 30)
    tracker.update(faces(LEFT), 2.0)
    assert tracker.update(faces(LEFT), 2.03).tolist() == [2]


def test_no_id_outlives_a_cut_or_is_used_twice() -> None:
    tracker = Tracker()
    seen = set()
    for scene in range(3):
        for k in range(3):
            ids = tracker.update(faces(LEFT), scene + k / 30)
        tracker.cut()
        seen.add(int(ids[0]))
    assert seen == {1, 2, 3}


def test_time_that_stands_still_or_runs_backwards_keeps_the_ids() -> None:
    tracker = Tracker()
    for time in (0.0, 0.0, -5.0, 0.0, 0.1):
        ids = tracker.update(faces(LEFT), time)
    assert ids.tolist() == [1]


def test_unconfirmed_faces_get_the_ids_of_their_successors() -> None:
    before, after = faces(LEFT, RIGHT, ids=[0, 3]), faces(moved(RIGHT, 1), moved(LEFT, 1), ids=[3, 4])
    assert confirm(before, after).ids.tolist() == [4, 3]
    assert confirm(before, faces(moved(RIGHT, 1), ids=[3])).ids.tolist() == [0, 3]
    far = faces(moved(LEFT, 500), ids=[5])
    assert confirm(faces(LEFT, ids=[0]), far).ids.tolist() == [0]


def scene(seed: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(n) * k // n for n, k in zip(size, (6, 8), strict=True))
    return np.ascontiguousarray(coarse[rows][:, columns])


def test_motion_noise_and_light_are_not_cuts() -> None:
    is_cut, rng = SceneCutDetector(), np.random.default_rng(0)
    image = scene(1)
    assert not is_cut(image)
    for k in range(5):
        noisy = np.clip(np.roll(image, k, 1).astype(int) + rng.integers(-20, 20, image.shape), 0, 255)
        assert not is_cut(noisy.astype(np.uint8))
        assert not is_cut((noisy * 0.6).astype(np.uint8))
    assert is_cut(scene(2))
    assert not is_cut(scene(2))
    assert is_cut(scene(2, (180, 320)))


@pytest.mark.parametrize("lost", [0, -1, "long", True, 1000])
def test_an_invalid_time_is_named(lost: object) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.lost="):
        Tracker(lost=lost)
