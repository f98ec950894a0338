"""Folders of labelled images.

root/{train,val,test}/<class>/…   split folders; a missing val or test is cut from train. Also one folder deeper, and
                                  under other names, such as Training, validation, PublicTest
root/<class>/<person>/…           no split folders: split by person
root/<session>/<class>/…          split by session; the camera collector writes this layout
root/<class>/…                    split by series (clip_0001.jpg, clip_0002.jpg, …) or, without any, by image
RAF-DB                            as it is distributed, see `fer.data.rafdb`

A split by group keeps all images of a person, session or series on one side, so that no model is tested on
the neighbour of a frame it was trained on.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fer import labels
from fer.checks import check_choice, check_number, check_path
from fer.data import layout, rafdb
from fer.data.base import Split, Unreadable
from fer.data.crop import FaceCropper
from fer.data.groups import Image, cut
from fer.errors import DataError
from fer.files import expand
from fer.images import read_image

_log = logging.getLogger(__name__)


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    unreadable: list[Unreadable] | None = None,
    crop: str | None = None,
) -> dict[str, Split]:
    """Read the splits train, val and test from a folder in one of the layouts above.

    Without a train folder, only the splits that exist are returned: they can be evaluated.

    Classes are named after their folders, see `fer.labels.unify`, in the order of `fer.labels.order`. The level whose
    folders are named after emotions holds the classes. Without such names it is the first level, or the second if all
    names of the first contain digits (sessions) and none of the second does. What is an image is decided by content.
    Images are turned upright (EXIF), cut to their central square, or to their face (`crop`), and resized. Rows are in
    the order of their paths.
    Files that are not read are counted in warnings.

    Args:
        root: The folder.
        size: Side of the square images in pixels, 8 to 4096.
        channels: 1 for luma, uint8 (N, size, size), or 3 for RGB, uint8 (N, size, size, 3).
        seed: Decides which groups are cut from train.
        val_fraction, test_fraction: Shares of train's images to cut for a val or test without a folder, as nearly as
            whole groups allow.
        unreadable: Files that cannot be read are added here and left out, instead of an error.
        crop: "auto" to search each picture for its face and to cut that out as inference does, see `fer.data.crop`;
            None for the central square.

    Raises:
        DataError: No labelled images, a class that a split lacks, too few groups, or unreadable images.
        ConfigError: An argument is out of range.
    """
    check_number("data.size", size, 8, 4096, whole=True)
    check_choice("data.channels", channels, (1, 3))
    cropper = _cropper(crop)
    check_number("seed", seed, whole=True)
    check_number("val_fraction", val_fraction, 0, 1, above=True)
    check_number("test_fraction", test_fraction, 0, 1 - val_fraction, above=True)
    root, folders, images = _find("data.root", root)
    _check_classes(images, folders)
    missing = {n: share for n, share in (("val", val_fraction), ("test", test_fraction)) if n not in images}
    if missing and "train" in images:
        images |= cut(images["train"], missing, seed, folders["train"])
    classes = labels.order([image.label for rows in images.values() for image in rows])
    broken: list[Unreadable] = []
    splits = {
        name: _load(name, images[name], classes, size, channels, root, broken, cropper)
        for name in layout.SPLITS
        if name in images
    }
    _say(cropper, root)
    if unreadable is not None:
        unreadable += broken
    elif broken:
        raise DataError(refusal(broken, root))
    return splits


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
    cropper = _cropper(crop)
    root, _, images = _find(name, root)
    if part is None and (own := [each for each in ("test", "val") if each in images]):
        part = own[0]
        if len(images) > 1:
            _log.warning("%s: its split %s is judged; {root: …, split: all} is all of it", root, part)
    if part not in (None, "all", *images):
        raise DataError(f"{root} has no split {part}; choose from {', '.join((*images, 'all'))}")
    rows = [image for split, each in images.items() if part in (None, "all", split) for image in each]
    _check_classes({name: rows}, {name: root})
    broken: list[Unreadable] = []
    split = _load(name, rows, labels.order([image.label for image in rows]), size, channels, root, broken, cropper)
    _say(cropper, root)
    if broken:
        raise DataError(refusal(broken, root))
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


def _find(name: str, given: str | Path) -> tuple[Path, dict[str, Path], dict[str, list[Image]]]:
    """Return the folder that holds the dataset, and the folder and the images of each split that is there."""
    check_path(name, given, optional=False)
    root = expand(given)
    if not root.is_dir():
        found = ", which is a file" if root.exists() else ""
        raise DataError(f"no folder {root}{found}; set {name} to the folder with train/<class>/ or <class>/")
    if table := rafdb.find(root):
        listed = rafdb.read(table).items()
        images = {split: [Image(path, label) for path, label in rows] for split, rows in listed}
        return root, dict.fromkeys(images, root), images
    notes: list[str] = []
    root, folders = layout.split_folders(root, notes)
    folders = folders or {"train": root}
    images = layout.labelled(root, folders, notes)
    for note in notes:
        _log.warning("%s", note)
    return root, folders, images


def read_images(
    images: Iterable[Image],
    split: str,
    root: Path,
    channels: int,
    unreadable: list[Unreadable],
    edit: Callable[[Image, str, np.ndarray], np.ndarray] | None = None,
) -> Iterator[tuple[Image, str, np.ndarray]]:
    """Yield images with their paths below `root` and pixels, uint8 (H, W) luma or (H, W, 3) RGB; see `fer.images`.

    Files that cannot be read are added to `unreadable`. `edit` takes an image, its path and its RGB pixels, and
    returns those to yield.
    """
    for image in images:
        name = Path(os.path.relpath(image.path, root)).as_posix()
        try:
            pixels = read_image(image.path)
        except OSError as error:
            unreadable.append(Unreadable(split, name, image.label, error.strerror or str(error)))
        else:
            pixels = edit(image, name, pixels) if edit else pixels
            yield image, name, pixels if channels == 3 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def refusal(unreadable: Sequence[Unreadable], root: str | Path) -> str:
    """Return the message that counts unreadable files of the dataset `root`."""
    first = f"{root}/{unreadable[0].file}"
    if len(unreadable) == 1:
        return f"{first} is not a readable image ({unreadable[0].reason}); repair or delete it"
    what = f"{len(unreadable)} files are not readable images, such as {first} ({unreadable[0].reason})"
    audit = "of the unpacked folder" if Path(root).is_file() else root
    return f"{what}; python -m fer.data.audit {audit} lists all; repair or delete them"


def _cropper(crop: str | None) -> FaceCropper | None:
    check_choice("data.crop", crop, (None, "auto"))
    return FaceCropper() if crop else None


def _say(cropper: FaceCropper | None, root: Path) -> None:
    for note in cropper.notes() if cropper else ():
        _log.warning("%s: %s", root, note)


def _load(
    split: str,
    images: Sequence[Image],
    classes: tuple[str, ...],
    size: int,
    channels: int,
    root: Path,
    unreadable: list[Unreadable],
    cropper: FaceCropper | None = None,
) -> Split:
    pixels = np.empty((len(images), size, size) if channels == 1 else (len(images), size, size, 3), dtype=np.uint8)
    truth: list[int] = []
    names: list[str] = []
    groups: list[str] = []

    def face(image: Image, name: str, content: np.ndarray) -> np.ndarray:
        if image.box is not None:
            return _within(content, image.box)
        return cropper(content, size, name) if cropper else content

    for image, name, content in read_images(images, split, root, channels, unreadable, face):
        pixels[len(names)] = _square(content, size)
        truth.append(classes.index(image.label))
        names.append(name)
        groups.append(image.group)
    known = tuple(groups) if any(groups) else None
    return Split(pixels[: len(names)], np.array(truth, dtype=np.int64), classes, names=tuple(names), groups=known)


def _within(image: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    height, width = image.shape[:2]
    left, top, right, bottom = (max(0, round(side)) for side in box)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


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
