"""Tiny copies of datasets as they are distributed. The red value of a picture, divided by 20, tells its class."""

import csv
from collections.abc import Callable
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from fer.data.votes import COLUMNS

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")


def shade(label: str) -> int:
    return 20 * CLASSES.index(label) + 20


def put(path: Path, label: str, shape: tuple[int, int] = (48, 48)) -> Path:
    """A picture of a class, with a few pixels that make it one of its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*shape, 3), shade(label), np.uint8)
    noise = np.random.default_rng(next(_numbers))
    image[:4, :4] += noise.integers(0, 5, (4, 4, 1), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


_numbers = count()


def rafdb(root: Path, train: int = 6, test: int = 3) -> Path:
    lines = []
    names = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
    for split, number in (("train", train), ("test", test)):
        for k in range(7 * number):
            lines.append(f"{split}_{k + 1:05}.jpg {k % 7 + 1}\n")
            put(root / "Image" / "aligned" / f"{split}_{k + 1:05}_aligned.jpg", names[k % 7], (100, 100))
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines))
    return root


def ferplus(root: Path) -> Path:
    """In each split, an image of each of eight classes three times, and one on which the taggers disagree."""
    names = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    for split in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        rows = []
        for k in range(25):
            votes = [0] * len(COLUMNS)
            votes[k % 8] = 6 if k < 24 else 4
            file = f"fer{next(_numbers):07}.png"
            rows.append([file, "(0, 0, 48, 48)", *votes])
            put(root / split / file, names[k % 8])
        with (root / split / "label.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    return root


AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")


def affectnet(root: Path, train: int = 6, val: int = 3) -> Path:
    """The release: tables, and images in numbered folders. There is one each of 8, 9 and 10, which are no classes."""
    for name, number in (("training", train), ("validation", val)):
        rows = [["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression", "valence"]]
        for k in range(8 * number + 3):
            label = k % 8 if k < 8 * number else k - 8 * number + 8
            file = f"{k % 3}/{name}{k:x}.{'JPG' if k % 2 else 'jpg'}"
            put(root / "Manually_Annotated_Images" / file, AFFECTNET[k % 8], (60, 60))
            box = ["NULL"] * 4 if label == 10 else [5, 5, 50, 50]
            rows.append([file, *map(str, box), str(label), "0.1"])
        with (root / f"{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    return root


def affectnet_annotations(root: Path) -> Path:
    for split, number in (("train_set", 6), ("val_set", 3)):
        (root / split / "annotations").mkdir(parents=True)
        for k in range(8 * number):
            put(root / split / "images" / f"{k}.jpg", AFFECTNET[k % 8])
            np.save(root / split / "annotations" / f"{k}_exp.npy", str(k % 8))
            np.save(root / split / "annotations" / f"{k}_val.npy", "0.5")
    return root


def affectnet_folders(root: Path) -> Path:
    for split, number in (("train_class", 6), ("val_class", 3)):
        for k in range(8 * number):
            put(root / split / str(k % 8) / f"image{k:07}.jpg", AFFECTNET[k % 8])
    return root


CKPLUS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")


def ckplus(root: Path, people: int = 9) -> Path:
    """The class folders of CK+48: three frames of each sequence. Everybody shows everything."""
    folders = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
    for person in range(people):
        for sequence, folder in enumerate(folders, 1):
            for frame in range(3):
                put(root / folder / f"S{person + 5:03}_{sequence:03}_{frame + 11:08}.png", CKPLUS[sequence])
    return root


def ckplus_release(root: Path, people: int = 9) -> Path:
    for person in range(people):
        for label in range(1, 8):
            folder = Path(f"S{person + 5:03}") / f"{label:03}"
            stem = f"S{person + 5:03}_{label:03}_"
            for frame in range(1, 7):
                put(root / "cohn-kanade-images" / folder / f"{stem}{frame:08}.png", CKPLUS[label if frame > 3 else 0])
            (root / "Emotion" / folder).mkdir(parents=True)
            (root / "Emotion" / folder / f"{stem}{6:08}_emotion.txt").write_text(f"   {label}.0000000e+00\n")
    return root


def expw(root: Path, images: int = 40) -> Path:
    """Two faces in each image, side by side."""
    lines = []
    for k in range(images):
        labels = (k % 7, (k + 1) % 7)
        left, right = (np.full((60, 60, 3), shade(CLASSES[label]), np.uint8) for label in labels)
        left[:4, :4] += np.uint8(k % 20)
        right[:4, :4] += np.uint8(k % 19)
        path = root / "image" / "origin" / f"angry_actor_{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.hstack([left, right]))
        for face, label in enumerate(labels):
            lines.append(f"{path.name} {face} 0 {60 * face} {60 * face + 60} 60 22.9 {label}\n")
    (root / "label").mkdir()
    (root / "label" / "label.lst").write_text("".join(lines))
    return root


def listed(root: Path) -> Path:
    """faces.csv with splits, boxes and persons beside its images."""
    rows = ["path,label,split,x1,y1,x2,y2,group"]
    for split, number in (("train", 4), ("val", 2), ("test", 2)):
        for k in range(3 * number):
            label = CLASSES[k % 3 + 3]
            path = put(root / "pictures" / split / f"{k}.png", label, (60, 80))
            rows.append(f"{path.relative_to(root)},{label},{split},10,0,70,60,{split}{k % 2}")
    root.mkdir(parents=True, exist_ok=True)
    (root / "faces.csv").write_text("\n".join(rows))
    return root


COPIES: dict[str, Callable[[Path], Path]] = {
    "rafdb": rafdb,
    "ferplus": ferplus,
    "affectnet": affectnet,
    "ckplus": ckplus,
    "expw": expw,
    "listed": listed,
}
"""By the names of their configs."""
