"""The panel beside the picture in the window: speed, and for each face the probabilities of all classes."""

from collections.abc import Sequence

import numpy as np

from fer.faces.boxes import area
from fer.faces.types import Array
from fer.labels import colours
from fer.stream.draw.text import Colour, letters, write
from fer.stream.types import FrameResult

WIDTH = 240
_GROUND, _BAR, _INK, _DIM = (24, 26, 30), (52, 55, 62), (236, 238, 240), (150, 156, 164)
_MARGIN, _LINE, _LOWEST, _HEAD = 12, 20, 12, 28
_LEFT, _RIGHT, _SHORTEST = _MARGIN + 76, WIDTH - _MARGIN - 44, 40
"""Where the bars begin and end, between the names and the percentages, and their length beside long names."""


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
        _write(strip, line, y, ink, 13)
        y += _LINE
    if keys is not None:
        return strip
    y += _MARGIN // 2
    # Many classes get lower lines, so that at least one face fits.
    free = height - y - _LINE
    line_height = max(_LOWEST, min(_LINE, (free - _HEAD - _MARGIN) // len(result.classes)))
    block = _HEAD + len(result.classes) * line_height + _MARGIN
    room = max(0, free // block)
    largest = np.argsort(-area(result.faces.boxes), kind="stable")[:room]
    for i in sorted(largest.tolist()):
        _face(strip, y, line_height, result, i)
        y += block
    hidden = len(result.faces) - len(largest)
    if hidden or not len(result.faces):
        text = f"and {hidden} more {'faces' if hidden > 1 else 'face'}" if hidden else "no face"
        _write(strip, text, y, _DIM, 13)
    return strip


def _write(strip: Array, text: str, y: int, ink: Colour, points: int, right: int = WIDTH) -> None:
    """Write a line that ends before `right`, with smaller letters or cut off if it is too long."""
    part = strip[:, : right - 4]
    fitting = (p for p in range(points, 9, -1) if letters(text, p).shape[1] <= part.shape[1] - _MARGIN)
    write(part, text, _MARGIN, y, ink, next(fitting, 9))


def _face(strip: Array, y: int, line_height: int, result: FrameResult, i: int) -> None:
    emotion, _ = result.emotions()[i]
    identity = "" if result.faces.ids is None else f"{result.faces.ids[i]}  "
    doubt = "  uncertain" if result.uncertain is not None and result.uncertain[i] else ""
    _write(strip, f"{identity}{emotion}{doubt}", y, _INK, 16)
    tints, points = colours(result.classes), min(12, line_height - 2)
    longest = max(letters(name, points).shape[1] for name in result.classes)
    left = min(max(_LEFT, _MARGIN + longest + 4), _RIGHT - _SHORTEST)
    for k, (name, value) in enumerate(zip(result.classes, result.shown[i].tolist(), strict=True)):
        top, ink = y + _HEAD + k * line_height, _INK if name == emotion else _DIM
        _write(strip, name, top, ink, points, right=left)
        for share, tint in ((1.0, _BAR), (value, tints[name])):
            width = round((_RIGHT - left) * share)
            strip[top + 3 : top + line_height - 7, left : left + width] = tint
        write(strip, f"{value:.0%}".rjust(4), _RIGHT + 6, top, ink, points)
