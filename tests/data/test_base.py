import numpy as np
import pytest

from fer.data.base import Split, constant, duplicates
from fer.errors import DataError


def split() -> Split:
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    return Split(images, np.arange(6) % 3, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 2), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 4, 4), np.uint8), np.array([0, 2])),
        (np.zeros((2, 4, 4), np.uint8), np.array([-1, 0])),
    ],
)
def test_split_refuses_what_does_not_fit(images, labels):
    with pytest.raises(DataError):
        Split(images, labels, ("a", "b"))


def test_fingerprint_sees_pixels_and_labels():
    one = split()
    pixels, labels = one.images.copy(), one.labels.copy()
    pixels[0, 0, 0] ^= 1
    labels[0] = 1
    prints = {one.fingerprint, Split(pixels, one.labels, one.classes).fingerprint}
    assert len(prints | {Split(one.images, labels, one.classes).fingerprint}) == 3
    assert split().fingerprint == one.fingerprint


def test_duplicates_are_exact():
    one = split()
    other = one.images[2:4].copy()
    other[1, 5, 5] ^= 1
    repeated = duplicates(one, [Split(other, np.array([0, 0]), one.classes)])
    assert np.flatnonzero(repeated).tolist() == [2]


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 3)])
def test_an_image_of_one_colour_is_constant(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images[1] = 7
    assert constant(images).tolist() == [False, True, False]


def test_rows_keep_their_names_and_targets():
    one = split()
    full = Split(one.images, one.labels, one.classes, np.eye(3, dtype=np.float32)[one.labels], tuple("abcdef"))
    few = full.only(np.array([True, False, False, True, False, True]))
    assert (len(few), few.names, few.targets.argmax(1).tolist()) == (3, ("a", "d", "f"), few.labels.tolist())
