"""Folders of images: every layout, the names, the splits by group, and one line for all that can be wrong."""

import logging
import re
import struct
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from fer import labels
from fer.data import folder, layout, pictures
from fer.data.base import Split
from fer.data.groups import Image
from fer.errors import ConfigError, DataError

EMOTIONS = ("angry", "happy", "sad")
EMOTIONS_OF_FER2013 = labels.EMOTIONS


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def put(path: Path, value: int = 100, shape: Sequence[int] = (12, 12)) -> Path:
    """An image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.full(shape, value, np.uint8), path.suffix))
    return path


def tree(root: Path, pattern: str, **names: Sequence[str]) -> Path:
    """Images of different values at `pattern` for every combination of the names."""
    paths = [pattern]
    for key, values in names.items():
        paths = [path.replace(f"<{key}>", value) for path in paths for value in values]
    for value, path in enumerate(paths):
        put(root / path, value)
    return root


def values(split: Split) -> list[int]:
    return split.images[:, 0, 0].tolist()


def refusal(root: Path, **arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        folder.read(root, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# all images


def test_a_folder_is_read_whole_whatever_its_splits_lack(tmp_path: Path) -> None:
    tree(tmp_path / "split", "<s>/<c>/<i>.png", s=("train", "val"), c=("angry", "sad"), i=("a", "b"))
    put(tmp_path / "split" / "test" / "happy" / "a.png", 9)
    split = folder.read_part("also", tmp_path / "split", "all", 10, 1)
    assert (split.classes, split.counts()) == (("angry", "happy", "sad"), [4, 1, 4])
    assert (sorted(values(split)), split.images.shape) == ([*range(8), 9], (9, 10, 10))
    few = tree(tmp_path / "few", "<c>/a.png", c=("sad", "keen"))
    assert folder.read_part("also", few, "all", 10, 3).images.shape == (2, 10, 10, 3)
    for name, words in (("nowhere", "no folder .*nowhere; set also to"), ("split/test", "only one class")):
        with pytest.raises(DataError, match=words):
            folder.read_part("also", tmp_path / name, "all", 10, 1)
    (few / "sad" / "b.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="not a readable image"):
        folder.read_part("also", few, "all", 10, 1)


# split folders


def test_split_folders(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=("train", "val", "test"), c=EMOTIONS, i=("a", "b"))
    splits = folder.read(tmp_path, size=10)
    assert list(splits) == ["train", "val", "test"]
    for split in splits.values():
        assert split.images.shape == (6, 10, 10)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert split.classes == EMOTIONS
    assert [values(split) for split in splits.values()] == [[*range(6)], [*range(6, 12)], [*range(12, 18)]]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "valid", "TEST"),
        ("training", "Validation", "testing"),
        ("Training", "PublicTest", "PrivateTest"),
        ("train_set", "VAL", "Test images"),
    ],
)
def test_other_names_of_the_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=(train, val, test), c=("x", "y"))
    assert {name: values(split) for name, split in folder.read(tmp_path).items()} == {
        "train": [0, 1],
        "val": [2, 3],
        "test": [4, 5],
    }


def test_names_of_emotions_and_own_classes(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val"), c=("Zen", "Sadness", "joy", "anger", "bored"))
    tree(tmp_path, "test/<c>/a.png", c=("Zen", "sad", "happy", "HAPPINESS", "angry", "bored"))
    splits = folder.read(tmp_path)
    assert splits["train"].classes == ("angry", "happy", "sad", "Zen", "bored")
    assert splits["test"].counts() == [1, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("Contempt", "contempt", "CONTEMPT ", "joy"), ("happy", "contempt")),
        (("fröhlich", unicodedata.normalize("NFD", "fröhlich"), "müde"), ("fröhlich", "müde")),
        (("STRASSE", "Straße", "Weg"), ("Straße", "Weg")),
        (("0_Angry", "3_happy", "7_contempt"), ("angry", "happy", "contempt")),
        (tuple("0123456"), EMOTIONS_OF_FER2013),
        (tuple("01234567"), tuple("01234567")),
    ],
)
def test_one_class_for_each_meaning(tmp_path: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=names)
    for split in folder.read(tmp_path).values():
        assert split.classes == classes
        assert len(split) == len(names)


def test_names_differ_from_split_to_split(tmp_path: Path) -> None:
    tree(tmp_path, "train/<c>/<i>.png", c=("Contempt", "anger"), i="abcdefgh")
    tree(tmp_path, "Test/<c>/<i>.png", c=("contempt ", "0_angry"), i="ab")
    assert {name: split.classes for name, split in folder.read(tmp_path).items()} == dict.fromkeys(
        ("train", "val", "test"), ("angry", "contempt")
    )


@pytest.mark.parametrize(
    ("names", "pattern", "words"),
    [
        ("0123456", "<c>/<p>/a.png", "0 angry, 1 disgust"),
        ("0123456", "<p>/<c>/a.png", "0 angry, 1 disgust"),
        ("01234567", "train/<c>/<p>/a.png", "of their own"),
        ("1234567", "<c>/<p>a.png", "of their own"),
    ],
)
def test_what_numbers_are_taken_for_is_said(
    tmp_path: Path, names: str, pattern: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, pattern, c=names, p=("ann", "bob", "cy"))
    assert len(folder.read(tmp_path)["train"].classes) == len(names)
    assert words in caplog.text


def test_every_kind_of_file_and_nested_folders(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.PNG", "d.bmp", "e.webp", "f.tif", "g.TIFF", "deep/er/h.Jpg"]
    tree(tmp_path, "<s>/<c>/<i>", s=("train", "val", "test"), c=("x", "y"), i=names)
    (tmp_path / "train" / "x" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "x" / "._a.jpg").write_bytes(b"what macOS leaves behind")
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    assert folder.read(tmp_path)["train"].counts() == [8, 8]


def test_colour_and_grey_any_shape(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = (200, 100, 50)  # BGR, in the central square; black beside it
    (tmp_path / "train" / "x" / "a.png").write_bytes(encode(image))
    put(tmp_path / "train" / "y" / "a.png", 7, (5, 9))
    colour = folder.read(tmp_path, size=16, channels=3)["train"].images
    assert colour.shape == (2, 16, 16, 3)
    assert np.array_equal(np.unique(colour[0].reshape(-1, 3), axis=0), [[50, 100, 200]])
    assert np.unique(colour[1]).tolist() == [7]
    grey = folder.read(tmp_path, size=16)["train"].images
    luma = round(0.299 * 50 + 0.587 * 100 + 0.114 * 200)
    assert np.unique(grey[0]).tolist() == [luma]


def test_a_photograph_is_turned_upright_before_it_is_cut(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    image = np.zeros((16, 16), np.uint8)
    image[:, :8] = 255  # the left half is white
    jpeg = encode(image, ".jpg")
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn a quarter to the right
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    (tmp_path / "train" / "x" / "a.jpg").write_bytes(turned)
    upright = folder.read(tmp_path, size=16)["train"].images[0]
    assert upright[:7].min() > 240  # now the upper half is
    assert upright[9:].max() < 15


def test_paths_that_are_not_ascii(tmp_path: Path) -> None:
    tree(
        tmp_path / "Gesichter ñ 顔",
        "<s>/<c>/bild ü.png",
        s=("train", "val", "test"),
        c=("fröhlich", "悲しい"),
    )
    assert folder.read(str(tmp_path / "Gesichter ñ 顔"))["val"].classes == ("fröhlich", "悲しい")


def test_an_archive_unpacked_into_a_folder_of_its_own(tmp_path: Path) -> None:
    tree(tmp_path / "faces-v2", "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    assert values(folder.read(tmp_path)["test"]) == [4, 5]


@pytest.mark.parametrize("above", ["images", "archive/images", "Faces/data"])
def test_split_folders_below_other_folders(tmp_path: Path, above: str) -> None:
    tree(tmp_path / above, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").write_text("no image")
    if above != "images":
        (tmp_path / "docs" / "readme.txt").unlink()
        (tmp_path / "docs").rmdir()
    assert values(folder.read(tmp_path)["test"]) == [4, 5]


@pytest.mark.parametrize("pattern", ["<s>/images/<c>/<i>.png", "<s>/<c>/Images/<i>.png", "Images/<c>/<i>.png"])
def test_a_folder_called_images_is_no_class_and_no_person(tmp_path: Path, pattern: str) -> None:
    tree(tmp_path, pattern, s=("train",), c=("x", "y"), i="abcdef")
    assert {name: split.counts() for name, split in folder.read(tmp_path).items()} == {
        "train": [4, 4],
        "val": [1, 1],
        "test": [1, 1],
    }


def test_split_folders_of_images_are_told_from_those_of_labels(tmp_path: Path) -> None:
    tree(tmp_path / "images", "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    for split in ("train", "val", "test"):
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 1 1")
    assert values(folder.read(tmp_path)["val"]) == [2, 3]


def test_two_datasets_or_splits_below_the_classes_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "<c>/<s>/a.png", s=("train", "test"), c=("x", "y"))
    assert "split folders in x and y; set data.root to one of them" in refusal(tmp_path)


def test_folders_beside_the_splits_are_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test", "extra"), c=("x", "y"))
    put(tmp_path / "train" / "sheet.png")
    put(tmp_path / "overview.png")
    assert len(folder.read(tmp_path)["train"]) == 2
    assert "extra" in caplog.text
    assert "images in no class folder and not read: 2, such as train/sheet.png" in caplog.text


def test_files_that_are_not_read_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    image = (tmp_path / "train" / "x" / "a.png").read_bytes()
    for name in ("photo.jfif", "photo", "photo.dat"):  # read by content
        (tmp_path / "train" / "x" / name).write_bytes(image)
    for name in ("clip.mp4", "paper.pdf", "no_ending"):
        (tmp_path / "train" / "y" / name).write_bytes(b"something else")
    (tmp_path / "train" / "y" / "a.txt").write_text("happy")  # belongs there
    moving = [Picture.new("L", (9, 9), value) for value in (7, 200)]
    moving[0].save(tmp_path / "val" / "x" / "b.gif", save_all=True, append_images=moving[1:])
    splits = folder.read(tmp_path)
    assert splits["train"].counts() == [4, 1]
    assert values(splits["val"]) == [2, 7, 3]
    assert [line.split(": ", 1)[1] for line in caplog.messages] == [
        "files that are no images and not read: 3, such as train/y/clip.mp4",
        "images of several frames or pages, of which only the first is read: 1, such as val/x/b.gif",
    ]


# splits by group


def sides(root: Path, splits: dict[str, Split], group: int) -> dict[str, set[str]]:
    """Which groups (the given part of an image's path) are in which split; values of images are unique."""
    owner = {int(cv2.imread(str(p), 0)[0, 0]): p.relative_to(root).parts[group] for p in layout.list_images(root)}
    return {name: {owner[value] for value in values(split)} for name, split in splits.items()}


def check_apart(groups: dict[str, set[str]], count: int) -> None:
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == count
    assert min(map(len, groups.values())) >= 1
    assert len(groups["train"]) >= count - 4


@pytest.mark.parametrize("count", [3, 7])
def test_sessions_are_not_divided(tmp_path: Path, count: int) -> None:
    """faces/<session>/<class>/, as the camera collector writes it."""
    names = [f"2025-03-0{k} at home" for k in range(1, count + 1)]
    tree(tmp_path, "<s>/<c>/frame_<i>.png", s=names, c=EMOTIONS, i=("1", "2", "3"))
    splits = folder.read(tmp_path)
    check_apart(sides(tmp_path, splits, 0), count)
    assert all(min(split.counts()) > 0 for split in splits.values())
    assert sum(map(len, splits.values())) == count * 9


def test_sessions_with_classes_that_are_no_emotions(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=("day1", "day2", "day3", "day4"), c=("awake", "tired"), i=("1", "2"))
    splits = folder.read(tmp_path)
    assert splits["train"].classes == ("awake", "tired")
    check_apart(sides(tmp_path, splits, 0), 4)


def test_sessions_in_folders_of_folders(tmp_path: Path) -> None:
    tree(tmp_path, "<p>/<s>/<c>/<i>.png", p=("home", "lab"), s=("1", "2"), c=("fear", "happy"), i=("1", "2"))
    splits = folder.read(tmp_path)
    assert splits["train"].classes == ("fear", "happy")
    assert sorted(len(split) for split in splits.values()) == [4, 4, 8]  # four sessions, not two


def test_persons_are_not_divided_whatever_their_classes(tmp_path: Path) -> None:
    tree(tmp_path, "<c>/<p>/<i>.png", c=("happy", "sad"), p=("ann", "bob", "cy", "di", "ed"), i=("1", "2", "3"))
    check_apart(sides(tmp_path, folder.read(tmp_path), 1), 5)


@pytest.mark.parametrize("persons", [("joy12", "fear 2020", "ann 3"), ("sad1", "angry2", "happy3", "fear4")])
def test_persons_with_names_like_emotions_are_no_classes(tmp_path: Path, persons: Sequence[str]) -> None:
    tree(tmp_path, "<c>/<p>/<i>.png", c=("awake", "tired"), p=persons, i="ab")
    assert folder.read(tmp_path)["train"].classes == ("awake", "tired")


def test_series_are_not_divided(tmp_path: Path) -> None:
    tree(tmp_path, "<c>/<s>_<i>.png", c=("happy", "sad"), s=("kim", "lee", "mia", "noa"), i=("01", "02", "03"))
    for split in folder.read(tmp_path).values():
        assert len(split) % 6 == 0


def test_single_images_are_split_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "<c>/<i>.png", c=EMOTIONS, i=[f"{k:03}" for k in range(40)])
    with caplog.at_level(logging.WARNING):
        splits = folder.read(tmp_path, val_fraction=0.25, test_fraction=0.1)
    assert [splits[name].counts() for name in splits] == [[26] * 3, [10] * 3, [4] * 3]
    assert not caplog.text
    assert len({value for split in splits.values() for value in values(split)}) == 120


