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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import cv2
import numpy as np

from fer import labels
from fer.checks import check_choice, check_number, check_path
from fer.data import rafdb
from fer.data.base import Split
from fer.data.groups import Image, cut
from fer.errors import DataError
from fer.files import expand
from fer.images import count_frames, is_image, is_side_file, read_image

HIDDEN = (".", "__MACOSX")
"""Prefixes of the names of hidden files and folders."""

SPLITS = ("train", "val", "test")
_ALIASES = {
    **{"training": "train", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "testing": "test"},
    **{"publictest": "val", "privatetest": "test"},  # of FER-2013
}
_log = logging.getLogger(__name__)


class Unreadable(NamedTuple):
    """A file that cannot be read as an image: its split, its path below the root, its class, and why not."""

    split: str
    file: str
    label: str
    reason: str


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    unreadable: list[Unreadable] | None = None,
) -> dict[str, Split]:
    """Read the splits train, val and test from a folder in one of the layouts above.

    Without a train folder, only the splits that exist are returned: they can be evaluated.

    Classes are named after their folders, see `fer.labels.unify`, in the order of `fer.labels.order`. The level whose
    folders are named after emotions holds the classes. Without such names it is the first level, or the second if all
    names of the first contain digits (sessions) and none of the second does. What is an image is decided by content.
    Images are turned upright (EXIF), cropped to their central square and resized. Rows are in the order of their paths.
    Files that are not read are counted in warnings.

    Args:
        root: The folder.
        size: Side of the square images in pixels, 8 to 4096.
        channels: 1 for luma, uint8 (N, size, size), or 3 for RGB, uint8 (N, size, size, 3).
        seed: Decides which groups are cut from train.
        val_fraction, test_fraction: Shares of train's images to cut for a val or test without a folder, as nearly as
            whole groups allow.
        unreadable: Files that cannot be read are added here and left out, instead of an error.

    Raises:
        DataError: No labelled images, a class that a split lacks, too few groups, or unreadable images.
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
    root, folders, images = _find(root)
    _check_classes(images, folders)
    missing = {n: share for n, share in (("val", val_fraction), ("test", test_fraction)) if n not in images}
    if missing and "train" in images:
        images |= cut(images["train"], missing, seed, folders["train"])
    classes = labels.order([image.label for rows in images.values() for image in rows])
    broken: list[Unreadable] = []
    splits = {
        name: _load(name, images[name], classes, size, channels, root, broken) for name in SPLITS if name in images
    }
    if unreadable is not None:
        unreadable += broken
    elif broken:
        raise DataError(refusal(broken, root))
    return splits


def _find(root: Path) -> tuple[Path, dict[str, Path], dict[str, list[Image]]]:
    """Return the folder that holds the dataset, and the folder and the images of each split that is there."""
    if table := rafdb.find(root):
        listed = rafdb.read(table).items()
        images = {split: [Image(path, label) for path, label in rows] for split, rows in listed}
        return root, dict.fromkeys(images, root), images
    root, folders = split_folders(root)
    folders = folders or {"train": root}
    return root, folders, labelled(root, folders)


def list_images(root: Path) -> list[Path]:
    """Return all images below `root`, by content, sorted by their path with /; see `list_files`."""
    return [path for path in list_files(root) if is_image(path)]


def list_files(root: Path) -> list[Path]:
    """Return all files below `root`, sorted by their path with /.

    Links to folders are followed, hidden files and folders are left out. Raises `DataError` if a folder cannot be
    listed.
    """
    files = [Path(folder, name) for folder, _, names in _walk(root) for name in names if not name.startswith(HIDDEN)]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def load_image(path: Path, channels: int) -> np.ndarray:
    """Read an image file as uint8 (H, W) luma or (H, W, 3) RGB; see `fer.images`. Raises `OSError`."""
    image = read_image(path)
    return image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def refusal(unreadable: Sequence[Unreadable], root: str | Path) -> str:
    """Return the message that counts unreadable files of the dataset `root`."""
    first = f"{root}/{unreadable[0].file}"
    if len(unreadable) == 1:
        return f"{first} is not a readable image ({unreadable[0].reason}); repair or delete it"
    what = f"{len(unreadable)} files are not readable images, such as {first} ({unreadable[0].reason})"
    return f"{what}; python -m fer.data.audit {root} lists all; repair or delete them"


def _load(
    split: str,
    images: Sequence[Image],
    classes: tuple[str, ...],
    size: int,
    channels: int,
    root: Path,
    unreadable: list[Unreadable],
) -> Split:
    pixels = np.empty((len(images), size, size) if channels == 1 else (len(images), size, size, 3), dtype=np.uint8)
    read: list[Image] = []
    for image in images:
        try:
            pixels[len(read)] = _square(load_image(image.path, channels), size)
            read.append(image)
        except OSError as error:
            name = image.path.relative_to(root).as_posix()
            unreadable.append(Unreadable(split, name, image.label, error.strerror or str(error)))
    truth = np.array([classes.index(image.label) for image in read], dtype=np.int64)
    names = tuple(image.path.relative_to(root).as_posix() for image in read)
    return Split(pixels[: len(read)], truth, classes, names=names)


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


def split_name(name: str) -> str | None:
    """Return the split (train, val or test) that a folder or a table's cell names, None if no split."""
    word = re.sub(r"[\W_]*(set|data|images)?$", "", labels.key(name))
    word = _ALIASES.get(word, word)
    return word if word in SPLITS else None


