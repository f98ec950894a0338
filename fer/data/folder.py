"""Folders of labelled images.

root/{train,val,test}/<class>/…   split folders; a missing val or test is cut from train. Also one folder deeper, and
                                  under other names, such as Training, validation, PublicTest
root/<class>/<person>/…           no split folders: split by person
root/<session>/<class>/…          split by session; the camera collector writes this layout
root/<class>/…                    split by series (clip_0001.jpg, clip_0002.jpg, …) or, without any, by image
others                            as they are distributed, see `DATASETS`

A split by group keeps all images of a person, session or series on one side, so that no model is tested on
the neighbour of a frame it was trained on.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer import labels
from fer.checks import check_choice, check_number, check_path
from fer.data import affectnet, ckplus, expw, ferplus, layout, listed, pictures, rafdb
from fer.data.base import Split, Unreadable
from fer.data.groups import Image, cut
from fer.data.listing import Dataset
from fer.errors import ConfigError, DataError
from fer.files import expand

DATASETS: dict[str, Dataset] = {
    "rafdb": rafdb.DATASET,
    "ferplus": ferplus.DATASET,
    "affectnet": affectnet.DATASET,
    "ckplus": ckplus.DATASET,
    "expw": expw.DATASET,
    "listed": listed.DATASET,
}
"""By the names of their configs."""

_log = logging.getLogger(__name__)


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    unreadable: list[Unreadable] | None = None,
    dataset: str | None = None,
    crop: str | None = None,
    leave_out: Sequence[str] = (),
    **options: Any,
) -> dict[str, Split]:
    """Read the splits train, val and test from a folder in one of the layouts above.

    Without a train folder, only the splits that exist are returned: they can be evaluated.

    Classes are named after their folders, see `fer.labels.unify`, in the order of `fer.labels.order`. The level whose
    folders are named after emotions holds the classes. Without such names it is the first level, or the second if all
    names of the first contain digits (sessions) and none of the second does. What is an image is decided by content.
    Images are turned upright (EXIF), cut to their box, to their central square or to their face (`crop`), and resized.
    Rows are in the order of their paths, or of the list. Files that are not read are counted in warnings.

    Args:
        root: The folder, or the file of a list.
        size: Side of the square images in pixels, 8 to 4096.
        channels: 1 for luma, uint8 (N, size, size), or 3 for RGB, uint8 (N, size, size, 3).
        seed: Decides which groups are cut from train.
        val_fraction, test_fraction: Shares of train's images to cut for a val or test without a folder, as nearly as
            whole groups allow.
        unreadable: Files that cannot be read are added here and left out, instead of an error.
        dataset: One of `DATASETS`, which says what numbered folders mean; None to recognise it by its files.
        crop: "auto" to search each picture without a box for its face and to cut that out as inference does, see
            `fer.data.crop`; None for the central square.
        leave_out: Classes whose images are not read.
        options: Of the dataset; see `fer.data.listed`.

    Raises:
        DataError: No labelled images, a class that a split lacks, too few groups, or unreadable images.
        ConfigError: An argument is out of range.
    """
    _check_arguments(size, channels, seed, val_fraction, test_fraction)  # before the files are searched
    root, images = _find("data.root", root, dataset, options)
    return assemble(images, root, size, channels, seed, val_fraction, test_fraction, unreadable, crop, leave_out)


def assemble(
    images: dict[str, list[Image]],
    root: Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    unreadable: list[Unreadable] | None = None,
    crop: str | None = None,
    leave_out: Sequence[str] = (),
) -> dict[str, Split]:
    """Read image files. If there is a train, a val or test that is missing is cut from it.

    Args:
        images: Of each split that is there.
        root: The folder to which the names of the images are relative.
        size, channels, seed, val_fraction, test_fraction, unreadable, crop, leave_out: As in `read`, as are the errors.
    """
    _check_arguments(size, channels, seed, val_fraction, test_fraction)
    cropper = pictures.cropper(crop)
    images = _left_out(images, leave_out, root)
    _check_classes(images, root)
    missing = {n: share for n, share in (("val", val_fraction), ("test", test_fraction)) if n not in images}
    if missing and "train" in images:
        images |= cut(images["train"], missing, seed, root)
    classes = labels.order([image.label for rows in images.values() for image in rows])
    broken: list[Unreadable] = []
    splits = {
        name: pictures.load(name, images[name], classes, size, channels, root, broken, cropper)
        for name in layout.SPLITS
        if name in images
    }
    pictures.say(cropper, root)
    if unreadable is not None:
        unreadable += broken
    elif broken:
        raise DataError(pictures.refusal(broken, root))
    return splits


def _check_arguments(size: int, channels: int, seed: int, val_fraction: float, test_fraction: float) -> None:
    check_number("data.size", size, 8, 4096, whole=True)
    check_choice("data.channels", channels, (1, 3))
    check_number("seed", seed, whole=True)
    check_number("val_fraction", val_fraction, 0, 1, above=True)
    check_number("test_fraction", test_fraction, 0, 1 - val_fraction, above=True)


def read_part(
    name: str, root: str | Path, part: str | None, size: int, channels: int, crop: str | None = None
) -> Split:
    """Read one split of a folder in one of the layouts above, or all of its images as one split.

    Args:
        name: Key of the folder in the config, for messages.
        part: train, val or test, which needs a folder or list of its own, or "all"; None for test, else val, else all,
            which is said.
        root, size, channels, crop: As in `read`.

    Raises:
        DataError: No labelled images, fewer than two classes, no such split, or unreadable images.
        ConfigError: An argument is not valid.
    """
    check_number("size", size, 8, 4096, whole=True)
    check_choice("channels", channels, (1, 3))
    cropper = pictures.cropper(crop)
    root, images = _find(name, root)
    if part is None and (own := [each for each in ("test", "val") if each in images]):
        part = own[0]
        if len(images) > 1:
            _log.warning("%s: its split %s is judged; {root: …, split: all} is all of it", root, part)
    if part not in (None, "all", *images):
        raise DataError(f"{root} has no split {part}; choose from {', '.join((*images, 'all'))}")
    rows = [image for split, each in images.items() if part in (None, "all", split) for image in each]
    _check_classes({name: rows}, root)
    broken: list[Unreadable] = []
    classes = labels.order([image.label for image in rows])
    split = pictures.load(name, rows, classes, size, channels, root, broken, cropper)
    pictures.say(cropper, root)
    if broken:
        raise DataError(pictures.refusal(broken, root))
    return split


def read_each(name: str, paths: Sequence[str], size: int, channels: int, taken: Collection[str]) -> dict[str, Split]:
    """Read all images of folders, by their names, with an apostrophe for each name that is in `taken` already."""
    splits: dict[str, Split] = {}
    for path in paths:
        folder = expand(path).resolve().name
        while folder in splits or folder in taken:
            folder += "'"
        splits[folder] = read_part(name, path, "all", size, channels)
    return splits


def recognise(root: Path) -> str | None:
    """Return the name of the dataset in `DATASETS` whose list is below `root`, or None.

    Names that others use, too, such as Emotion and training.csv, are not enough.
    """
    return next(
        (name for name, each in DATASETS.items() if (found := each.find(root)) and each.recognised(found)), None
    )


def _find(
    name: str, given: str | Path, dataset: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Path, dict[str, list[Image]]]:
    """Return the folder that holds the dataset and the images of each split that is there.

    Args:
        name: Key of the folder in the config, for messages.
        given: Its value.
        dataset, options: As in `read`.
    """
    check_path(name, given, optional=False)
    check_choice("dataset", dataset, (None, *DATASETS))
    root, notes = expand(given), list[str]()
    wanted = kind = DATASETS.get(dataset or recognise(root) or "")
    images: dict[str, list[Image]] = {}
    found = kind.find(root, **(options or {})) if kind else None
    if kind and found:
        images = kind.images(found, notes, **(options or {}))
        root = root if root.is_dir() else root.parent
    elif not root.is_dir():
        what = ", which is a file" if root.exists() else ""
        raise DataError(f"no folder {root}{what}; set {name} to the folder with train/<class>/ or <class>/")
    elif not kind or kind.is_copy:
        root, images, kind = _class_folders(root, kind, notes)
    classes = {row.label for rows in images.values() for row in rows}
    if wanted and not found and not classes & set(wanted.numbers.values()):
        raise DataError(f"no {wanted.name} in {root}; expected {wanted.expected}")
    if kind and kind.left_out:
        images = _without(images, kind.left_out, root, notes)
    for note in notes:
        _log.warning("%s", note)
    return root, images


def _class_folders(
    root: Path, kind: Dataset | None, notes: list[str]
) -> tuple[Path, dict[str, list[Image]], Dataset | None]:
    """Return the folder with the splits or classes, the images of each split, and the dataset if they are a copy."""
    copies = [kind] if kind else []

    def numbers(names: set[str], example: Path) -> Mapping[str, str] | None:
        others = [] if kind else DATASETS.values()
        copies.extend(each for each in others if each.is_copy and each.is_copy(names, example))
        return copies[0].numbers if copies else None

    root, folders = layout.split_folders(root, notes)
    images = layout.labelled(root, folders or {"train": root}, notes, numbers=numbers)
    if copies and (person := copies[0].person):
        images = {
            name: [replace(row, group=match[1]) if (match := person.match(row.path.name)) else row for row in rows]
            for name, rows in images.items()
        }
    return root, images, copies[0] if copies else None


def _left_out(images: dict[str, list[Image]], classes: Sequence[str], root: Path) -> dict[str, list[Image]]:
    """Return the images without those of the classes that the user leaves out, which are counted in the log.

    Raises:
        DataError: There is no such class.
        ConfigError: It is no list of names.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes or ()):
        raise ConfigError(f"data.leave_out={classes} must be a list of classes, as in data.leave_out=[contempt]")
    keys = {labels.key(row.label): row.label for rows in images.values() for row in rows}
    if wrong := [name for name in classes or () if labels.key(name) not in keys]:
        has = ", ".join(labels.order(list(keys.values())))
        raise DataError(f"{root} has no class {wrong[0]!r} to leave out (data.leave_out); it has {has}")
    notes: list[str] = []
    images = _without(images, [keys[labels.key(name)] for name in classes or ()], root, notes)
    for note in notes:
        _log.info("%s", note)
    return images


def _without(
    images: dict[str, list[Image]], classes: Collection[str], root: Path, notes: list[str]
) -> dict[str, list[Image]]:
    """Return the images without those of some labels, which are counted in `notes`."""
    counts = Counter(row.label for rows in images.values() for row in rows if row.label in classes)
    if counts:
        each = ", ".join(f"{count} {label}" for label, count in counts.most_common())
        notes.append(f"{root}: left out: {each}")
    return {split: [row for row in rows if row.label not in classes] for split, rows in images.items()}


def _check_classes(images: dict[str, list[Image]], root: Path) -> None:
    """Check that there are two classes and, if train is one of the splits, that every split has every class."""
    classes = {image.label for rows in images.values() for image in rows}
    if len(classes) < 2:
        fix = "add a folder for another; if this is a dataset as it is distributed, its list of labels is missing"
        raise DataError(f"only one class under {root} ({', '.join(classes)}); {fix}")
    for split, rows in images.items():
        absent = labels.order(list(classes - {image.label for image in rows}))
        if absent and ("train" in images or not rows):
            fix = f"add some, or set data.leave_out=[{','.join(absent)}]"
            raise DataError(f"{root / split} has no image of {', '.join(absent)}; {fix}")
