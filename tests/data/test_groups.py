"""Which names are series of frames, and when their division is reported."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from fer.data.groups import Image, cut

CLASSES = ("angry", "happy", "sad", "neutral")
PER_CLASS = 20
SHARES = {"val": 0.15, "test": 0.15}


def images(name: Callable[[int, int], str]) -> list[Image]:
    """Images of four classes, named by the number of the class and the number in it."""
    return [Image(Path(label, f"{name(k, i)}.jpg"), label) for k, label in enumerate(CLASSES) for i in range(PER_CLASS)]


def shuffled(k: int, i: int) -> int:
    return (k * PER_CLASS + i) * 37 % (len(CLASSES) * PER_CLASS)


UNRELATED: dict[str, Callable[[int, int], str]] = {
    "numbers": lambda k, i: f"{i:05}",
    "hashes": lambda k, i: hashlib.md5(f"{k} {i}".encode()).hexdigest(),
    "UUIDs": lambda k, i: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{k} {i}")),
    "one camera": lambda k, i: f"IMG_{k * PER_CLASS + i:04}",
    "two cameras": lambda k, i: f"{('DSC_', 'P101')[i % 2]}{k * PER_CLASS + i:04}",
    "a phone": lambda k, i: f"IMG_20240{k + 1}01_1200{i:02}",
    "a messenger": lambda k, i: f"IMG-20240{k + 1}01-WA{i:04}",
    "FER-2013": lambda k, i: f"{('Training', 'PublicTest')[i % 2]}_{shuffled(k, i)}",
    "Kaggle": lambda k, i: f"im{i}",
    "downloads": lambda k, i: f"{('images', 'download')[i % 2]} ({i})",
    "cameras that took one class each": lambda k, i: f"{('IMG', 'DSC', 'PXL', 'P')[k]}_{i:04}",
    "the name of a person": lambda k, i: f"david_{k * PER_CLASS + i}",
    "their class": lambda k, i: f"{CLASSES[k]}_{i:03}",
}
FRAMES: dict[str, Callable[[int, int], str]] = {
    "one video": lambda k, i: f"frame_{k * PER_CLASS + i:05}",
    "every 25th frame": lambda k, i: f"video1-{25 * (k * PER_CLASS + i)}",
    "two clips": lambda k, i: f"clip{i // 10}_{i % 10:04}",
    "a film of each class": lambda k, i: f"{CLASSES[k]}_film_{i}",
}


@pytest.mark.parametrize("names", UNRELATED)
def test_unrelated_photographs_are_divided_without_a_warning(names: str, caplog: pytest.LogCaptureFixture) -> None:
    parts = cut(images(UNRELATED[names]), SHARES, seed=0, source=Path("faces"))
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 56, "val": 12, "test": 12}
    assert not caplog.text


@pytest.mark.parametrize("names", FRAMES)
def test_series_that_must_be_divided_are_counted_in_a_warning(names: str, caplog: pytest.LogCaptureFixture) -> None:
    given = images(FRAMES[names])
    assert sum(map(len, cut(given, SHARES, seed=0, source=Path("faces")).values())) == len(given)
    (line,) = caplog.messages
    assert "series of frames" in line and "give each session or person a folder of its own" in line


@pytest.mark.parametrize(
    "name",
    [
        lambda k, i: f"clip{i // 4}_{i % 4:04}",
        lambda k, i: f"S{i // 5:03}_{i % 5:08}",
        lambda k, i: f"{'abcd'[i // 5]}-{3 * (i % 5)}",
        lambda k, i: f"{('anna', 'john', 'mary', 'zoey')[i // 5]}{i % 5:04}",
    ],
)
def test_enough_series_are_kept_whole(name: Callable[[int, int], str], caplog: pytest.LogCaptureFixture) -> None:
    parts = cut(images(name), SHARES, seed=0, source=Path("faces"))
    series = [{image.path.stem.rstrip("0123456789") for image in rows} for rows in parts.values()]
    assert sum(map(len, series)) == len(set.union(*series))
    assert not caplog.text


def test_the_log_says_whether_images_or_whole_groups_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cut(images(lambda k, i: f"im{i}"), SHARES, seed=0, source=Path("faces"))
    cut(
        [Image(Path(f"{k}/{i}.jpg"), k, f"s{i % 5}") for k in CLASSES for i in range(9)],
        SHARES,
        seed=0,
        source=Path("f"),
    )
    assert caplog.messages == [
        "faces: val and test cut from train, image by image, of 80",
        "f: val and test cut from train, in whole groups, of 5",
    ]


def test_folders_are_groups_whatever_the_files_are_called(caplog: pytest.LogCaptureFixture) -> None:
    given = [Image(each.path, each.label, f"session{n % 4}") for n, each in enumerate(images(FRAMES["one video"]))]
    groups = [{image.group for image in rows} for rows in cut(given, SHARES, seed=0, source=Path("faces")).values()]
    assert sum(map(len, groups)) == 4
    assert not caplog.text