def split_folders(root: Path, name: str | None = None) -> tuple[Path, dict[str, Path]]:
    """Return the folder that holds split folders, `root` or one below it, and the folder of each split.

    Folders with images beside them are named in a warning, with `name` as the dataset's. Without split folders the
    second is empty.

    Raises:
        DataError: Several folders in `root` hold split folders.
    """
    home = find_splits(root)
    if home is None:
        return root, {}
    splits = {split: path for path in reversed(_folders_in(home)) if (split := split_name(path.name))}
    beside = [path for path in _folders_in(root) if not home.is_relative_to(path)] if home != root else []
    beside += [path for path in _folders_in(home) if path not in splits.values()]
    if ignored := [path.name for path in beside if list_images(path)]:
        _log.warning(
            "%s: not read, since they are no split folders, or a second one: %s", name or home, ", ".join(ignored)
        )
    files = [path for path in sorted(home.iterdir()) if path.is_file() and not path.name.startswith(HIDDEN)]
    _report("in no class folder", [path for path in files if is_image(path)], root, name or str(root))
    return home, splits


def find_splits(root: Path) -> Path | None:
    """Return the folder with split folders: `root`, an only folder's, or the one of several in it; None without."""
    folders = _folders_in(root)
    if any(split_name(path.name) for path in folders):
        return root
    if len(folders) == 1:  # an archive unpacked into a folder of its own
        return find_splits(folders[0])
    homes = [path for path in folders if len({split_name(each.name) for each in _folders_in(path)} - {None}) > 1]
    homes = [path for path in homes if len(homes) == 1 or list_images(path)]  # not those of labels in text files
    if len(homes) > 1:
        names = " and ".join(path.name for path in homes)
        fix = "set data.root to one of them, or put train, val and test above the classes"
        raise DataError(f"{root} has split folders in {names}; {fix}")
    return homes[0] if homes else None


