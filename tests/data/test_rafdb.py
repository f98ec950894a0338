"""RAF-DB as it is distributed, with drawn pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.data import folder, rafdb
from fer.errors import DataError
from fer.labels import EMOTIONS


def distribute(root: Path, home: str = "basic", list_in: str = "EmoLabel", images: str = "Image/aligned") -> Path:
    """Four images of each emotion in train and one in test, in mixed order; the value of an image is its label."""
    lines = []
    for split, count in (("train", 28), ("test", 7)):
        for k in range(count):
            label = k % 7 + 1
            lines.append(f"{split}_{k + 1:05}.jpg {label}\n")
            path = root / home / images / f"{split}_{k + 1:05}_aligned.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((100, 100, 3), 30 * label, np.uint8))
    table = root / home / list_in / "list_patition_label.txt"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(reversed(lines)))
    return root


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"home": "."},
        {"home": "RAF-DB/basic", "images": "Image/aligned/aligned"},
        {"home": ".", "list_in": ".", "images": "aligned"},
    ],
)
def test_every_layout_gives_the_emotions(tmp_path: Path, layout: dict[str, str]) -> None:
    splits = folder.read(distribute(tmp_path, **layout))
    assert {name: split.counts() for name, split in splits.items()} == {
        "train": [3] * 7,
        "val": [1] * 7,
        "test": [1] * 7,
    }
    for split in splits.values():
        assert split.classes == EMOTIONS
        for image, label in zip(split.images, split.labels, strict=True):
            assert rafdb.LABELS[str(round(image.mean() / 30))] == EMOTIONS[label]


def test_folders_of_images_are_not_searched_for_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, scan = [], os.scandir
    for name in ("happy", "sad"):
        (tmp_path / "train" / name).mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scan(path))
    assert rafdb.DATASET.find(tmp_path) is None
    assert set(listed) <= {str(tmp_path)}


def test_the_folder_of_the_list_is_a_root_too(tmp_path: Path) -> None:
    splits = folder.read(distribute(tmp_path) / "basic" / "EmoLabel")
    assert splits["test"].names and splits["test"].names[0].startswith("../Image/aligned/test_0000")


def test_originals_and_other_files_beside_the_aligned_images_are_left_alone(tmp_path: Path) -> None:
    root = distribute(tmp_path)
    original = root / "basic" / "Image" / "original" / "train_00001.jpg"
    original.parent.mkdir()
    original.write_bytes(b"not read")
    (root / "basic" / "Annotation").mkdir()
    assert sum(map(len, folder.read(root).values())) == 35


def test_missing_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = distribute(tmp_path)
    for k in (1, 9):
        (root / "basic" / "Image" / "aligned" / f"train_{k:05}_aligned.jpg").unlink()
    assert sum(map(len, folder.read(root).values())) == 33
    assert "images that it lists and that are missing: 2" in caplog.text


def test_the_images_of_test_alone_can_be_evaluated(tmp_path: Path) -> None:
    root = distribute(tmp_path)
    for path in (root / "basic" / "Image").rglob("train_*"):
        path.unlink()
    assert {name: len(split) for name, split in folder.read(root).items()} == {"test": 7}


def test_images_that_are_still_packed_are_asked_for(tmp_path: Path) -> None:
    root = distribute(tmp_path)
    for path in (root / "basic" / "Image").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of the 35 images .* expected .* unpacked Image/aligned\.zip"):
        folder.read(root)


def test_the_basic_set_is_preferred_and_another_one_is_refused(tmp_path: Path) -> None:
    root = distribute(distribute(tmp_path), home="compound")
    (root / "compound" / "EmoLabel" / "list_patition_label.txt").write_text("train_00001.jpg 11\n")
    assert len(folder.read(root)["test"]) == 7
    with pytest.raises(DataError, match=r"line 1: 'train_00001.jpg 11'; expected .* 1 to 7"):
        folder.read(root / "compound")


def test_the_kaggle_folders_1_to_7_have_the_same_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test"):
        for label in range(1, 8):
            for k in range(3):
                path = tmp_path / "DATASET" / split / str(label) / f"{split}_{label}{k:04}_aligned.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((100, 100, 3), 30 * label, np.uint8))
    test = folder.read(tmp_path)["test"]
    assert [round(image.mean() / 30) for image in test.images[np.argsort(test.labels)][::3]] == [6, 3, 2, 4, 5, 1, 7]
    assert "1 surprise, 2 fear" in caplog.text
