"""Folders of labelled images.

root/{train,val,test}/<class>/…   split folders; a missing val or test is cut from train
root/<class>/<person>/…           no split folders: split by person
root/<session>/<class>/…          split by session; the camera collector writes this layout
root/<class>/…                    split by series (clip_0001.jpg, clip_0002.jpg, …) or, without any, by image

A split by group keeps all images of a person, session or series on one side, so that no model is tested on
the neighbour of a frame it was trained on.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np

from fer import labels
from fer.checks import check_choice, check_number, check_path
from fer.data.base import Split
from fer.errors import DataError
from fer.files import expand
from fer.images import read_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
HIDDEN = (".", "__MACOSX")
"""Prefixes of the names of hidden files and folders."""

_SPLITS = ("train", "val", "test")
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Image:
    path: Path
    label: str
    group: str  # the session or person, "" if no folder names one


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> dict[str, Split]:
    """Read the splits train, val and test from a folder in one of the layouts above.

    Classes are named after their folders, in the order of `fer.labels.order`; an emotion's name and its aliases become
    one class. The level whose folders are named after emotions holds the classes. Without such names it is the
    first level, or the second if all names of the first contain digits (sessions) and none of the second does.
    Images are turned upright (EXIF), cropped to their central square and resized. Rows are in the order of their paths.

    Args:
        root: The folder.
        size: Side of the square images in pixels, 8 to 4096.
        channels: 1 for luma, uint8 (N, size, size), or 3 for RGB, uint8 (N, size, size, 3).
        seed: Decides which groups are cut from train.
        val_fraction, test_fraction: Shares of train's images to cut for a val or test without a folder, as nearly as
            whole groups allow.

    Raises:
        DataError: No labelled images, a class that a split lacks, too few groups, or an unreadable image.
        ConfigError: An argument is out of range.
    """
    check_path("data.root", root, optional=False)
    check_number("data.size", size, 8, 4096, whole=True)
    check_choice("data.channels", channels, (1, 3))
    check_number("seed", seed, whole=True)
    check_number("val_fraction", val_fraction, 0, 1, above=True)
    check_number("test_fraction", test_fraction, 0, 1 - val_fraction, above=True)
    root = expand(root)
    if not root.is_dir():
        raise DataError(f"no folder {root}; set data.root to the folder with train/<class>/ or <class>/")
    root, folders = _split_folders(root)
    images = _labelled(root, folders)
    missing = {n: share for n, share in (("val", val_fraction), ("test", test_fraction)) if n not in images}
    if missing:
        images |= _cut(images["train"], missing, seed, folders["train"])
    classes = labels.order([image.label for image in images["train"]])
    return {name: _load(images[name], classes, size, channels, root) for name in _SPLITS}


def list_images(root: Path) -> list[Path]:
    """Return all images below `root`, by suffix (`IMAGE_SUFFIXES`, any case), sorted by their path with /.

    Links to folders are followed, hidden files and folders are left out. Raises `DataError` if a folder cannot be
    listed.
    """
    images = [Path(folder, name) for folder, _, files in _walk(root) for name in files if is_image(name)]
    return sorted(images, key=lambda path: path.relative_to(root).as_posix())


def is_image(name: str) -> bool:
    """Whether a file is an image according to its name, and not a hidden one, as left by macOS or notebooks."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(HIDDEN)