def labelled(root: Path, folders: dict[str, Path], name: str | None = None) -> dict[str, list[Image]]:
    """Return the images of each split, with class and group from their folders.

    Args:
        root: The folder of the dataset.
        folders: The folder of each split.
        name: Of the dataset, for messages; None for the path of `root`.

    Raises:
        DataError: No images in class folders, or a class without any.
    """
    name = name or str(root)
    rows: list[tuple[str, Path, tuple[str, ...]]] = []  # split, image, and its folders below the split's
    others: list[Path] = []
    for split, folder in folders.items():
        for path in list_files(folder):
            if is_image(path):
                rows.append((split, path, path.relative_to(folder).parts[:-1]))
            elif not is_side_file(path):
                others.append(path)
    above = [parts for *_, parts in rows if parts]
    _report("no images", others, root, name)
    if several := [path for _, path, _ in rows if _has_several(path)]:
        what = f"{len(several)} image{'s' if len(several) > 1 else ''} of several frames or pages"
        _log.warning(
            "%s: only the first is read of %s, such as %s", name, what, several[0].relative_to(root).as_posix()
        )
    if not above:
        raise DataError(f"no images in class folders under {name}; expected {name}/train/<class>/* or {name}/<class>/*")
    level = _class_level(above, sessions=root in folders.values())
    _report("in no class folder", [path for _, path, parts in rows if len(parts) <= level], root, name)
    rows = [row for row in rows if len(row[2]) > level]
    found = {parts[level] for *_, parts in rows}
    if level == 0:  # then a folder without images is a class, too
        found |= {path.name for folder in folders.values() for path in _folders_in(folder)}
    classes = _classes(found, rows[0][1])
    images: dict[str, list[Image]] = {split: [] for split in folders}
    for split, path, parts in rows:  # folders above the class are sessions, the one below it is a person
        group = "/".join(parts[:level] or parts[level + 1 : level + 2])
        images[split].append(Image(path, classes[parts[level]], group))
    if empty := set(classes.values()) - {image.label for each in images.values() for image in each}:
        absent = ", ".join(labels.order(list(empty)))
        raise DataError(f"{name} has no image of {absent}; add some, or delete the class everywhere")
    return images


def _has_several(path: Path) -> bool:
    with suppress(OSError):  # it is reported when it is read
        return count_frames(path) > 1
    return False


def _report(what: str, files: Sequence[Path], root: Path, name: str) -> None:
    """Count files that are not read in a warning."""
    if files:
        count = f"{len(files)} file{'s are' if len(files) > 1 else ' is'} {what} and not read"
        _log.warning("%s: %s, such as %s", name, count, files[0].relative_to(root).as_posix())


def _classes(names: set[str], example: Path) -> dict[str, str]:
    """Return the class of each folder name. Bare numbers are explained in a line."""
    classes = labels.unify(names)
    if {name.strip() for name in names} == set(rafdb.LABELS) and example.stem.endswith("_aligned"):
        classes = {name: rafdb.LABELS[name.strip()] for name in names}
    if all(name.strip().isdecimal() for name in names):
        known = set(classes.values()) <= set(labels.EMOTIONS)
        read = ", ".join(f"{name} {classes[name]}" for name in sorted(names)) if known else "classes of their own"
        fix = "if they are others, rename the folders" if known else "rename the folders if they are emotions"
        _log.warning("the class folders have numbers for names and are read as %s; %s", read, fix)
    return classes


def _check_classes(images: dict[str, list[Image]], folders: dict[str, Path]) -> None:
    """Check that there are two classes and, if train is one of the splits, that every split has every class."""
    classes = {image.label for rows in images.values() for image in rows}
    for split, rows in images.items():
        absent = ", ".join(labels.order(list(classes - {image.label for image in rows})))
        if absent and ("train" in images or not rows):
            raise DataError(f"{folders[split]} has no image of {absent}; add some, or delete the class everywhere")
    if len(classes) < 2:
        folder = next(iter(folders.values()))
        raise DataError(f"only one class under {folder} ({classes.pop()}); add a folder for another")


def _class_level(folders: Sequence[tuple[str, ...]], sessions: bool) -> int:
    """Return the number of folders above the class folders; see `read`."""
    emotions = Counter(n for parts in folders for n, name in enumerate(parts) if labels.canonical(name))
    if emotions:
        return max(sorted(emotions), key=lambda level: emotions[level])
    levels = [{parts[level] for parts in folders} for level in range(min(map(len, folders)))]
    if numbers := [level for level, names in enumerate(levels) if names == set(map(str, range(7)))]:
        return numbers[0]
    digit = re.compile(r"\d")
    numbered = all(len(p) > 1 and digit.search(p[0]) and not digit.search(p[1]) for p in folders)
    return 1 if sessions and numbered else 0
