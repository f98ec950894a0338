"""Picture files as the images of a `Split`: read, cut to the face, made square and resized."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fer.checks import check_choice
from fer.data.base import Split, Unreadable
from fer.data.crop import FaceCropper
from fer.data.groups import Image
from fer.faces.crop import crop_face
from fer.images import read_image

_log = logging.getLogger(__name__)


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
    returns those to yield, or raises an `OSError`, too.
    """
    for image in images:
        name = Path(os.path.relpath(image.path, root)).as_posix()
        try:
            pixels = read_image(image.path)
            pixels = edit(image, name, pixels) if edit else pixels
        except OSError as error:
            unreadable.append(Unreadable(split, name, image.label, error.strerror or str(error)))
        else:
            yield image, name, pixels if channels == 3 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def refusal(unreadable: Sequence[Unreadable], root: str | Path) -> str:
    """Return the message that counts unreadable files of the dataset `root`."""
    first = f"{root}/{unreadable[0].file}"
    if len(unreadable) == 1:
        return f"{first} is not a readable image ({unreadable[0].reason}); repair or delete it"
    what = f"{len(unreadable)} files are not readable images, such as {first} ({unreadable[0].reason})"
    audit = "of the unpacked folder" if Path(root).is_file() else root
    return f"{what}; python -m fer.data.audit {audit} lists all; repair or delete them"


def cropper(crop: str | None) -> FaceCropper | None:
    check_choice("data.crop", crop, (None, "auto"))
    return FaceCropper() if crop else None


def say(cropper: FaceCropper | None, root: Path) -> None:
    for note in cropper.notes() if cropper else ():
        _log.warning("%s: %s", root, note)


def load(
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
            height, width = content.shape[:2]
            left, top, right, bottom = image.box
            if left >= width or top >= height or right <= 0 or bottom <= 0:
                sides = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
                raise OSError(f"its box, {sides}, is outside of its {width}×{height} pixels")
            return crop_face(content, np.array(image.box), 0, size)
        return cropper(content, size, name) if cropper else content

    for image, name, content in read_images(images, split, root, channels, unreadable, face):
        pixels[len(names)] = _square(content, size)
        truth.append(classes.index(image.label))
        names.append(name)
        groups.append(image.group)
    known = tuple(groups) if any(groups) else None
    return Split(pixels[: len(names)], np.array(truth, dtype=np.int64), classes, names=tuple(names), groups=known)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
