"""Geometry of boxes, given as x1 y1 x2 y2 in pixels."""

import numpy as np

from fer.faces.types import Array


def area(boxes: Array) -> Array:
    """Return the areas (N,) of boxes (N, 4)."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def intersection(boxes: Array, others: Array) -> Array:
    """Return the area that each of N boxes shares with each of M others, (N, M)."""
    corners = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return np.asarray(corners.clip(0).prod(axis=2))


def cover(boxes: Array, others: Array) -> Array:
    """Return the share of each of M others that each of N boxes covers, (N, M), 0 to 1."""
    return np.asarray(intersection(boxes, others) / area(others))
