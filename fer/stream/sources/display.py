"""What a player makes of a decoded frame: upright, square pixels, standard dynamic range."""

from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace

from fer import hdr
from fer.stream.types import Array

_SQUAREST, _LONGEST = Fraction(1, 8), Fraction(8)
"""Pixel aspects beyond these are mistakes."""
_BY_QUARTERS = (False, 1, 1), (True, -1, 1), (False, -1, -1), (True, 1, -1)
"""What `turns_of` returns for quarter turns counterclockwise."""


Turns = tuple[bool, int, int]
"""Whether rows become columns, and then the order of the rows and of the columns, 1 or -1."""


def shown(frame: Any, aspect: Fraction | None, turns: Turns) -> Array:
    """Return the picture of a frame as a player shows it.

    Args:
        frame: A decoded `av.VideoFrame`. PQ and HLG are tone-mapped.
        aspect: Width of a pixel over its height, None if unknown. The height of the upright picture is kept.
        turns: How to turn and mirror it, as `turns_of` returns.

    Returns:
        uint8 (H, W, 3) RGB, BT.709.
    """
    turned, down, right = turns
    size: dict[str, Any] = {"interpolation": "BICUBIC"}  # as FFmpeg scales
    if aspect and aspect != 1 and _SQUAREST <= aspect <= _LONGEST:
        across, of = ("height", 1 / aspect) if turned else ("width", aspect)
        size[across] = max(1, round(getattr(frame, across) * of))
    image = _tone_mapped(frame, size) if frame.color_trc in hdr.TRANSFERS else frame.to_ndarray(format="rgb24", **size)
    if (turned, down, right) == (False, 1, 1):
        return image
    return np.ascontiguousarray((image.transpose(1, 0, 2) if turned else image)[::down, ::right])


def turns_of(frame: Any) -> Turns:
    """Return the turns of a frame's display matrix, rounded to quarter turns.

    PyAV does not free a frame that is asked for this before the next full garbage collection.
    """
    try:
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV does not know a kind of data that the frame has beside it, such as EXIF
        return _BY_QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, 1, 1
    # A point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    turned = bool(abs(b) + abs(c) > abs(a) + abs(d))
    right, down = (c, b) if turned else (a, d)
    return turned, -1 if down < 0 else 1, -1 if right < 0 else 1


def _tone_mapped(frame: Any, size: dict[str, Any]) -> Array:
    matrix = {} if frame.colorspace != 2 else {"src_colorspace": Colorspace.BT2020}
    return hdr.tone_mapped(frame.to_ndarray(format="rgb48le", **matrix, **size), frame.color_trc)
