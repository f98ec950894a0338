"""The panel beside the picture in the window: speed, and for each face the probabilities of all classes."""

from collections.abc import Sequence

import numpy as np

from fer.labels import colours
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
        uint8 (height, WIDTH, 3), RGB, with `lines` and the largest faces, as many as fit.
    """
    strip = np.full((height, WIDTH, 3), _GROUND, np.uint8)
    y = _MARGIN
    for line, ink in [*((line, _DIM) for line in lines), *((key, _INK) for key in keys or ())]:
        write(strip, line, _MARGIN, y, ink, 13)
        y += _LINE
    if keys is not None:
        return strip
    y += _MARGIN // 2
    block = _HEAD + len(result.classes) * _LINE + _MARGIN
    room = max(0, (height - y - _LINE) // block)
    largest = np.argsort(-area(result.faces.boxes), kind="stable")[:room]
    for i in sorted(largest.tolist()):
        _face(strip, y, result, i)
        y += block
    hidden = len(result.faces) - len(largest)
    if hidden or not len(result.faces):
        text = f"and {hidden} more {'faces' if hidden > 1 else 'face'}" if hidden else "no face"
        write(strip, text, _MARGIN, y, _DIM, 13)
    return strip


def _face(strip: Array, y: int, result: FrameResult, i: int) -> None:
    emotion, _ = result.emotions()[i]
    identity = "" if result.faces.ids is None else f"{result.faces.ids[i]}  "
    doubt = "  uncertain" if result.uncertain is not None and result.uncertain[i] else ""
    write(strip, f"{identity}{emotion}{doubt}", _MARGIN, y, _INK, 16)
    tints = colours(result.classes)
    for k, (name, value) in enumerate(zip(result.classes, result.shown[i].tolist(), strict=True)):
        top, ink = y + _HEAD + k * _LINE, _INK if name == emotion else _DIM
        write(strip, name, _MARGIN, top, ink, 12)
        for share, tint in ((1.0, _BAR), (value, tints[name])):
            width = round((_RIGHT - _LEFT) * share)
            strip[top + 3 : top + 13, _LEFT : _LEFT + width] = tint
        write(strip, f"{value:.0%}".rjust(4), _RIGHT + 6, top, ink, 12)
