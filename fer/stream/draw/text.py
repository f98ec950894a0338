"""Words on pictures."""

from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.stream.types import Array

Colour = tuple[int, int, int]


@lru_cache(maxsize=1024)
def letters(text: str, points: int) -> Array:
    """Return how much the letters cover each pixel, uint8 (H, W). Texts of one size are equally high."""
    font = ImageFont.load_default(points)
    _, top, right, bottom = font.getbbox(text)
    _, highest, _, lowest = font.getbbox("bdfy%")
    top, bottom = min(top, highest), max(bottom, lowest)
    image = Image.new("L", (max(1, ceil(right)), ceil(bottom - top)))
    ImageDraw.Draw(image).text((0, -top), text, font=font, fill=255)
    return np.asarray(image)


def write(picture: Array, text: str, x: int, y: int, colour: Colour, points: int) -> None:
    """Write into `picture`, uint8 (H, W, 3), with the left upper corner of the text at (x, y), cut off at the edges."""
    spot = picture[y:, x:]
    cover = letters(text, points)[: spot.shape[0], : spot.shape[1], None] / 255
    spot = spot[: cover.shape[0], : cover.shape[1]]
    spot[:] = np.round(spot * (1 - cover) + np.array(colour) * cover)


def label(text: str, ground: Colour, points: int) -> Array:
    """Return a filled label, uint8 (H, W, 3), whose letters are black or white, whichever is easier to read."""
    height, width = letters(text, points).shape
    pad = max(2, round(points * 0.3))
    picture = np.full((height + 2 * pad - pad // 2, width + 2 * pad, 3), ground, np.uint8)
    # By the relative luminance of WCAG; at 0.18, black and white contrast equally with the ground.
    luminance = np.dot((np.array(ground) / 255) ** 2.2, (0.2126, 0.7152, 0.0722))
    write(picture, text, pad, pad - pad // 4, (15, 15, 15) if luminance > 0.18 else (255, 255, 255), points)
    return picture
