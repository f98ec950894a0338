"""High dynamic range (PQ and HLG, ITU-R BT.2100) to standard, for films and pictures alike."""

from functools import cache

import cv2
import numpy as np

PQ, HLG = 16, 18
"""Transfer functions, by their codes in ITU-T H.273."""
TRANSFERS = (PQ, HLG)
_WHITE, _PEAK = 203.0, 1000.0
"""Luminance of HDR reference white (ITU-R BT.2408), shown as SDR white, and of the brightest HDR pixel, in cd/m²."""
_LIGHT = 65535
"""White in the integers that stand for linear light."""
_TO_BT709 = np.array(  # linear BT.2020 to BT.709, ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def tone_mapped(codes: np.ndarray, transfer: int) -> np.ndarray:
    """Return an HDR picture as a player shows it on an ordinary display.

    Each colour goes through a table to linear light, which the EETF of ITU-R BT.2390 (section 5.4.1) has fitted between
    black and SDR white; then from BT.2020 to BT.709, and through a table to the display's gamma of ITU-R BT.1886.

    Args:
        codes: uint16 (H, W, 3) BT.2020 RGB, 0 to 65535.
        transfer: `PQ` or `HLG`.

    Returns:
        uint8 (H, W, 3) BT.709 RGB.
    """
    return _gamma()[cv2.transform(_light(transfer)[codes], _TO_BT709)]


@cache
def _light(transfer: int) -> np.ndarray:
    """Return the linear light, uint16, 0 to `_LIGHT`, of the 65536 codes of a transfer function (ITU-R BT.2100)."""
    code = np.linspace(0, 1, 65536)
    if transfer == HLG:
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
def _gamma() -> np.ndarray:
    """Return the uint8 codes of linear light from 0 to `_LIGHT`."""
    return np.round(255 * np.linspace(0, 1, _LIGHT + 1) ** (1 / 2.4)).astype(np.uint8)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
"""Constants of PQ (SMPTE ST 2084)."""


def _pq(nits: np.ndarray) -> np.ndarray:
    y = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * y) / (1 + _C3 * y)) ** _M2


def _nits(code: np.ndarray) -> np.ndarray:
    y = code ** (1 / _M2)
    return 10_000 * (np.maximum(y - _C1, 0) / (_C2 - _C3 * y)) ** (1 / _M1)
