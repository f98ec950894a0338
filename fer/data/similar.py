"""Copies of one photograph that differ in compression, size, brightness, or a little in their crop."""

from collections.abc import Sequence

import cv2
import numpy as np

SIMILAR = 0.82
"""Correlation from which images of two datasets are copies of one photograph.

Chosen on FER-2013, where all faces are cut alike: all of 32 pairs from 0.80 to 0.85 were copies, and about half of
those from 0.70 to 0.76. None of the 62 million pairs of FER-2013 and 1,720 press photos reaches it. JPEG of quality 30,
32 pixels, gamma 1.5, clipped light, noise of σ 8, or a pixel less on each side leave 95 to 99 of 100 copies above it.
"""

SAME = 0.97
"""The same within a dataset, where one person may look into one camera with several expressions: in JAFFE, half of the
pairs from 0.95 and a quarter of those from 0.97 have different labels."""

_SIDE = 16
_ROWS = 512
_NONE = np.empty((0, 2), dtype=np.int64)


def find(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Find copies among images of any sizes, by the correlation of their gradients at 16 pixels.

    Gradients are the same in another light, and tell faces apart that the grey values do not. Images of one colour are
    copies of nothing.

    Args:
        images, others: uint8 (N, H, W) or (N, H, W, 3), also memory-mapped.

    Returns:
        int64 (P, 2), rows of `images` and `others`.
    """
    first, second = gradients(images), gradients(others)
    starts = range(0, len(first), _ROWS)
    return np.concatenate([_NONE, *(_alike(first, start, second, 0)[0] for start in starts)])


def within(parts: Sequence[np.ndarray], datasets: Sequence[str]) -> np.ndarray:
    """Find copies as `find` does, among the images of all parts, whose rows are counted through.

    Args:
        parts: Images, as in `find`.
        datasets: The dataset of each part.

    Returns:
        int64 (P, 2), pairs of rows, the smaller one first.
    """
    owner = np.repeat(np.unique(datasets, return_inverse=True)[1], [len(part) for part in parts])
    every = np.concatenate([gradients(part) for part in parts])
    result = [_NONE]
    for start in range(0, len(every), _ROWS):
        pairs, correlation = _alike(every, start, every, start)
        first, second = pairs.T
        result.append(pairs[(first < second) & ((correlation >= SAME) | (owner[first] != owner[second]))])
    return np.concatenate(result)


def _alike(first: np.ndarray, start: int, second: np.ndarray, skipped: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of some rows of `first` with those of `second`, and their correlations."""
    correlation = first[start : start + _ROWS] @ second[skipped:].T  # of all rows, it would not fit in memory
    rows, columns = np.nonzero(correlation >= SIMILAR)
    return np.stack([rows + start, columns + skipped], axis=1), correlation[rows, columns]


def gradients(images: np.ndarray) -> np.ndarray:
    """Return the differences between neighbours in each image at 16 pixels, float32 (N, 480), of length 1 or 0."""
    small = np.empty((len(images), _SIDE, _SIDE), dtype=np.float32)
    for row, image in enumerate(images):
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small[row] = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    across, down = (np.diff(small, axis=axis).reshape(len(small), _SIDE * (_SIDE - 1)) for axis in (2, 1))
    result = np.concatenate([across, down], axis=1)
    length = np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(length > 1, result / np.maximum(length, 1), 0).astype(np.float32)
