"""One face as the square that a model sees."""

import cv2

from fer.faces.types import Array


def crop_face(image: Array, box: Array, margin: float, size: int) -> Array:
    """Crop one face.

    The crop is a square around the centre of the box; its side is the longer side of the box times (1 + 2 · margin).
    Both are rounded to whole pixels, a large side to an even number. Outside the frame, its border pixels are repeated.

    Args:
        image: uint8 (H, W, 3).
        box: (4,), x1 y1 x2 y2 in pixels.
        margin: Share of the longer side that is added on each side: the artifact's `crop_margin`.
        size: Side of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))
    large = side >= 8 * size
    if large:
        side -= side % 2
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    # Rounding could move the square out of the frame; keep at least one pixel inside.
    left, top = min(max(left, 1 - side), width - 1), min(max(top, 1 - side), height - 1)
    right, bottom = left + side, top + side
    face = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    beyond = max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)
    if any(beyond):
        face = cv2.copyMakeBorder(face, *beyond, cv2.BORDER_REPLICATE)
    if large:  # halving is much faster than any other ratio
        face = cv2.resize(face, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    # Area averaging shrinks without aliasing, but enlarges to blocks.
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(face, (size, size), interpolation=method)
