"""The panel beside the picture in the window: speed, and for each face the probabilities of all classes."""

from collections.abc import Sequence

import cv2
import numpy as np

from fer.labels import colour
from fer.stream.draw.text import write
from fer.stream.faces.boxes import area
from fer.stream.types import Array, FrameResult

WIDTH = 240
_GROUND, _BAR, _INK, _DIM = (24, 26, 30), (52, 55, 62), (236, 238, 240), (150, 156, 164)
_MARGIN, _LINE, _HEAD = 12, 20, 28
_LEFT, _RIGHT = _MARGIN + 76, WIDTH - _MARGIN - 44
"""Where the bars begin and end, between the names and the percentages."""


def panel(result: FrameResult, height: int, lines: Sequence[str], keys: Sequence[str] | None = None) -> Array:
    """Draw the panel.

    Args:
        result: The frame that is shown.
        height: Pixels.
        lines: Texts at the top.
        keys: A list of keys to show instead of the faces.

    Returns:
        uint8 (height, WIDTH, 3), RGB, with `lines` and as many faces as there is room for, the largest ones.
    """
    strip = np.full((height, WIDTH, 3), _GROUND, np.uint8)
    y = _MARGIN
    for line in lines:
        write(strip, line, _MARGIN, y + 3, _DIM, 13)
        y += _LINE
    y += _MARGIN // 2
    if keys is not None:
        for line in keys:
            write(strip, line, _MARGIN, y + 3, _INK, 13)
            y += _LINE
        return strip
    block = _HEAD + len(result.classes) * _LINE + _MARGIN
    room = max(0, (height - y - _LINE) // block)
    largest = np.argsort(-area(result.faces.boxes), kind="stable")[:room]
    for i in sorted(largest.tolist()):
        _face(strip, y, result, i)
        y += block
    hidden = len(result.faces) - len(largest)
    if hidden or not len(result.faces):
        text = f"and {hidden} more {'faces' if hidden > 1 else 'face'}" if hidden else "no face"
        write(strip, text, _MARGIN, y + 3, _DIM, 13)
    return strip


def _face(strip: Array, y: int, result: FrameResult, i: int) -> None:
    shown_as, _ = result.emotions()[i]
    identity = "" if result.faces.ids is None else f"{result.faces.ids[i]}  "
    doubt = "  uncertain" if result.uncertain is not None and result.uncertain[i] else ""
    write(strip, f"{identity}{shown_as}{doubt}", _MARGIN, y + 3, _INK, 16)
    y += _HEAD
    for name, value in zip(result.classes, result.shown[i].tolist(), strict=True):
        ink = _INK if name == shown_as else _DIM
        write(strip, name, _MARGIN, y + 2, ink, 12)
        cv2.rectangle(strip, (_LEFT, y + 3), (_RIGHT, y + 12), _BAR, -1)
        end = _LEFT + round((_RIGHT - _LEFT) * value)
        if end > _LEFT:
            cv2.rectangle(strip, (_LEFT, y + 3), (end, y + 12), colour(name), -1)
        write(strip, f"{value:.0%}".rjust(4), _RIGHT + 6, y + 2, ink, 12)
        y += _LINE
