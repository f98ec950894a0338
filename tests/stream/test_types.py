from dataclasses import replace

import cv2
import numpy as np
import pytest

from fer.faces.types import Faces
from fer.stream.types import Frame, FrameResult

IMAGE = np.zeros((4, 6, 3), np.uint8)
BOX = np.array([[1, 1, 3, 3]], np.float32)
SCORE = np.array([0.5], np.float32)


def test_an_invalid_frame_cannot_be_built() -> None:
    Frame(IMAGE, 0, 0.0)
    for image in (IMAGE[..., 0], IMAGE.astype(np.float32), np.zeros((4, 6, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            Frame(image, 0, 0.0)
    with pytest.raises(ValueError, match="index"):
        Frame(IMAGE, -1, 0.0)
    with pytest.raises(ValueError, match="seconds"):
        Frame(IMAGE, 0, float("nan"))
    with pytest.raises(ValueError, match="picture or an error"):
        Frame(IMAGE, 0, 0.0, error="broken")
    with pytest.raises(ValueError, match="picture or an error"):
        Frame(IMAGE[:0, :0], 0, 0.0)


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [
        (BOX.astype(np.float64), SCORE),
        (BOX[:, [2, 1, 0, 3]], SCORE),
        (BOX[:, :3], SCORE),
        (BOX * np.float32(np.nan), SCORE),
        (BOX, SCORE * 3),
        (BOX, np.zeros(2, np.float32)),
        (BOX, SCORE.astype(np.float64)),
    ],
)
def test_invalid_faces_cannot_be_built(boxes: np.ndarray, scores: np.ndarray) -> None:
    Faces(BOX, SCORE)
    with pytest.raises(ValueError):
        Faces(boxes, scores)


def test_ids_are_checked() -> None:
    Faces(BOX, SCORE, ids=np.array([1]))
    with pytest.raises(ValueError, match="ids"):
        Faces(BOX, SCORE, ids=np.array([-1]))


def test_the_row_has_the_schema() -> None:
    probabilities = np.array([[0.25, 0.75]], np.float32)
    result = FrameResult(Frame(IMAGE, 3, 0.12), Faces(BOX, SCORE), ("a", "b"), probabilities)
    face = {
        "id": None,
        "box": [1.0, 1.0, 3.0, 3.0],
        "score": 0.5,
        "yaw": None,
        "pitch": None,
        "roll": None,
        "emotion": "b",
        "confidence": 0.75,
        "uncertain": False,
        "probabilities": {"a": 0.25, "b": 0.75},
        "smoothed": None,
    }
    assert result.row() == {"frame": 3, "time": 0.12, "faces": [face]}


def test_a_row_has_the_head_pose_or_none_where_it_is_unknown() -> None:
    boxes, scores = BOX.repeat(2, axis=0), SCORE.repeat(2)
    pose = np.array([[12.345, -3, 170], [np.nan] * 3], np.float32)
    frame, probabilities = Frame(IMAGE, 0, 0.0), np.full((2, 2), 0.5, np.float32)
    first, second = FrameResult(frame, Faces(boxes, scores), ("a", "b"), probabilities, pose=pose).row()["faces"]
    assert (first["yaw"], first["pitch"], first["roll"]) == (12.3, -3.0, 170.0)
    assert first["uncertain"] is False and second["yaw"] is second["pitch"] is second["roll"] is None
    with pytest.raises(ValueError, match="pose"):
        FrameResult(frame, Faces(boxes, scores), ("a", "b"), probabilities, pose=pose[:1])


def test_smoothed_probabilities_are_the_ones_shown() -> None:
    now, smoothed = np.array([[0.25, 0.75]], np.float32), np.array([[0.5, 0.5]], np.float32)
    faces = Faces(BOX, SCORE, ids=np.array([7]))
    row = FrameResult(Frame(IMAGE, 0, 0.0), faces, ("a", "b"), now, smoothed).row()
    assert row["faces"][0]["id"] == 7
    assert (row["faces"][0]["emotion"], row["faces"][0]["confidence"]) == ("a", 0.5)
    assert row["faces"][0]["probabilities"] == {"a": 0.25, "b": 0.75}
    assert row["faces"][0]["smoothed"] == {"a": 0.5, "b": 0.5}


def test_probabilities_of_another_shape_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        FrameResult(Frame(IMAGE, 0, 0.0), Faces(BOX, SCORE), ("a", "b"), np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="smoothed"):
        FrameResult(Frame(IMAGE, 0, 0.0), Faces.none(), ("a", "b"), np.zeros((0, 2), np.float32), np.zeros((1, 2)))


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (640, 480), (1000, 700), (3840, 2160)])
def test_a_reduced_copy_has_the_mean_of_each_area(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    expected = cv2.resize(image, (320, round(size[1] * 320 / size[0])), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(Frame(image, 0, 0.0).reduced(320).astype(int) - expected).max() <= 1


def test_a_reduced_copy_is_made_once_and_never_larger() -> None:
    frame = Frame(np.zeros((40, 60, 3), np.uint8), 0, 0.0)
    assert frame.reduced(30) is frame.reduced(30)
    assert frame.reduced(60) is frame.reduced(100) is frame.image
    changed = replace(frame, image=frame.image + 9)
    assert changed.reduced(30).max() == 9, "a copy of another image is not that of this one"
