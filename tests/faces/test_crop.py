import numpy as np
import pytest

from fer.faces.crop import crop_face

NUMBERED = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)  # pixel (x, y) is 10·y + x


def test_a_square_around_the_centre() -> None:
    # 2 × 4 around (5, 5): the longer side is 4, and no margin.
    face = crop_face(NUMBERED, np.array([4, 3, 6, 7], np.float32), 0.0, 4)
    np.testing.assert_array_equal(face[..., 0], NUMBERED[3:7, 3:7, 0])


def test_the_margin_is_a_share_of_the_longer_side_on_each_side() -> None:
    face = crop_face(NUMBERED, np.array([4, 3, 6, 7], np.float32), 0.25, 6)
    np.testing.assert_array_equal(face[..., 0], NUMBERED[2:8, 2:8, 0])


def test_beyond_the_frame_its_border_is_repeated() -> None:
    face = crop_face(NUMBERED, np.array([0, 0, 4, 4], np.float32), 0.5, 8)[..., 0]
    np.testing.assert_array_equal(face[2:, 2:], NUMBERED[:6, :6, 0])
    assert (face[:3, :3] == 0).all()
    np.testing.assert_array_equal(face[0, 2:], NUMBERED[0, :6, 0])
    face = crop_face(NUMBERED, np.array([6, 6, 10, 10], np.float32), 0.5, 8)[..., 0]
    np.testing.assert_array_equal(face[:6, :6], NUMBERED[4:, 4:, 0])
    assert (face[5:, 5:] == 99).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 0.2, 0.2), (9.8, 9.8, 10, 10), (0, 0, 10, 1), (4.4, 0, 4.6, 10), (0, 0, 10, 10)]
)
@pytest.mark.parametrize("margin", [-0.49, 0.0, 2.0])
def test_any_box_of_a_frame_can_be_cropped(box: tuple[float, ...], margin: float) -> None:
    assert crop_face(NUMBERED, np.array(box, np.float32), margin, 12).shape == (12, 12, 3)


def test_reducing_averages() -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    face = crop_face(board, np.array([0, 0, 64, 64], np.float32), 0.0, 16)
    assert np.abs(face.astype(int) - 128).max() <= 2