def test_shares_are_kept_as_nearly_as_groups_allow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for session in range(20):
        for emotion, often in (("happy", 9), ("sad", 3)):
            for i in range(rng.integers(1, often)):
                put(tmp_path / f"s{session}" / emotion / f"{i}.png")
    splits = folder.read(tmp_path)
    total = sum(map(len, splits.values()))
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert len(splits[name]) / total == pytest.approx(share, abs=0.012)
        assert splits[name].counts()[0] > splits[name].counts()[1]


def test_a_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=[f"s{k}" for k in range(9)], c=("happy", "sad"), i=("1", "2"))
    seeds = [[split.fingerprint for split in folder.read(tmp_path, seed=seed).values()] for seed in (0, 0, 1, 2)]
    assert seeds[0] == seeds[1]
    assert not seeds[0] == seeds[2] == seeds[3]


@pytest.mark.parametrize("given", [("train",), ("train", "test"), ("train", "val")])
def test_missing_splits_are_cut_from_train(tmp_path: Path, given: tuple[str, ...]) -> None:
    names = [f"p{k}" for k in range(6)]
    tree(tmp_path, "<s>/<c>/<p>/<i>.png", s=given, c=("happy", "sad"), p=names, i=("1", "2"))
    splits = folder.read(tmp_path)
    for name in given[1:]:
        assert len(splits[name]) == 24
    made = {name: split for name, split in splits.items() if name not in given[1:]}
    assert sum(map(len, made.values())) == 24
    check_apart(sides(tmp_path / "train", made, 1), 6)


