import numpy as np
import pytest

from fer.faces.boxes import intersection
from fer.faces.types import Faces
from fer.labels import EMOTIONS, colour
from fer.stream.draw import annotate as module
from fer.stream.draw.annotate import annotate
from fer.stream.types import Frame, FrameResult


def result(width: int, height: int, *boxes: tuple[float, float, float, float], best: int = 3) -> FrameResult:
    probabilities = np.full((len(boxes), 7), 0.02, np.float32)
    probabilities[:, best] = 0.88
    faces = Faces(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32))
    frame = Frame(np.full((height, width, 3), 128, np.uint8), 0, 0.0)
    return FrameResult(frame, faces, EMOTIONS, probabilities)


def count(picture: np.ndarray, rgb: tuple[int, int, int]) -> int:
    return int((picture == rgb).all(axis=2).sum())


def positions(monkeypatch: pytest.MonkeyPatch, *boxes: tuple[float, ...]) -> list[tuple[int, int, int, int]]:
    """Where `annotate` puts the labels of these faces."""
    spots = []
    position = module._position
    monkeypatch.setattr(module, "_position", lambda *a: spots.append(position(*a)) or spots[-1])
    annotate(result(640, 360, *boxes))
    return spots


def test_no_face_changes_nothing() -> None:
    given = result(64, 48)
    picture = annotate(given)
    np.testing.assert_array_equal(picture, given.frame.image)
    assert picture is not given.frame.image


@pytest.mark.parametrize("best", range(7))
def test_box_and_label_are_in_the_colour_of_the_emotion(best: int) -> None:
    given = result(640, 360, (200, 100, 300, 220), best=best)
    before = given.frame.image.copy()
    picture = annotate(given)
    np.testing.assert_array_equal(given.frame.image, before)
    assert (picture[160, 200] == colour(EMOTIONS[best])).all(), "the box"
    assert count(picture[60:98], colour(EMOTIONS[best])) > 500, "the label, above the face"
    np.testing.assert_array_equal(picture[120:200, 220:280], 128)


@pytest.mark.parametrize(
    "box", [(0, 0, 60, 60), (580, 0, 640, 60), (0, 300, 60, 360), (580, 300, 640, 360), (0, 0, 640, 360)]
)
def test_labels_stay_within_the_frame(box: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    ((left, top, right, bottom),) = positions(monkeypatch, box)
    assert 0 <= left < right <= 640 and 0 <= top < bottom <= 360


def test_labels_of_neighbours_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    spots = positions(monkeypatch, (200, 100, 240, 150), (244, 100, 284, 150), (222, 90, 262, 140))
    assert len(spots) == 3
    assert np.count_nonzero(intersection(np.array(spots), np.array(spots))) == 3, "each meets itself alone"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 300), (300, 8), (20, 20), (48, 48), (5000, 3000)])
def test_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    picture = annotate(result(*size, (0, 0, *size)))
    assert picture.shape == (size[1], size[0], 3)
    assert count(picture, (128, 128, 128)) < size[0] * size[1], "something was drawn"


def test_boxes_of_own_classes_have_different_colours() -> None:
    classes = ("engaged", "bored", "focused", "contempt")
    faces = Faces(
        np.array([[100 * k + 10, 60, 100 * k + 80, 150] for k in range(4)], np.float32), np.ones(4, np.float32)
    )
    frame = Frame(np.full((360, 640, 3), 128, np.uint8), 0, 0.0)
    picture = annotate(FrameResult(frame, faces, classes, np.eye(4, dtype=np.float32)))
    assert len({tuple(picture[110, 100 * k + 10].tolist()) for k in range(4)}) == 4


@pytest.mark.usefixtures("bundled_fonts")
@pytest.mark.parametrize("name", ["愤怒", "غاضب جدا", "क्रोध", "тревога", "👩‍🚀", "sehr ärgerlich " * 3])
def test_a_name_in_any_script_is_drawn_within_the_frame(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spots = []
    position = module._position
    monkeypatch.setattr(module, "_position", lambda *a: spots.append(position(*a)) or spots[-1])
    faces = Faces(np.array([[280, 100, 319, 150]], np.float32), np.ones(1, np.float32))
    frame = Frame(np.full((240, 320, 3), 128, np.uint8), 0, 0.0)
    picture = annotate(FrameResult(frame, faces, (name, "other"), np.array([[0.9, 0.1]], np.float32)))
    ((left, top, right, bottom),) = spots
    assert 0 <= left < right <= 320 and 0 <= top < bottom <= 240
    assert len(np.unique(picture[top:bottom, left:right].reshape(-1, 3), axis=0)) > 10, "letters"


def test_letters_grow_with_the_frame() -> None:
    small, large = (
        count(annotate(result(w, w // 2, (w / 4, w / 8, w / 2, w / 3))), colour("happy")) for w in (400, 1600)
    )
    assert large > 8 * small
