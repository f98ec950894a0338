"""The strip beside the picture in the window: what every face shows, all classes of it, and how fast it goes."""

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.labels import colour
from fer.stream.types import Array, FrameResult

WIDTH = 240
_GROUND, _TRACK, _INK, _DIM = (24, 26, 30), (52, 55, 62), (236, 238, 240), (150, 156, 164)
_MARGIN, _LINE, _HEAD = 12, 20, 28
_NAME, _NUMBER = 76, 44
"""Pixels for the names before the bars and the figures behind them."""


def panel(result: FrameResult, height: int, lines: list[str], keys: list[str] | None = None) -> Array:
    """A strip uint8 (height, WIDTH, 3), RGB: `lines` at the top, then the bars of each face that there is room for.

    keys: a list of keys in place of the bars.
    """
    strip = np.full((height, WIDTH, 3), _GROUND, np.uint8)
    y = _MARGIN
    for line in lines:
        _write(strip, line, _MARGIN, y, _DIM, 13)
        y += _LINE
    y += _MARGIN // 2
    if keys is not None:
        for line in keys:
            _write(strip, line, _MARGIN, y, _INK, 13)
            y += _LINE
        return strip
    block = _HEAD + len(result.classes) * _LINE + _MARGIN
    room = max(0, (height - y - _LINE) // block)
    emotions = result.emotions()
    order = np.argsort(-_areas(result), kind="stable")[:room]
    for i in sorted(order.tolist()):
        _face(strip, y, result, i, emotions[i])
        y += block
    if len(emotions) > len(order):
        hidden = len(emotions) - len(order)
        _write(strip, f"and {hidden} more {'faces' if hidden > 1 else 'face'}", _MARGIN, y, _DIM, 13)
    if not emotions:
        _write(strip, "no face", _MARGIN, y, _DIM, 13)
    return strip


def _areas(result: FrameResult) -> Array:
    sides = result.faces.boxes[:, 2:] - result.faces.boxes[:, :2]
    return np.asarray(sides.prod(axis=1))


def _face(strip: Array, y: int, result: FrameResult, i: int, emotion: tuple[str, float]) -> None:
    identity = f"{result.faces.ids[i]}  " if result.faces.ids is not None else ""
    doubt = "  uncertain" if result.uncertain is not None and result.uncertain[i] else ""
    _write(strip, f"{identity}{emotion[0]}{doubt}", _MARGIN, y, _INK, 16)
    y += _HEAD
    for name, value in zip(result.classes, result.shown[i], strict=True):
        _write(strip, name, _MARGIN, y, _INK if name == emotion[0] else _DIM, 12)
        left, right = _MARGIN + _NAME, WIDTH - _MARGIN - _NUMBER
        cv2.rectangle(strip, (left, y + 3), (right, y + 12), _TRACK, -1)
        end = left + round((right - left) * float(value))
        if end > left:
            cv2.rectangle(strip, (left, y + 3), (end, y + 12), colour(name), -1)
        _write(strip, f"{value:.0%}".rjust(4), right + 6, y, _INK if name == emotion[0] else _DIM, 12)
        y += _LINE


def _write(strip: Array, text: str, x: int, y: int, rgb: tuple[int, int, int], points: int) -> None:
    word = _word(text, points)
    height, width = min(word.shape[0], strip.shape[0] - y), min(word.shape[1], strip.shape[1] - x)
    if height <= 0 or width <= 0:
        return
    share = word[:height, :width, None] / 255
    spot = strip[y : y + height, x : x + width]
    spot[:] = np.round(spot * (1 - share) + np.array(rgb) * share)


@lru_cache(maxsize=1024)
def _word(text: str, points: int) -> Array:
    font = ImageFont.load_default(points)
    _, _, right, _ = font.getbbox(text)
    image = Image.new("L", (int(right) + 1, points + points // 3 + 1), 0)
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=255)
    return np.asarray(image)
