"""Boxes and labels, drawn on a copy of the frame."""

from functools import lru_cache

import cv2
import numpy as np

from fer import fonts
from fer.faces.boxes import intersection
from fer.faces.types import Array
from fer.labels import colours
from fer.stream.draw.text import Colour, label
from fer.stream.types import FrameResult


def annotate(result: FrameResult) -> Array:
    """Draw a box around each face, in the colour of its emotion, and a label such as "2 happy 88 %".

    A label reads "2 happy? 41 %" if it is uncertain. Lines and letters grow with the frame. Labels stay within the
    frame and do not overlap if there is room. A label is left out if no readable one fits.

    Returns:
        A new uint8 (H, W, 3), RGB, of the frame's size.
    """
    picture = result.frame.image.copy()
    height, width = picture.shape[:2]
    unit = min(height, width) / 360
    thickness = max(1, round(2 * unit))
    last = np.array([width, height] * 2) - 1
    boxes = (np.round(result.faces.boxes) - (0, 0, 1, 1)).clip(0, last).astype(int)
    emotions, tints = result.emotions(), colours(result.classes)
    for box, (emotion, _) in zip(boxes.tolist(), emotions, strict=True):
        corners = box[:2], box[2:]
        cv2.rectangle(picture, *corners, (20, 20, 20), thickness + 2, cv2.LINE_AA)  # dark edges, for bright backgrounds
        cv2.rectangle(picture, *corners, tints[emotion], thickness, cv2.LINE_AA)
    labels = np.zeros((0, 4), int)
    fonts.fit(" ".join(result.classes))  # one warning for all classes
    # Labels are drawn after all boxes, so that no box crosses them.
    for i, (box, (emotion, confidence)) in enumerate(zip(boxes.tolist(), emotions, strict=True)):
        identity = "" if result.faces.ids is None else f"{result.faces.ids[i]} "
        name = emotion + ("?" if result.uncertain is not None and result.uncertain[i] else "")
        # A small face in a large frame gets smaller letters, but never unreadable ones.
        points = round(max(9, min(18 * unit, max(12 * unit, 0.22 * (box[2] - box[0])))))
        texts = (f"{identity}{name} {100 * confidence:.0f} %", name)
        chip = _fitting_label(texts, tints[emotion], points, width, height)
        if chip is not None:
            left, top, right, bottom = spot = _position(chip, box, picture, labels, thickness)
            labels = np.vstack([labels, spot])
            picture[top:bottom, left:right] = chip
    return picture


def _position(chip: Array, box: list[int], picture: Array, labels: Array, gap: int) -> tuple[int, int, int, int]:
    """Return the box of a label: above its face, else below, else inside, away from other labels if possible."""
    (height, width), (x1, y1, x2, y2) = chip.shape[:2], box
    lowest, rightmost = picture.shape[0] - height, picture.shape[1] - width
    tops = [y for y in (y1 - height - gap, y2 + gap, y1 + gap, y2 - height - gap) if 0 <= y <= lowest]
    lefts = [min(max(x, 0), rightmost) for x in (x1 - gap // 2, x2 - width + gap // 2)]
    spots = [(x, y, x + width, y + height) for y in tops or [min(y1, lowest)] for x in lefts]
    return next((spot for spot in spots if not intersection(np.array([spot]), labels).any()), spots[0])


@lru_cache(maxsize=1024)
def _fitting_label(texts: tuple[str, ...], background: Colour, points: int, width: int, height: int) -> Array | None:
    """Return the first label that fits a frame's width and a third of its height, from 7 points; None if none does."""
    chips = (label(text, background, size) for text in texts for size in range(points, 6, -1))
    return next((chip for chip in chips if chip.shape[1] <= width and 3 * chip.shape[0] <= height), None)
