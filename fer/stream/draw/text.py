"""Text on pictures."""

from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer import fonts
from fer.faces.types import Array

Colour = tuple[int, int, int]


@lru_cache(maxsize=1024)
def letters(text: str, points: int) -> Array:
    """Return how much the letters cover each pixel, uint8 (H, W).

    H depends only on `points`, except for letters of other scripts that are higher or lower than Latin ones.
    """
    font = ImageFont.load_default(points)
    assert isinstance(font, ImageFont.FreeTypeFont)
    if not text.isascii():  # the default font has no other letters
        return _other_letters(text, points, *font.getmetrics())
    image = Image.new("L", (max(1, ceil(font.getlength(text))), sum(font.getmetrics())))
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=255)
    return np.asarray(image)


def _other_letters(text: str, points: int, ascent: int, descent: int) -> Array:
    """Return letters of any script, shaped and ordered as they are read, on the same base line as `letters`."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # takes half a second to import

    text, families = fonts.fit(text)
    font = get_font([findfont(FontProperties(family=[family])) for family in families])
    font.set_size(0.9 * points, 72)  # its letters are larger than those of the default font
    font.set_text(text)
    font.draw_glyphs_to_bitmap()
    ink = np.asarray(font.get_image())
    below = ceil(font.get_descent() / 64)
    above = len(ink) - below
    picture = np.zeros((max(ascent, above) + max(descent, below), max(1, ink.shape[1])), np.uint8)
    top = max(ascent, above) - above
    picture[top : top + len(ink), : ink.shape[1]] = ink
    return picture


def write(picture: Array, text: str, x: int, y: int, colour: Colour, points: int) -> None:
    """Write into `picture`, uint8 (H, W, 3), with the top left corner of the text at (x, y), cut off at the edges."""
    part = picture[y:, x:]
    cover = letters(text, points)[: part.shape[0], : part.shape[1], None] / 255
    part = part[: cover.shape[0], : cover.shape[1]]
    part[:] = np.round(part * (1 - cover) + np.array(colour) * cover)


def label(text: str, background: Colour, points: int) -> Array:
    """Return a filled label, uint8 (H, W, 3), whose letters are black or white, whichever is easier to read."""
    height, width = letters(text, points).shape
    pad = max(2, round(points * 0.3))
    picture = np.full((height + pad - pad // 2, width + 2 * pad, 3), background, np.uint8)
    # By the relative luminance of WCAG; at 0.18, black and white contrast equally with the background.
    luminance = np.dot((np.array(background) / 255) ** 2.2, (0.2126, 0.7152, 0.0722))
    write(picture, text, pad, 0, (15, 15, 15) if luminance > 0.18 else (255, 255, 255), points)
    return picture
