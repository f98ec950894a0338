from collections.abc import Iterable

import numpy as np
import pytest

from fer.faces.types import Array
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector
from fer.stream.search import search
from fer.stream.stats import Stats
from fer.stream.types import Frame

FACE = (130.0, 60.0, 190.0, 120.0)
"""In the middle of a picture of 320 × 180."""

PLACES = {"edge": (0, 90), "corner": (319, 179), "face": (160, 90), "elsewhere": (50, 90)}
"""x and y."""


def picture(*moved: str) -> Array:
    coarse = np.random.default_rng(0).integers(20, 180, (9, 16, 3)).astype(np.uint8)
    image = coarse.repeat(20, axis=0).repeat(20, axis=1)
    for name in moved:
        x, y = PLACES[name]
        image[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] += 60
    return image


def searched(images: Iterable[Array], stats: Stats, rate: float = 30, detect: FakeDetector | None = None) -> list[bool]:
    frames = [Frame(image, k, k / rate) for k, image in enumerate(images)]
    return [item.searched for item in search(frames, detect or FakeDetector(FACE), Tracker(), stats, 1, True)]


@pytest.mark.parametrize("place", PLACES)
def test_motion_is_searched_wherever_it_is(place: str) -> None:
    stats = Stats()
    assert searched([picture(), picture(), picture(place), picture(place)], stats) == [True, False, True, False]
    assert stats.skipped == 2


def test_a_still_picture_is_searched_once_a_second() -> None:
    stats = Stats()
    assert np.flatnonzero(searched([picture()] * 25, stats, rate=10)).tolist() == [0, 10, 20]
    assert stats.skipped == 22 and stats.as_dict()["skipped"] == 22


def test_slow_motion_adds_up_until_it_is_searched() -> None:
    images = [np.clip(picture().astype(int) + k, 0, 255).astype(np.uint8) for k in range(10)]
    assert 1 < sum(searched(images, Stats())) < 5


def test_noise_is_no_motion() -> None:
    rng = np.random.default_rng(1)
    images = [np.clip(picture() + rng.normal(0, 5, (180, 320, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    assert sum(searched(images, Stats())) == 1


def test_scene_cuts_are_searched_and_nothing_is_skipped_unless_asked() -> None:
    other = np.random.default_rng(5).integers(0, 256, (9, 16, 3)).astype(np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    assert searched([picture(), picture(), other, other], Stats()) == [True, False, True, False]
    frames, stats = [Frame(picture(), k, k / 30) for k in range(5)], Stats()
    assert all(item.searched for item in search(frames, FakeDetector(FACE), Tracker(), stats, 1))
    assert stats.skipped == 0


def test_a_frame_without_an_image_is_not_compared() -> None:
    frames = [
        Frame(picture(), 0, 0.0),
        Frame(np.zeros((0, 0, 3), np.uint8), 1, 0.1, error="x"),
        Frame(picture(), 2, 0.2),
    ]
    found = list(search(frames, FakeDetector(FACE), Tracker(), Stats(), 1, True))
    assert [item.searched for item in found] == [True, True, False]
