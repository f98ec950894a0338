import numpy as np
import pytest
from samples import MEDIA

from fer.errors import ConfigError
from fer.faces.detect import Detector
from fer.faces.types import Array
from fer.stream.sources import open_source
from fer.stream.types import Frame

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
"""Of a face, in its box."""


class FakeNet:
    """Detects at fixed shares of any picture, and remembers the sizes of the pictures."""

    def __init__(self, *rows: tuple[float, float, float, float, float]) -> None:
        self.rows = rows
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, image: Array) -> Array:
        self.sizes.append(image.shape[:2])
        height, width = image.shape[:2]
        rows = np.array(self.rows, np.float32).reshape(-1, 5)
        points = (rows[:, None, :2] + rows[:, None, 2:4] * POINTS).reshape(-1, 10)
        return np.hstack([rows[:, :4], points, rows[:, 4:]]) * np.float32([width, height] * 7 + [1])


def detector(net: FakeNet, **values: int | None) -> Detector:
    made = Detector(**values)
    made._net, made._still_net = net, lambda: net
    return made


def frame(width: int, height: int, file: str | None = None) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), 0, 0.0, file=file)


def test_a_reduced_copy_is_searched_and_boxes_are_in_pixels_of_the_frame() -> None:
    net = FakeNet((0.25, 0.5, 0.25, 0.25, 0.9))
    faces = detector(net)(frame(1280, 722))
    assert net.sizes == [(180, 320)]
    np.testing.assert_allclose(faces.boxes, [[320, 361, 640, 541.5]], rtol=1e-4)
    np.testing.assert_allclose(faces.points[0], faces.boxes[0, :2] + POINTS * [320, 180.5], rtol=1e-4)


def test_a_bare_image_is_searched_as_a_photo() -> None:
    net = FakeNet((0.25, 0.5, 0.25, 0.25, 0.9))
    faces = detector(net)(np.zeros((500, 1000, 3), np.uint8))
    assert net.sizes == [(160, 320), (500, 1000)]
    np.testing.assert_allclose(faces.boxes, [[250, 250, 500, 375]], rtol=1e-3)


def test_small_frames_are_not_enlarged() -> None:
    net = FakeNet()
    detector(net)(frame(200, 100))
    detector(net)(frame(200, 100, file="still.png"))
    assert net.sizes == [(100, 200)] * 2


def test_a_still_is_searched_twice_and_a_face_counts_once() -> None:
    net = FakeNet((0.25, 0.5, 0.25, 0.25, 0.9))
    faces = detector(net)(frame(1000, 500, file="still.png"))
    assert net.sizes == [(160, 320), (500, 1000)]
    assert len(faces) == 1
    detector(net, still_width=None)(frame(1000, 500, file="still.png"))
    assert net.sizes[2:] == [(160, 320)]


def test_of_two_boxes_on_a_face_the_one_with_the_higher_score_stays() -> None:
    net = FakeNet((0.1, 0.1, 0.5, 0.5, 0.7), (0.12, 0.1, 0.5, 0.5, 0.8), (0.3, 0.3, 0.1, 0.1, 0.65))
    faces = detector(net)(frame(320, 320))
    np.testing.assert_allclose(faces.scores, [0.8])


def test_boxes_are_clipped_and_invalid_ones_dropped() -> None:
    nan = float("nan")
    net = FakeNet(
        (-0.1, -0.1, 0.5, 0.5, 0.7),
        (0.9, 0.9, 0.5, 0.5, 1.2),
        (2.0, 2.0, 0.5, 0.5, 0.9),
        (0.5, 0.5, 0.0, 0.0, 0.9),
        (nan, 0.5, 0.2, 0.2, 0.9),
        (-0.19, 0.5, 0.2, 0.2, 0.9),
        (-4e28, 0.5, 0.2, 0.2, 0.9),
    )
    faces = detector(net)(frame(100, 100))
    np.testing.assert_allclose(faces.boxes, [[90, 90, 100, 100], [0, 0, 40, 40]], atol=1e-3)
    np.testing.assert_allclose(faces.scores, [1.0, 0.7])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (2000, 1), (1, 2000), (16, 16)])
def test_a_sliver_has_no_face(size: tuple[int, int]) -> None:
    assert len(Detector()(frame(*size))) == 0


@pytest.mark.parametrize(
    "values",
    [{"width": 0}, {"width": None}, {"width": 1.5}, {"still_width": 8}, {"score": 0}, {"score": "x"}],
)
def test_invalid_values_are_named(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"detector\."):
        Detector(**values)


@pytest.mark.shared
def test_the_five_faces_of_a_photo() -> None:
    with open_source(str(MEDIA / "multi_face.jpg")) as source:
        (photo,) = source
    faces = Detector()(photo)
    assert len(faces) == 5
    assert (faces.scores > 0.85).all()
    assert (faces.boxes[:, 2:] <= [1000, 667]).all()


@pytest.mark.shared
def test_a_face_that_fills_a_large_photo_is_one_face() -> None:
    import cv2

    with open_source(str(MEDIA / "single_face.mp4")) as source:
        image = next(iter(source)).image
    close = cv2.resize(image[50:330, 200:400], (1600, 2240))
    assert len(Detector()(Frame(close, 0, 0.0, file="close.png"))) == 1


@pytest.mark.parametrize("size", [(6000, 4000), (4000, 3000), (3000, 4000), (4000, 6000), (12000, 1200), (1000, 20000)])
def test_large_photos_of_any_shape_are_searched_finely_in_a_bounded_number_of_pixels(size: tuple[int, int]) -> None:
    net = FakeNet((0.5, 0.5, 0.01, 0.01, 0.9))
    assert len(detector(net)(frame(*size, file="photo.jpg"))) == 1
    pixels = [height * width for height, width in net.sizes]
    finest = min(2880 * 1920, size[0] * size[1])
    assert max(pixels) == pytest.approx(finest, rel=0.02)
    assert len(pixels) == 3 or size == (1000, 20000)
    net.sizes.clear()
    detector(net)(frame(*size))
    assert len(net.sizes) == 1, "a frame of a video is searched once"