# refusals


def test_a_path_that_is_no_dataset(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "absent")
    file = put(tmp_path / "image.png")
    assert f"no folder {file}" in refusal(file)
    message = refusal(tmp_path)
    assert message.startswith(f"no images in class folders under {tmp_path}; expected {tmp_path}/train/<class>/*")


@pytest.mark.parametrize("given", [("val", "test"), ("test",), ("Validation",)])
def test_without_train_the_splits_that_exist_are_returned(tmp_path: Path, given: tuple[str, ...]) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=given, c=("x", "y"))
    splits = folder.read(tmp_path)
    assert list(splits) == [layout.split_name(name) for name in given]
    assert [split.counts() for split in splits.values()] == [[1, 1]] * len(given)


def test_a_split_alone_may_lack_a_class_of_another(tmp_path: Path) -> None:
    tree(tmp_path, "test/<c>/a.png", c=("x", "y"))
    tree(tmp_path, "val/<c>/a.png", c=("x", "z"))
    assert folder.read(tmp_path)["test"].counts() == [1, 1, 0]


def test_an_empty_class(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=EMOTIONS)
    (tmp_path / "val" / "sad" / "a.png").unlink()
    assert f"{tmp_path / 'val'} has no image of sad; add some" in refusal(tmp_path)
    put(tmp_path / "val" / "sad" / "a.png")
    put(tmp_path / "test" / "fear" / "a.png")
    assert "has no image of fear" in refusal(tmp_path)


