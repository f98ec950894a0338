"""What a player makes of a decoded frame: upright, square pixels, standard dynamic range."""

from fractions import Fraction
from functools import cache
from typing import Any

import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace, ColorTrc

from fer.stream.types import Array

_SQUAREST, _LONGEST = Fraction(1, 8), Fraction(8)
"""Pixel aspects beyond these are mistakes."""
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_WHITE, _PEAK = 203.0, 1000.0
"""Luminance of HDR reference white (ITU-R BT.2408), shown as SDR white, and of the brightest HDR pixel, in cd/m²."""
_LIGHT = 65535
"""White in the integers that stand for linear light."""
_TO_BT709 = np.array(  # linear BT.2020 to BT.709, ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def shown(frame: Any, aspect: Fraction | None) -> Array:
    """Return the picture of a frame as a player shows it.

    Args:
        frame: A decoded `av.VideoFrame`. It is turned and mirrored by its display matrix, rounded to quarter turns; PQ
            and HLG are tone-mapped.
        aspect: Width of a pixel over its height, None if unknown. The height of the upright picture is kept.

    Returns:
        uint8 (H, W, 3) RGB, BT.709.
    """
    turned, down, right = _turns(frame)
    size: dict[str, Any] = {"interpolation": "BICUBIC"}  # as FFmpeg scales
    if aspect and aspect != 1 and _SQUAREST <= aspect <= _LONGEST:
        across, of = ("height", 1 / aspect) if turned else ("width", aspect)
        size[across] = max(1, round(getattr(frame, across) * of))
    hdr = frame.color_trc in _HDR
    image = _tone_mapped(frame, size) if hdr else frame.to_ndarray(format="rgb24", **size)
    if (turned, down, right) == (False, 1, 1):
        return image
    return np.ascontiguousarray((image.transpose(1, 0, 2) if turned else image)[::down, ::right])


def _turns(frame: Any) -> tuple[bool, int, int]:
    """Return whether rows become columns, and then the order of the rows and of the columns, 1 or -1."""
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False, 1, 1
    # A point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    turned = bool(abs(b) + abs(c) > abs(a) + abs(d))
    right, down = (c, b) if turned else (a, d)
    return turned, -1 if down < 0 else 1, -1 if right < 0 else 1


def _tone_mapped(frame: Any, size: dict[str, Any]) -> Array:
    """Return an HDR frame as uint8 (H, W, 3) BT.709 RGB.

    Each colour goes through a table to linear light, which the EETF of ITU-R BT.2390 (section 5.4.1) has fitted between
    black and SDR white; then from BT.2020 to BT.709, and through a table to the display's gamma of ITU-R BT.1886.
    """
    matrix = {} if frame.colorspace != 2 else {"src_colorspace": Colorspace.BT2020}
    codes = frame.to_ndarray(format="rgb48le", **matrix, **size)
    light = cv2.transform(_light(frame.color_trc)[codes], _TO_BT709)
    return _gamma()[light]


@cache
def _light(transfer: int) -> Array:
    """Return the linear light, uint16, 0 to `_LIGHT`, of the 65536 codes of a transfer function (ITU-R BT.2100)."""
    code = np.linspace(0, 1, 65536)
    if transfer == ColorTrc.ARIB_STD_B67:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        code = _pq(_PEAK * scene**1.2)  # its OOTF, here of each colour by itself
    white, peak = _pq(np.array([_WHITE, _PEAK]))
    x, most = np.minimum(code / peak, 1), white / peak
    knee = 1.5 * most - 0.5
    t = np.maximum(x - knee, 0) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    light = _nits(np.where(x < knee, x, curve) * peak) / _WHITE
    return np.round(np.clip(light, 0, 1) * _LIGHT).astype(np.uint16)


@cache
def _gamma() -> Array:
    """Return the uint8 codes of linear light from 0 to `_LIGHT`."""
    return np.round(255 * np.linspace(0, 1, _LIGHT + 1) ** (1 / 2.4)).astype(np.uint8)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
"""Constants of PQ (SMPTE ST 2084)."""


def _pq(nits: Array) -> Array:
    y = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * y) / (1 + _C3 * y)) ** _M2


def _nits(code: Array) -> Array:
    y = code ** (1 / _M2)
    return 10_000 * (np.maximum(y - _C1, 0) / (_C2 - _C3 * y)) ** (1 / _M1)
