"""The drawn faces: the same for a seed, new for another, and out of a linear model's reach."""

import numpy as np
import pytest

from fer.data import synthetic
from fer.data.base import Split, digests
from fer.errors import FerError
from fer.labels import EMOTIONS


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    return synthetic.read(seed=0, train=1400, val=140, test=280)


def test_shapes_types_and_balance(splits: dict[str, Split]) -> None:
    assert list(splits) == ["train", "val", "test"]
    for name, count in (("train", 1400), ("val", 140), ("test", 280)):
        split = splits[name]
        assert split.images.shape == (count, 48, 48)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.classes == EMOTIONS
        assert split.counts() == [count // 7] * 7


def test_counts_that_do_not_divide_by_seven_differ_by_one_at_most() -> None:
    counts = synthetic.read(train=17, val=8, test=7)["train"].counts()
    assert sum(counts) == 17
    assert max(counts) - min(counts) == 1


def test_a_seed_decides_every_pixel_and_a_longer_split_begins_with_the_shorter(
    splits: dict[str, Split],
) -> None:
    again = synthetic.read(seed=0, train=21, val=7, test=14)
    for name, split in again.items():
        assert np.array_equal(split.images, splits[name].images[: len(split)])
    assert again["train"].fingerprint == synthetic.read(seed=0, train=21, val=7, test=7)["train"].fingerprint


def test_no_image_is_in_two_splits_or_under_two_seeds(splits: dict[str, Split]) -> None:
    other = synthetic.read(seed=1, train=140, val=70, test=70)
    every = [digest for split in (*splits.values(), *other.values()) for digest in digests(split.images)]
    assert len(set(every)) == len(every)


def test_the_same_person_can_show_every_emotion() -> None:
    faces = {emotion: synthetic.draw(emotion, np.random.default_rng(5)) for emotion in EMOTIONS}
    neutral = faces.pop("neutral").astype(int)
    for emotion, face in faces.items():
        changed = np.abs(face - neutral) > 12
        assert 0.01 < changed.mean() < 0.3, emotion  # brows, eyes and mouth move; hair, room and light stay


def test_pixels_use_the_range_and_no_face_is_blank(splits: dict[str, Split]) -> None:
    images = splits["train"].images
    assert images.min() == 0
    assert images.max() == 255
    assert images[:, 12:36, 12:36].std(axis=(1, 2)).min() > 3


def test_a_linear_model_fails(splits: dict[str, Split]) -> None:
    """One-against-all ridge regression on standardised pixels, its penalty chosen on val."""
    pixels = {name: split.images.reshape(len(split), -1).astype(np.float32) for name, split in splits.items()}
    mean, std = pixels["train"].mean(axis=0), pixels["train"].std(axis=0)
    features = {name: (value - mean) / std for name, value in pixels.items()}
    target = np.eye(7, dtype=np.float32)[splits["train"].labels] - 1 / 7
    values, vectors = np.linalg.eigh(features["train"] @ features["train"].T)
    accuracy = []
    for penalty in (1e3, 1e4, 1e5, 1e6):
        dual = vectors @ ((vectors.T @ target) / (values.clip(0) + penalty)[:, None])
        weights = features["train"].T @ dual
        guesses = {name: (features[name] @ weights).argmax(axis=1) for name in ("val", "test")}
        accuracy.append([(guesses[name] == splits[name].labels).mean() for name in ("val", "test")])
    _, test = max(accuracy)
    assert 0.18 < test < 0.60  # it learns something, so the probe itself works; chance is 0.14


@pytest.mark.parametrize("size", [24, 64, 224])
def test_other_sizes(size: int) -> None:
    assert synthetic.read(train=7, val=7, test=7, size=size)["val"].images.shape == (7, size, size)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"seed": -1}, "seed=-1 must be"),
        ({"size": 23}, "data.size=23 must be a whole number from 24 to 4096"),
        ({"size": None}, "data.size=null must be"),
        ({"train": 6}, "train=6 must be a whole number from 7"),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_drawing(arguments: dict[str, int], fix: str) -> None:
    with pytest.raises(FerError, match=fix):
        synthetic.read(**arguments)