def test_an_empty_folder_is_an_empty_class(tmp_path: Path) -> None:
    tree(tmp_path, "<c>/<i>.png", c=EMOTIONS, i="abcdef")
    (tmp_path / "fear").mkdir()
    assert "has no image of fear" in refusal(tmp_path)


def test_folders_without_images_that_are_no_emotions_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "<c>/<i>.png", c=EMOTIONS, i="abcdef")
    for name in ("contempt", "docs/pictures", "scripts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "scripts" / "resize.py").write_text("")
    assert folder.read(tmp_path)["train"].classes == EMOTIONS
    assert "folders without images and not read: 3, such as contempt" in caplog.text


def test_classes_that_are_called_like_splits_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "<c>/<i>.png", c=("FER2013Train", "FER2013Valid", "FER2013Test"), i="abcdef")
    folder.read(tmp_path)
    assert "FER2013Test, FER2013Train, FER2013Valid are read as classes; for splits, call them train" in caplog.text


def test_an_empty_split(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "test"), c=("x", "y"))
    (tmp_path / "val").mkdir()
    assert f"{tmp_path / 'val'} has no image of x, y; add some" in refusal(tmp_path)


def test_a_single_class(tmp_path: Path) -> None:
    tree(tmp_path, "<c>/<i>.png", c=("happy",), i="abcdef")
    assert "only one class" in refusal(tmp_path)
    assert "its list of labels is missing" in refusal(tmp_path)


