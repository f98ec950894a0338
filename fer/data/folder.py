"""Folders of labelled images, as people have them, to splits.

root/{train,val,test}/<class>/…   split folders; a missing val or test is cut from train
root/<class>/<person>/…           no split folders: split by person
root/<session>/<class>/…          the same by session; this is what the camera collector writes
root/<class>/…                    the same by series (clip_0001.jpg, clip_0002.jpg, …), else by image

A split by group keeps all images of a person, session or series on one side, so that no model is tested on
the neighbour of a frame it was trained on.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fer import labels
from fer.data.base import Split, empty
from fer.errors import DataError
from fer.files import expand
from fer.files import read as contents
from fer.values import CHANNELS, SIZE, number

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_SPLITS = ("train", "val", "test")
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_TRIALS = 64
_LARGEST = 1 << 30
"""Bytes of an image file: more than 250 million pixels, the most that OpenCV is to take, have without compression."""
_DEEPEST, _MOST = 64, 300_000
"""Levels and number of folders: far more than datasets have, and an end to links that lead to links."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Image:
    path: Path
    label: str
    group: str  # the session or person, "" where no folder tells


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> dict[str, Split]:
    """Read the splits train, val and test from a folder in one of the layouts above.

    Classes are the folder names in the order of `fer.labels.order`; an emotion's name and its aliases become
    one class, all others stay as they are. Names of emotions tell which folder level holds the classes;
    without any it is the first, or the second where all names of the first hold digits (sessions) and none
    of the second does. Images are turned upright (EXIF), cut to their central square and resized to `size`.
    `channels` 1 gives uint8 (N, size, size) luma, 3 gives (N, size, size, 3) RGB; labels are int64 (N,). A
    val or test that has no folder is cut from train by `seed`: the given fractions of its images, as nearly
    as whole groups allow. Rows are in the order of their paths.

    Raises `DataError` for a root without labelled images, a class that a split lacks, too few groups to cut
    from, an image that cannot be read, and arguments that cannot work.
    """
    _check_arguments(size, channels, seed, val_fraction, test_fraction)
    place, folders = _split_folders(_checked_root(expand(root)))
    parts = _labelled(place, folders)
    fractions = {"val": val_fraction, "test": test_fraction}
    missing = {name: fraction for name, fraction in fractions.items() if name not in parts}
    if missing:
        parts |= _cut(parts["train"], missing, seed, folders["train"])
    classes = labels.order([image.label for image in parts["train"]])
    return {name: _load(parts[name], classes, size, channels, place) for name in _SPLITS}


def list_images(root: Path) -> list[Path]:
    """All images below `root`, by suffix (`IMAGE_SUFFIXES`, any case), in the order of their paths with /.

    Links to folders are followed, loops of them are not; hidden files and folders are left out. Raises
    `DataError` where a folder cannot be listed, and where folders are nested as no dataset's are.
    """
    return sorted(_walk(root), key=lambda path: path.relative_to(root).as_posix())


def image_file(path: Path) -> bytes:
    """The bytes of an image file. Raises `DataError` where it cannot be read, is too large, or is a pipe or device."""
    try:
        return contents(path, _LARGEST)
    except OSError as error:
        raise DataError(f"{path} is not a readable image ({error.strerror}); take it away") from None


def decode_grey(data: bytes, name: str) -> np.ndarray:
    """An image file's bytes → uint8 (H, W) luma. Raises `DataError` with `name` where they are no image."""
    return decode(data, name, channels=1)


def decode(data: bytes | np.ndarray, name: str, channels: int) -> np.ndarray:
    """An image file's bytes, turned upright by their EXIF entry → uint8 (H, W) luma, or (H, W, 3) RGB.

    Raises `DataError` with `name`, which says what file they are, where they are no image, or one of more than 250
    million pixels.
    """
    # OpenCV would print lines of its own about a broken file
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # found in the file's header, before any pixel is decoded
            raise DataError(f"{name} claims more pixels than any camera has; make it smaller") from None
        image = None
    finally:
        cv2.utils.logging.setLogLevel(before)
    if image is None:
        raise DataError(f"{name} is not a readable image; mend it or take it away")
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2RGB)


