"""What a player makes of a decoded frame: upright, square pixels, standard dynamic range."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace, VideoReformatter

from fer import hdr
from fer.faces.types import Array

_SQUAREST, _LONGEST = Fraction(1, 8), Fraction(8)
"""Pixel aspects beyond these are mistakes."""
_BY_QUARTERS = (False, 1, 1), (True, -1, 1), (False, -1, -1), (True, 1, -1)
"""What `turns_of` returns for quarter turns counterclockwise."""


Turns = tuple[bool, int, int]
"""Whether rows become columns, and then the order of the rows and of the columns, 1 or -1."""


def shown(frame: Any, aspect: Fraction | None, turns: Turns, reformatter: VideoReformatter | None = None) -> Array:
    """Return the picture of a frame as a player shows it.

    Args:
        frame: A decoded `av.VideoFrame`. PQ and HLG are tone-mapped.
        aspect: Width of a pixel over its height, None if unknown. The height of the upright picture is kept.
        turns: How to turn and mirror it, as `turns_of` returns.
        reformatter: The one of the frame before. A new one takes longer to set up than to run.

    Returns:
        uint8 (H, W, 3) RGB, BT.709.
    """
    turned, down, right = turns
    size: dict[str, Any] = {"interpolation": "BICUBIC", "threads": 1}  # as FFmpeg scales
    if aspect and aspect != 1 and _SQUAREST <= aspect <= _LONGEST:
        across, of = ("height", 1 / aspect) if turned else ("width", aspect)
        size[across] = max(1, round(getattr(frame, across) * of))
    convert = partial((reformatter or VideoReformatter()).reformat, frame, **size)
    image = _tone_mapped(frame, convert) if frame.color_trc in hdr.TRANSFERS else _pixels(convert(format="rgb24"))
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


def _pixels(frame: Any) -> Array:
    """Return the pixels of an RGB frame, in FFmpeg's own memory unless its rows are padded."""
    plane = frame.planes[0]
    if plane.line_size != 3 * frame.width:
        return np.asarray(frame.to_ndarray())
    return np.frombuffer(plane, np.uint8).reshape(frame.height, frame.width, 3)


def _tone_mapped(frame: Any, convert: Callable[..., Any]) -> Array:
    matrix = {} if frame.colorspace != 2 else {"src_colorspace": Colorspace.BT2020}
    return hdr.tone_mapped(convert(format="rgb48le", **matrix).to_ndarray(), frame.color_trc)