def test_too_few_groups(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=("s1", "s2"), c=("happy", "sad"), i="abcdef")
    tree(tmp_path, "<s>/<c>/<i>.png", s=("s3", "s4"), c=("happy",), i="abcdef")
    message = refusal(tmp_path)
    assert "cannot cut val and test from 4 groups" in message
    assert "'sad' is in 2 of them" in message
    assert "add a session or a person, or make train, val and test folders" in message


def test_one_or_two_sessions_are_cut_by_image_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=("s1", "s2"), c=("happy", "sad"), i="abcdef")
    splits = folder.read(tmp_path)
    assert sum(map(len, splits.values())) == 24
    assert all(min(split.counts()) for split in splits.values())
    assert "too few sessions or persons" in caplog.text
    assert "record 3 or more" in caplog.text


def test_of_a_split_given_twice_the_second_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "valid", "test"), c=("x", "y"))
    assert values(folder.read(tmp_path)["val"]) == [2, 3]
    assert "valid" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no image at all", encode(np.zeros((60, 60), np.uint8))[:-60]])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    (tmp_path / "val" / "x" / "b.png").write_bytes(content)
    assert f"{tmp_path / 'val' / 'x' / 'b.png'} is not a readable image" in refusal(tmp_path)
    assert "OpenCV" not in capfd.readouterr().err


