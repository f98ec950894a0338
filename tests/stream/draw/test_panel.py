import numpy as np
import pytest

from fer.faces.types import Faces
from fer.labels import EMOTIONS, colour, colours
from fer.stream.draw.panel import WIDTH, panel
from fer.stream.types import Frame, FrameResult


def result(*values: list[float]) -> FrameResult:
    n = len(values)
    boxes = np.array([[0, 0, 10 + i, 10 + i] for i in range(n)], np.float32).reshape(-1, 4)
    faces = Faces(boxes, np.ones(n, np.float32), ids=np.arange(1, n + 1))
    probabilities = np.array(values, np.float32).reshape(n, 7)
    return FrameResult(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0), faces, EMOTIONS, probabilities)


def length(strip: np.ndarray, name: str) -> int:
    """Pixels of a class's bar."""
    return int((strip == colour(name)).all(axis=2).sum(axis=1).max())


def test_bars_are_as_long_as_the_probabilities() -> None:
    strip = panel(result([0.0, 0.05, 0.1, 0.5, 0.2, 0.15, 0.0]), 420, ["30 frames/s"])
    assert strip.shape == (420, WIDTH, 3) and strip.dtype == np.uint8
    full = length(strip, "happy") / 0.5
    assert full > 80
    for name, share in (
        ("disgust", 0.05),
        ("fear", 0.1),
        ("sad", 0.2),
        ("surprise", 0.15),
        ("angry", 0),
        ("neutral", 0),
    ):
        assert abs(length(strip, name) - share * full) <= 2, name


def test_faces_without_room_are_counted() -> None:
    one, many = [1.0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1.0]
    few = panel(result(one, many), 300, [])
    assert length(few, "neutral") and not length(few, "angry"), "the larger face stays"
    both = panel(result(one, many), 500, [])
    assert length(both, "neutral") and length(both, "angry")


def faces_of(classes: tuple[str, ...]) -> FrameResult:
    """One face that is surely of the first class."""
    faces = Faces(np.array([[0, 0, 20, 20]], np.float32), np.ones(1, np.float32), ids=np.array([1]))
    probabilities = np.eye(len(classes), dtype=np.float32)[:1]
    return FrameResult(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0), faces, classes, probabilities)


@pytest.mark.usefixtures("bundled_fonts")
@pytest.mark.parametrize(
    "classes",
    [
        tuple(f"class {k}" for k in range(20)),
        ("愤怒", "怒り", "غاضب", "क्रोध"),
        ("a very long name that no column can hold", "b"),
    ],
    ids=["twenty", "scripts", "long"],
)
def test_bars_stay_whole_beside_any_names(classes: tuple[str, ...]) -> None:
    strip = panel(faces_of(classes), 420, ["30 frames/s", ""])
    bar = (strip == colours(classes)[classes[0]]).all(axis=2)
    rows = np.flatnonzero(bar.any(axis=1))
    assert len(rows) >= 4, "the face has room"
    lengths = bar[rows].sum(axis=1)
    assert lengths.min() == lengths.max() >= 40, "no letter is written over the bar"


def test_no_face_and_keys() -> None:
    assert (panel(result(), 200, []) != panel(result(), 200, [], keys=["q  quit"])).any()
    assert panel(result([1.0, 0, 0, 0, 0, 0, 0]), 8, ["too low for anything"]).shape == (8, WIDTH, 3)
