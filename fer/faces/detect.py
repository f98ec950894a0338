"""Face detection: YuNet on a reduced copy of the picture."""

from collections.abc import Iterable
from functools import cache

import cv2
import numpy as np

from fer import ort
from fer.checks import check_flag, check_number
from fer.faces.boxes import cover
from fer.faces.types import Array, Faces, Picture
from fer.faces.yunet import YuNet

_SMALLEST = 32
"""YuNet's coarsest stride in pixels. Smaller copies are padded, since YuNet returns wrong boxes for them."""

_VISIBLE = 0.1
"""Share of a face's width and height that must be within the picture; YuNet is not reliable on slivers."""

_SAME_FACE = 0.5
"""Two boxes are one face if more than this share of the smaller one is covered by the other."""

_FAR = 4.5
"""Ratio of two widths above which one between them is searched, too."""


class Detector:
    """`detector(image)` → `Faces`, by YuNet. Several threads may use it.

    Args:
        width: Width in pixels to which frames are reduced before they are searched; they are never enlarged.
        still_width: Stills are searched again in a copy of as many pixels as one of 3:2 has at this width, since photos
            contain smaller faces than videos and need not be fast, and in one of a third of that; None for a single
            search. The smaller copies are needed: on a large one, YuNet misses faces above about 300 pixels.
        score: Confidence, 0 to 1, below which faces are dropped.
        skip_still: Whether to skip frames of films and cameras in which nothing moves; see `fer.stream.search`.
        device: As in `YuNet`.
        threads: CPU threads, None for half of the cores, and for stills all of them.

    Raises:
        ConfigError: A value is out of range, or the device is not available.
    """

    def __init__(
        self,
        width: int = 320,
        still_width: int | None = 2880,
        score: float = 0.6,
        skip_still: bool = False,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        check_number("detector.width", width, _SMALLEST, whole=True)
        check_number("detector.still_width", still_width, _SMALLEST, whole=True, optional=True)
        check_number("detector.score", score, 0, 0.999, above=True)
        check_flag("detector.skip_still", skip_still)
        self.width, self.skip_still = width, skip_still
        self.still_width = still_width
        self.score = float(score)
        self._net = YuNet(self.score, device, threads or ort.HALF)
        self._still_net = cache(lambda: YuNet(self.score, device, threads))

    def __call__(self, picture: Array | Picture) -> Faces:
        """Return the faces of a picture, highest score first, boxes in its pixels and clipped to it.

        Args:
            picture: uint8 (H, W, 3) RGB, upright, which is searched as a photo; or a `Picture`, such as a frame of a
                film, whose reduced copies are used again.
        """
        if not isinstance(picture, Picture):
            picture = Picture(picture)
        faces = self.search(picture, self.widths(picture))
        if len(faces) < 2:
            return faces
        overlap = np.maximum(cover(faces.boxes, faces.boxes), cover(faces.boxes, faces.boxes).T)
        keep: list[int] = []
        for i in range(len(faces)):
            if (overlap[i, keep] <= _SAME_FACE).all():
                keep.append(i)
        return faces[keep]

    def widths(self, picture: Picture) -> list[int]:
        """Return the widths in pixels of the copies to search."""
        if not picture.still or self.still_width is None:
            return [self.width]
        finest = width_of_copy(picture.image, self.still_width)
        further = [finest, finest // 3] if finest > _FAR * self.width else [finest]
        return [self.width, *(each for each in further if each > self.width)]

    def search(self, picture: Picture, widths: Iterable[int]) -> Faces:
        """Return the faces of a picture, highest score first, a face once or several times.

        Args:
            picture: The picture.
            widths: Widths in pixels to which its image is reduced, each for a search of its own.
        """
        height, width = picture.image.shape[:2]
        sizes = {min(each, width): None for each in widths}  # no copy twice
        return _valid(np.concatenate([self._search(picture, size) for size in sizes]), width, height)

    def _search(self, picture: Picture, width: int) -> Array:
        """Return what YuNet does, in pixels of the picture."""
        copy = picture.reduced(width)
        height, width = copy.shape[:2]
        scale = np.array([picture.image.shape[1] / width, picture.image.shape[0] / height] * 7 + [1], np.float32)
        below, beside = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
        if below or beside:
            copy = cv2.copyMakeBorder(copy, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        # A large copy of a still is worth all cores.
        net = self._still_net() if picture.still else self._net
        return net(copy) * scale


def width_of_copy(image: Array, width: int) -> int:
    """Return the width of a copy of `image` with as many pixels as one of 3:2 has at `width`; none is enlarged.

    A number of pixels bounds the time for panoramas and for portraits alike.
    """
    return min(image.shape[1], round(width * np.sqrt(image.shape[1] / image.shape[0] / 1.5)))


def _valid(rows: Array, width: int, height: int) -> Faces:
    """Return the faces of detections, (N, 15) as YuNet's, with boxes clipped to the image, highest score first."""
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)]
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    limit = np.array([width, height] * 2, np.float32)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1).clip(0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    visible = ((sides >= 1) & (sides >= _VISIBLE * rows[:, 2:4])).all(axis=1)
    boxes, rows = boxes[visible], rows[visible]
    return Faces(boxes, rows[:, 14].clip(0, 1), points=rows[:, 4:14].reshape(-1, 5, 2))
