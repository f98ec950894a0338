from collections.abc import Callable

import numpy as np
import pytest

from fer.errors import ConfigError
from fer.faces.types import Array, Faces
from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.types import Frame


def faces(*boxes: tuple[float, float, float, float], ids: list[int] | None = None) -> Faces:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(array, np.full(len(boxes), 0.9, np.float32), ids=None if ids is None else np.array(ids, np.int64))


LEFT, RIGHT = (10.0, 10.0, 50.0, 50.0), (100.0, 10.0, 140.0, 50.0)


def moved(box: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    return box[0] + by, box[1], box[2] + by, box[3]


def ids(tracker: Tracker, time: float, *boxes: tuple[float, float, float, float]) -> list[int]:
    return tracker.update(faces(*boxes), time)[0].tolist()


def test_new_faces_wait_for_the_next_search_and_ids_stay() -> None:
    tracker = Tracker()
    first, dropped = tracker.update(faces(LEFT, RIGHT), 0.0)
    assert (first.tolist(), tracker.waiting.tolist(), dropped.tolist()) == ([1, 2], [1, 2], []) and tracker.unsure
    for k in range(1, 20):
        found, dropped = tracker.update(faces(moved(RIGHT, -2 * k), moved(LEFT, 2 * k)), k / 30)
        assert (found.tolist(), tracker.waiting.tolist(), dropped.tolist()) == ([2, 1], [], [])
        assert not tracker.unsure


def test_a_face_is_dropped_if_the_next_search_comes_in_time_and_does_not_find_it() -> None:
    for wait, dropped in ((0.04, [2]), (0.5, [2]), (0.6, []), (30.0, [])):
        tracker = Tracker(lost=0.5)
        ids(tracker, 0.0, LEFT)
        ids(tracker, 0.1, LEFT, RIGHT)
        assert tracker.update(faces(LEFT), 0.1 + wait)[1].tolist() == dropped
        assert ids(tracker, 0.15 + wait, LEFT, RIGHT)[1] == (3 if dropped else 2), "a dropped track is not taken up"


def test_without_waiting_the_distance_of_the_searches_decides() -> None:
    tracker = Tracker(lost=0.5)
    for k, (time, waiting) in enumerate(((0, []), (0.1, [2]), (2, []))):
        tracker.update(faces(moved(LEFT, 100 * k)), time, ahead=False)
        assert tracker.waiting.tolist() == waiting


def test_a_face_that_returns_in_time_keeps_its_id_and_a_later_one_does_not() -> None:
    tracker = Tracker(lost=0.5)
    assert [ids(tracker, k / 30, LEFT) for k in range(5)] == [[1]] * 5
    for k in range(5, 10):
        assert ids(tracker, k / 30) == []
    assert ids(tracker, 10 / 30, LEFT) == [1]
    for k in range(11, 60):
        ids(tracker, k / 30)
    assert ids(tracker, 2.0, LEFT) == ids(tracker, 2.03, LEFT) == [2]


@pytest.mark.parametrize("step", [0.004, 0.9, 2.0, 1000.0])
def test_time_between_two_searches_is_not_out_of_sight(step: float) -> None:
    tracker = Tracker(lost=0.1)
    assert [ids(tracker, k * step, LEFT, RIGHT) for k in range(5)] == [[1, 2]] * 5


def test_a_long_distance_after_a_short_one_does_not_carry_a_trembling_face_away() -> None:
    tracker = Tracker()
    for time, by in ((0.0, 0), (1 / 30, 3), (2.0, 1), (2 + 1 / 30, -2), (4.0, 2), (60.0, 0)):
        assert ids(tracker, time, moved(LEFT, by), moved(RIGHT, -by)) == [1, 2]


def test_while_the_source_is_away_a_face_is_out_of_sight() -> None:
    for away, identity in ((0.4, 1), (3.0, 2)):
        tracker = Tracker(lost=0.5)
        ids(tracker, 0.0, LEFT)
        ids(tracker, 0.1, LEFT)
        assert tracker.update(faces(LEFT), 0.1 + away, interrupted=True)[0].tolist() == [identity]


def test_each_of_many_new_faces_keeps_the_id_that_it_got_at_once() -> None:
    rng, tracker = np.random.default_rng(0), Tracker()
    boxes = [moved(LEFT, 100.0 * k) for k in range(9)]
    known: dict[float, int] = {}
    for step in range(9):  # more faces, in another order, at each search
        shuffled = [boxes[k] for k in rng.permutation(step + 1)]
        for box, identity in zip(shuffled, ids(tracker, step / 30, *shuffled), strict=True):
            assert known.setdefault(box[0], identity) == identity
    assert sorted(known.values()) == list(range(1, 10))


def test_no_id_outlives_a_cut_or_is_used_twice() -> None:
    tracker = Tracker()
    seen = set()
    for scene in range(3):
        for k in range(3):
            found = ids(tracker, scene + k / 30, LEFT)
        tracker.cut()
        seen.update(found)
    assert seen == {1, 2, 3}


def scene(seed: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(n) * k // n for n, k in zip(size, (6, 8), strict=True))
    return np.ascontiguousarray(coarse[rows][:, columns])


def cuts() -> Callable[[Array], bool]:
    """A detector of scene cuts that takes images."""
    is_cut = SceneCutDetector()
    return lambda image: is_cut(Frame(image, 0, 0.0, error=None if image.size else "empty"))


def test_motion_noise_and_light_are_not_cuts() -> None:
    is_cut, rng = cuts(), np.random.default_rng(0)
    image = scene(1)
    assert not is_cut(image)
    for k in range(5):
        noisy = np.clip(np.roll(image, k, 1).astype(int) + rng.integers(-20, 20, image.shape), 0, 255)
        assert not is_cut(noisy.astype(np.uint8))
        assert not is_cut((noisy * 0.6).astype(np.uint8))
    assert is_cut(scene(2))
    assert not is_cut(scene(2))
    assert is_cut(scene(2, (180, 320)))
    assert not is_cut(scene(2, (180, 320))[:0]), "a frame that could not be read"
    assert not is_cut(scene(2, (180, 320)))
    for empty in ((0, 0), (0, 5), (5, 0)):
        assert not cuts()(np.zeros((*empty, 3), np.uint8))


@pytest.mark.parametrize("lost", [0, -1, "long", True, 1000])
def test_an_invalid_time_is_named(lost: object) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.lost="):
        Tracker(lost=lost)