def _load(images: Sequence[_Image], classes: tuple[str, ...], size: int, channels: int, root: Path) -> Split:
    pixels = empty(len(images), size, channels)
    for row, image in enumerate(images):  # by their bytes, since cv2.imread cannot open every non-ASCII path
        pixels[row] = _square(decode(image_file(image.path), str(image.path), channels), size)
    truth = np.array([classes.index(image.label) for image in images], dtype=np.int64)
    names = tuple(image.path.relative_to(root).as_posix() for image in images)
    return Split(pixels, truth, classes, names=names)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def _check_arguments(size: int, channels: int, seed: int, val_fraction: float, test_fraction: float) -> None:
    if not SIZE(size):
        raise DataError(f"data.size must be 8 pixels or more, up to 4096, not {size}")
    if not number(0, whole=True)(seed):
        raise DataError(f"seed must be 0 or more, not {seed}")
    if not CHANNELS(channels):
        raise DataError(f"data.channels must be 1 (grey) or 3 (RGB), not {channels}")
    shares = number(0, 1)(val_fraction) and number(0, 1)(test_fraction)
    if not (shares and val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
        given = f"val_fraction={val_fraction} and test_fraction={test_fraction}"
        raise DataError(f"{given} must be above 0 and add up to less than 1")


def _checked_root(root: Path) -> Path:
    if root.is_file():
        raise DataError(f"{root} is a file; unpack it and set data.root to the folder with train/<class>/")
    if not root.is_dir():
        raise DataError(f"no folder {root}; set data.root to the folder with train/<class>/ or <class>/")
    return root


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, without what macOS, git and notebooks hide in it."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        raise DataError(f"cannot list {folder} ({error.strerror}); check its permissions") from None
    return sorted(entries, key=lambda entry: entry.name)


def _walk(root: Path) -> Iterator[Path]:
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(root, (root.resolve(),))]
    count = 0
    while waiting:
        folder, above = waiting.pop()
        count += 1
        if len(above) > _DEEPEST or count > _MOST:
            what = f"more than {_MOST} folders" if count > _MOST else f"folders nested more than {_DEEPEST} deep"
            raise DataError(f"{root} has {what}; set data.root to the folder with train/<class>/ or <class>/")
        for entry in _entries(folder):
            path = Path(entry.path)
            if _is_folder(entry):
                real = path.resolve()
                if not any(parent.is_relative_to(real) for parent in above):  # a link back to where it hangs
                    waiting.append((path, (*above, real)))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _folders_in(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _split_folders(root: Path) -> tuple[Path, dict[str, Path]]:
    """The root, one level down where all is in a single folder, and the folder of each split that has one.

    Without split folders all is train.
    """
    folders = _folders_in(root)
    if len(folders) == 1 and not _split_name(folders[0]) and any(map(_split_name, _folders_in(folders[0]))):
        return _split_folders(folders[0])  # an archive unpacked into a folder of its own
    found: dict[str, Path] = {}
    for path in folders:
        name = _split_name(path)
        if name in found:
            raise DataError(f"{found[name]} and {path} are both {name}; move all images into one of them")
        if name is not None:
            found[name] = path
    if not found:
        return root, {"train": root}
    if "train" not in found:
        raise DataError(f"{root} has {', '.join(found)} but no train; put images in {root}/train/<class>/")
    ignored = [path.name for path in folders if _split_name(path) is None and list_images(path)]
    if ignored:
        _log.warning("%s: not read, since they are in no split folder: %s", root, ", ".join(ignored))
    return root, found


def _split_name(path: Path) -> str | None:
    name = _ALIASES.get(path.name.lower(), path.name.lower())
    return name if name in _SPLITS else None


def _labelled(place: Path, folders: dict[str, Path]) -> dict[str, list[_Image]]:
    """The images of each split with what their folders say; every split has every class."""
    files = {name: list_images(folder) for name, folder in folders.items()}
    above = {name: [p.relative_to(folders[name]).parent.parts for p in files[name]] for name in files}
    every = [parts for rows in above.values() for parts in rows]
    if not any(every):
        what = "images in class folders" if every else "images"
        layouts = f"{place}/train/<class>/*.jpg or {place}/<class>/*.jpg"
        raise DataError(f"no {what} under {place}; expected {layouts} (or {', '.join(IMAGE_SUFFIXES[1:])})")
    level = _class_level([parts for parts in every if parts], sessions=folders["train"] == place)
    stray = [p for name in files for p, up in zip(files[name], above[name], strict=True) if len(up) <= level]
    if stray:
        _log.warning("not read, since they are in no class folder: %d images, such as %s", len(stray), stray[0])
    parts: dict[str, list[_Image]] = {}
    for name, paths in files.items():
        rows = [(path, up) for path, up in zip(paths, above[name], strict=True) if len(up) > level]
        # what lies above the class is a session, what lies below it a person
        parts[name] = [
            _Image(path, _class(up[level]), "/".join(up[:level] or up[level + 1 : level + 2])) for path, up in rows
        ]
    classes = {image.label for images in parts.values() for image in images}
    if level == 0:  # then a folder without images is a class, too
        classes |= {_class(path.name) for folder in folders.values() for path in _folders_in(folder)}
    _check_classes(parts, labels.order(list(classes)), folders)
    return parts


def _class(name: str) -> str:
    return labels.canonical(name) or name


def _class_level(folders: Sequence[tuple[str, ...]], sessions: bool) -> int:
    """How many folders lie above the classes; see `read`."""
    emotions = [
        sum(len(parts) > level and labels.canonical(parts[level]) is not None for parts in folders)
        for level in range(max(map(len, folders)))
    ]
    if any(emotions):
        return emotions.index(max(emotions))
    digit = re.compile(r"\d")
    numbered = all(len(p) > 1 and digit.search(p[0]) and not digit.search(p[1]) for p in folders)
    return 1 if sessions and numbered else 0


def _check_classes(parts: dict[str, list[_Image]], classes: tuple[str, ...], folders: dict[str, Path]) -> None:
    for name, images in parts.items():
        if not images:
            raise DataError(f"{folders[name]} holds no images in class folders; fill it or delete it")
        empty = set(classes) - {image.label for image in images}
        if empty:
            what = f"an empty class: {folders[name]} has no image of {', '.join(labels.order(list(empty)))}"
            raise DataError(f"{what}; add some, or delete the class everywhere")
    if len(classes) < 2:
        raise DataError(f"only one class under {folders['train']} ({classes[0]}); add a folder for another")


def _cut(images: list[_Image], missing: dict[str, float], seed: int, place: Path) -> dict[str, list[_Image]]:
    """Take the missing splits out of train, in whole groups; returns them and what stays."""
    names = ["train", *missing]
    classes = sorted({image.label for image in images})
    truth = np.array([classes.index(image.label) for image in images])
    shares = np.array([1 - sum(missing.values()), *missing.values()])
    for kind, keys in _groupings(images):
        groups, group = np.unique(keys, return_inverse=True)
        counts = np.zeros((len(groups), len(classes)), dtype=np.int64)
        np.add.at(counts, (group, truth), 1)
        dealt = _deal(counts, shares, np.random.default_rng(seed))
        if dealt is None:
            continue
        _log.info("%s: %s cut from train by %d %s", place, " and ".join(missing), len(groups), kind)
        if kind != "groups" and 2 * len(groups) > len(images):
            fix = "give each session or person a folder of its own, or make train, val and test folders"
            _log.warning("%s: frames of one video may end up on both sides and flatter the scores; %s", place, fix)
        part = dealt[group]
        return {name: [images[row] for row in np.flatnonzero(part == k)] for k, name in enumerate(names)}
    within = np.count_nonzero(counts, axis=0)
    scarce = f"{classes[within.argmin()]!r} is in {within.min()} of them"
    what = f"cannot cut {' and '.join(missing)} from {len(groups)} {kind} with every class in each ({scarce})"
    raise DataError(f"{place}: {what}; add a session or a person, or make train, val and test folders")


def _groupings(images: list[_Image]) -> Iterator[tuple[str, list[str]]]:
    """What the groups can be, the safest first, each with the group of every image."""
    if all(image.group for image in images):
        yield "groups", [image.group for image in images]
        return
    # clip_0001.jpg and clip_0002.jpg are frames of one clip, whatever their classes
    series = [re.sub(r"[\s_.(-]*\d+\)?$", "", image.path.stem) for image in images]
    alone = [image.group or str(image.path) for image in images]
    named = [image.group or name or own for image, name, own in zip(images, series, alone, strict=True)]
    yield "series", named
    yield "images", alone


def _deal(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Deal groups out to splits so that each split has every class, and nearly its share of it.

    counts: (G, K) images of each class in each group. shares: (S,) of each split, the first being train.
    Returns (G,) the split of each group, None where no way was found. Of many seeded orders, the best.
    """
    if (np.count_nonzero(counts, axis=0) < len(shares)).any():
        return None
    target = shares[:, None] * counts.sum(axis=0)
    scale = counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(max(1, min(_TRIALS, 100_000 // len(counts)))):
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