def test_unreadable_images_are_counted_or_collected(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/<i>.png", s=("train", "val", "test"), c=("x", "y"), i="ab")
    whole = (tmp_path / "train" / "x" / "a.png").read_bytes()
    contents = {"cut.png": whole[:50], "empty.jpg": b"", "text.webp": b"hello", "phone.heic": b"\0\0\0\x18ftypheic"}
    for name, content in contents.items():
        (tmp_path / "train" / "y" / name).write_bytes(content)
    (tmp_path / "test" / "x" / "gone.gif").symlink_to(tmp_path / "nowhere")
    message = refusal(tmp_path)
    assert message.startswith(f"5 files are not readable images, such as {tmp_path}/train/y/cut.png (")
    assert f"python -m fer.data.audit {tmp_path} lists all" in message
    unreadable: list[folder.Unreadable] = []
    splits = folder.read(tmp_path, unreadable=unreadable)
    assert {name: split.counts() for name, split in splits.items()} == {name: [2, 2] for name in splits}
    assert [(each.split, each.file, each.label) for each in unreadable] == [
        *(("train", f"train/y/{name}", "y") for name in sorted(contents)),
        ("test", "test/x/gone.gif", "x"),
    ]
    assert unreadable[1].reason == "empty"


def test_a_dangling_link_is_an_unreadable_image(tmp_path: Path) -> None:
    tree(tmp_path, "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    (tmp_path / "train" / "x" / "b.png").symlink_to(tmp_path / "gone.png")
    assert "b.png is not a readable image" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"size": 7}, "data.size=7"),
        ({"size": 48.5}, "data.size=48.5"),
        ({"size": "48"}, "data.size=48"),
        ({"channels": 2}, "data.channels=2"),
        ({"seed": -1}, "seed=-1"),
        ({"val_fraction": 0}, "val_fraction=0"),
        ({"val_fraction": 0.5, "test_fraction": 0.6}, "test_fraction=0.6"),
    ],
)
def test_arguments_that_cannot_work(tmp_path: Path, arguments: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        folder.read(tmp_path, **arguments)


def test_what_lies_in_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(b"PK")
    assert f"no images in class folders under {tmp_path} (but faces.zip); expected" in refusal(tmp_path)


# files


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "<s>/<c>/a.png", s=("train", "val", "test"), c=("x", "y"))
    put(tmp_path / "elsewhere" / "b.png")
    (root / "train" / "x" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "x" / "loop").symlink_to(root)
    assert folder.read(root)["train"].counts() == [2, 1]


def test_images_are_listed_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b.png", "a/z.png", "a.png", "a-b/c.JPG", "B.png"]
    for name in names:
        put(tmp_path / name)
    assert [p.relative_to(tmp_path).as_posix() for p in layout.list_images(tmp_path)] == sorted(names)


def test_grey_pixels_are_kept(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(encode(image))
    ((_, name, pixels),) = pictures.read_images([Image(tmp_path / "a.png", "x")], "train", tmp_path, 1, [])
    assert name == "a.png"
    assert np.array_equal(pixels, image)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(layout.os, "scandir", refuse)
    assert refusal(tmp_path) == f"cannot list {tmp_path} (Permission denied); check its permissions"


def test_an_image_with_a_box_is_cut_by_it(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[10:20, 30:40] = 200
    (tmp_path / "a.png").write_bytes(encode(pixels))
    image = Image(tmp_path / "a.png", "x", box=(30, 10, 40, 20))
    split = pictures.load("train", [image], ("x",), 8, 1, tmp_path, [])
    assert np.array_equal(split.images, np.full((1, 8, 8), 200))


@pytest.mark.parametrize(("above", "table"), [("Emotion", ""), ("", "training.csv")])
def test_common_names_alone_are_no_known_dataset(above: str, table: str, tmp_path: Path) -> None:
    tree(tmp_path / above, "<split>/<label>/1.png", split=("train", "val", "test"), label=EMOTIONS)
    if table:
        (tmp_path / table).write_text("filename,emotion\n1.png,happy\n")
    assert {name: len(split) for name, split in folder.read(tmp_path).items()} == dict(train=3, val=3, test=3)
