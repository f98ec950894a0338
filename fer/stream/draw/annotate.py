"""Boxes and labels drawn on a copy of the frame."""

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.labels import colour
from fer.stream.types import Array, FrameResult

_Spot = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels


def annotate(result: FrameResult) -> Array:
    """The frame with a box in the emotion's colour around each face and a label such as "happy 88 %", or "happy? 41 %"
    where that is uncertain.

    Returns a new uint8 (H, W, 3), RGB, of the frame's size. Lines and letters grow with the frame; a label stays
    within the frame and off the other labels where there is room, and is left out where no readable one fits
    without hiding the face.
    """
    picture = result.frame.image.copy()
    height, width = picture.shape[:2]
    unit = min(height, width) / 360
    thickness = max(1, round(2 * unit))
    taken: list[_Spot] = []
    boxes = [_whole(box, width, height) for box in result.faces.boxes]
    emotions = result.emotions()
    for box, (emotion, _) in zip(boxes, emotions, strict=True):
        _draw_box(picture, box, colour(emotion), thickness)
    # Labels come after all boxes, so that no neighbour's box runs through them.
    for i, (box, (emotion, confidence)) in enumerate(zip(boxes, emotions, strict=True)):
        name = emotion if result.faces.ids is None else f"{result.faces.ids[i]} {emotion}"
        # A small face in a large frame gets smaller letters, but never unreadable ones.
        size = round(max(9, min(18 * unit, max(12 * unit, 0.22 * (box[2] - box[0])))))
        doubt = "?" if result.uncertain is not None and result.uncertain[i] else ""
        label = _label(
            (f"{name}{doubt} {confidence:.0%}".replace("%", " %"), emotion + doubt),
            colour(emotion),
            size,
            width,
            height,
        )
        if label is None:
            continue
        spot = _place(label.shape[1], label.shape[0], box, width, height, taken, thickness)
        taken.append(spot)
        picture[spot[1] : spot[3], spot[0] : spot[2]] = label
    return picture


def _whole(box: Array, width: int, height: int) -> _Spot:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    return (
        min(x1, width - 1),
        min(y1, height - 1),
        min(max(x2 - 1, 0), width - 1),
        min(max(y2 - 1, 0), height - 1),
    )


def _draw_box(picture: Array, box: _Spot, rgb: tuple[int, int, int], thickness: int) -> None:
    """A coloured line with a thin dark one on each side, which shows on any background."""
    for line, tint in ((thickness + 2, (20, 20, 20)), (thickness, rgb)):
        cv2.rectangle(picture, box[:2], box[2:], tint, line, cv2.LINE_AA)


def _place(
    width: int, height: int, box: _Spot, frame_width: int, frame_height: int, taken: list[_Spot], gap: int
) -> _Spot:
    """Where a label goes: above its face, else below, else inside; the first that hits no other label."""
    x1, y1, x2, y2 = box
    rows = (y1 - height - gap, y2 + gap, y1 + gap, y2 - height - gap)
    spots = []
    for y in rows:
        for x in (x1 - gap // 2, x2 - width + gap // 2):
            left = min(max(x, 0), frame_width - width)
            if 0 <= y <= frame_height - height:
                spots.append((left, y, left + width, y + height))
    left, top = min(max(x1, 0), frame_width - width), min(max(rows[0], 0), frame_height - height)
    fallback = (left, top, left + width, top + height)
    free = (s for s in spots if not any(_meet(s, other) for other in taken))
    return next(free, (spots or [fallback])[0])


def _meet(a: _Spot, b: _Spot) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@lru_cache(maxsize=1024)
def _label(texts: tuple[str, ...], rgb: tuple[int, int, int], size: int, width: int, height: int) -> Array | None:
    """The first of `texts` that fits the width and a third of the height of a frame, in a filled chip; None
    where none does at 7 pixels."""
    for text in texts:
        for points in range(size, 6, -1):
            chip = _chip(text, rgb, points)
            if chip.shape[1] <= width and 3 * chip.shape[0] <= height:
                return chip
    return None


def _chip(text: str, rgb: tuple[int, int, int], points: int) -> Array:
    font = ImageFont.load_default(points)
    left, top, right, bottom = font.getbbox(text)
    # The height comes from letters with the longest strokes, so that all labels of a frame are equally high.
    _, top, _, bottom = font.getbbox("Ay%")
    pad = max(2, round(points * 0.3))
    size = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad - pad // 2)
    image = Image.new("RGB", size, rgb)
    # WCAG's relative luminance; at 0.18 black and white letters stand out equally.
    luminance = np.dot((np.array(rgb) / 255) ** 2.2, (0.2126, 0.7152, 0.0722))
    ink = (15, 15, 15) if luminance > 0.18 else (255, 255, 255)
    ImageDraw.Draw(image).text((pad - left, pad - pad // 4 - top), text, font=font, fill=ink)
    return np.asarray(image)