def load_image(path: Path, name: str, channels: int) -> np.ndarray:
    """Read an image file as uint8 (H, W) luma or (H, W, 3) RGB; see `fer.images`.

    Raises `DataError` with `name`, the path for messages, if that is not possible.
    """
    try:
        image = read_image(path)
    except OSError as error:
        raise DataError(f"{name} is not a readable image ({error.strerror}); repair or delete it") from None
    return image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _load(images: Sequence[_Image], classes: tuple[str, ...], size: int, channels: int, root: Path) -> Split:
    pixels = np.empty((len(images), size, size) if channels == 1 else (len(images), size, size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        pixels[row] = _square(load_image(image.path, str(image.path), channels), size)
    truth = np.array([classes.index(image.label) for image in images], dtype=np.int64)
    return Split(pixels, truth, classes, names=tuple(image.path.relative_to(root).as_posix() for image in images))


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`, but skip hidden folders, and follow links unless they lead to a parent folder."""
    for folder, folders, files in os.walk(root, onerror=_unlistable, followlinks=True):
        here = Path(folder).resolve()
        visible = [name for name in folders if not name.startswith(HIDDEN)]
        folders[:] = sorted(name for name in visible if not here.is_relative_to(Path(folder, name).resolve()))
        yield folder, folders, files


def _unlistable(error: OSError) -> NoReturn:
    raise DataError(f"cannot list {error.filename} ({error.strerror}); check its permissions")


def _folders_in(folder: Path) -> list[Path]:
    return [folder / name for name in next(_walk(folder))[1]]


def _split_folders(root: Path) -> tuple[Path, dict[str, Path]]:
    """Return the root, one level down if it contains a single folder, and the folder of each split.

    Without split folders, train is the root.
    """
    folders = _folders_in(root)
    splits = {name: path for path in reversed(folders) if (name := _split_name(path))}
    if not splits:
        if len(folders) == 1 and any(map(_split_name, _folders_in(folders[0]))):
            return _split_folders(folders[0])  # an archive unpacked into a folder of its own
        return root, {"train": root}
    if "train" not in splits:
        raise DataError(f"{root} has {', '.join(sorted(splits))} but no train; put images in {root}/train/<class>/")
    if ignored := [path.name for path in folders if path not in splits.values() and list_images(path)]:
        _log.warning("%s: not read, since they are no split folders, or a second one: %s", root, ", ".join(ignored))
    return root, splits


def _split_name(path: Path) -> str | None:
    name = _ALIASES.get(path.name.lower(), path.name.lower())
    return name if name in _SPLITS else None


def _labelled(root: Path, folders: dict[str, Path]) -> dict[str, list[_Image]]:
    """Return the images of each split, with class and group from their folders. Every split has every class."""
    paths = {split: list_images(folder) for split, folder in folders.items()}
    files = [(n, path, path.relative_to(folders[n]).parts[:-1]) for n, rows in paths.items() for path in rows]
    above = [parts for _, _, parts in files if parts]
    if not above:
        layouts = f"{root}/train/<class>/*.jpg or {root}/<class>/*.jpg (or {', '.join(IMAGE_SUFFIXES[1:])})"
        raise DataError(f"no images in class folders under {root}; expected {layouts}")
    level = _class_level(above, sessions=folders["train"] == root)
    if stray := [path for _, path, parts in files if len(parts) <= level]:
        _log.warning("not read, since they are in no class folder: %d images, such as %s", len(stray), stray[0])
    images: dict[str, list[_Image]] = {split: [] for split in folders}
    for split, path, parts in files:
        if len(parts) > level:  # folders above the class are sessions, the one below it is a person
            group = "/".join(parts[:level] or parts[level + 1 : level + 2])
            images[split].append(_Image(path, labels.canonical(parts[level]) or parts[level], group))
    classes = {image.label for rows in images.values() for image in rows}
    if level == 0:  # then a folder without images is a class, too
        names = [path.name for folder in folders.values() for path in _folders_in(folder)]
        classes |= {labels.canonical(name) or name for name in names}
    for split, rows in images.items():
        if absent := ", ".join(labels.order(list(classes - {image.label for image in rows}))):
            raise DataError(f"{folders[split]} has no image of {absent}; add some, or delete the class everywhere")
    if len(classes) < 2:
        raise DataError(f"only one class under {folders['train']} ({classes.pop()}); add a folder for another")
    return images


def _class_level(folders: Sequence[tuple[str, ...]], sessions: bool) -> int:
    """Return the number of folders above the class folders; see `read`."""
    emotions = Counter(n for parts in folders for n, name in enumerate(parts) if labels.canonical(name))
    if emotions:
        return max(sorted(emotions), key=lambda level: emotions[level])
    digit = re.compile(r"\d")
    numbered = all(len(p) > 1 and digit.search(p[0]) and not digit.search(p[1]) for p in folders)
    return 1 if sessions and numbered else 0


def _cut(images: list[_Image], missing: dict[str, float], seed: int, folder: Path) -> dict[str, list[_Image]]:
    """Cut the missing splits from train, in whole groups. Return them and the rest of train."""
    names = ["train", *missing]
    classes, truth = np.unique([image.label for image in images], return_inverse=True)
    shares = np.array([1 - sum(missing.values()), *missing.values()])
    # clip_0001.jpg and clip_0002.jpg are frames of one clip, whatever their classes
    series = [re.sub(r"[\s_.(-]*\d+\)?$", "", image.path.stem) for image in images]
    grouped = [image.group or name or str(image.path) for image, name in zip(images, series, strict=True)]
    alone = [image.group or str(image.path) for image in images]
    foldered = all(image.group for image in images)
    for kind, keys in [("groups", grouped)] if foldered else [("groups", grouped), ("images", alone)]:
        groups, group = np.unique(keys, return_inverse=True)
        counts = np.zeros((len(groups), len(classes)), dtype=np.int64)
        np.add.at(counts, (group, truth), 1)
        dealt = _deal(counts, shares, np.random.default_rng(seed))
        if dealt is None:
            continue
        _log.info("%s: %s cut from train by %d %s", folder, " and ".join(missing), len(groups), kind)
        if not foldered and 2 * len(groups) > len(images):
            fix = "give each session or person a folder of its own, or make train, val and test folders"
            _log.warning("%s: frames of one video may end up on both sides and flatter the scores; %s", folder, fix)
        part = dealt[group]
        return {name: [images[row] for row in np.flatnonzero(part == k)] for k, name in enumerate(names)}
    within = np.count_nonzero(counts, axis=0)
    scarce = f"{str(classes[within.argmin()])!r} is in {within.min()} of them"
    what = f"cannot cut {' and '.join(missing)} from {len(groups)} {kind} with every class in each ({scarce})"
    raise DataError(f"{folder}: {what}; add a session or a person, or make train, val and test folders")


def _deal(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Assign groups to splits so that each split has every class and nearly its share of each.

    The best of many random orders is kept.

    Args:
        counts: (G, K) images of each class in each group.
        shares: (S,) share of each split, train first.
        rng: Gives the orders.

    Returns:
        (G,) the split of each group, or None if no assignment gives every split every class.
    """
    if (np.count_nonzero(counts, axis=0) < len(shares)).any():
        return None
    target = shares[:, None] * counts.sum(axis=0)
    scale = counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(max(1, min(64, 100_000 // len(counts)))):
        dealt, part = np.zeros_like(target), np.empty(len(counts), dtype=np.int64)
        for group in rng.permutation(len(counts)):
            new = ((dealt == 0) & (counts[group] > 0)).sum(axis=1)  # classes that the split would gain
            need = ((target - dealt) * counts[group] / scale).sum(axis=1)
            part[group] = np.lexsort((need, new))[-1]
            dealt[part[group]] += counts[group]
        miss = (((dealt - target) / scale) ** 2).sum()
        if (dealt > 0).all() and miss < least:
            best, least = part, miss
    return best
