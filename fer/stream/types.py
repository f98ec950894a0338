"""Values that pass between the stages of the pipeline. Each is checked when it is created."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fer.faces.types import Array, Faces, Picture, check_array

LOGGED = 6
"""Decimals of a probability in the log."""

ANGLES = "yaw", "pitch", "roll"
"""Of the head pose, in the order of its columns."""


@dataclass(frozen=True, eq=False)
class Frame(Picture):
    """One picture of a source.

    Attributes:
        image: uint8 (H, W, 3), RGB, upright.
        index: Position in the source, from 0.
        time: Seconds since the start of the source, 0 for stills.
        file: Name of the still, None for videos and cameras.
        error: Why this still could not be read; the image is then (0, 0, 3).
        event: What happened before this frame, such as "camera 0 was away for 2.1 s", for the log.
        captured: `time.monotonic()` when a live source delivered the frame, None for other sources.

    Raises:
        ValueError: A value has the wrong shape, dtype or range.
    """

    index: int
    time: float
    file: str | None = None
    error: str | None = None
    event: str | None = None
    captured: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image.size > 0) != (self.error is None):
            raise ValueError("a frame has either a picture or an error")
        if self.index < 0:
            raise ValueError(f"index must be 0 or more, not {self.index}")
        if not math.isfinite(self.time):
            raise ValueError(f"time must be a number of seconds, not {self.time}")

    @property
    def still(self) -> bool:
        """Only stills have a file name."""
        return self.file is not None

    def thumbnail(self) -> Array:
        """Return the grey levels of a copy of 32 × 18 pixels, made once: float32 (18, 32), with a mean of 0.

        Its histogram is equalized, so that a flash or a lamp changes little.
        """
        if 0 not in self._copies:
            height, width = self.image.shape[:2]
            size = min(width, 128), min(height, 72)
            sample = cv2.resize(self.image, size, interpolation=cv2.INTER_NEAREST)  # a mean of all would take longer
            small = cv2.cvtColor(cv2.resize(sample, (32, 18), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
            levels = cv2.equalizeHist(small)
            # Equalization does not change a picture of one colour, so the mean goes, too.
            self._copies[0] = np.subtract(levels, cv2.mean(levels)[0], dtype=np.float32)
        return self._copies[0]


@dataclass(frozen=True, eq=False)
class Detections:
    """A frame after detection.

    Attributes:
        frame: The frame.
        faces: Its faces, none if the frame was not searched.
        searched: Whether this frame was searched for faces.
        cut: Whether another scene begins with this frame.
        unconfirmed: float32 (M, 4), boxes that were removed from `faces` because they are unconfirmed.
    """

    frame: Frame
    faces: Faces
    searched: bool = True
    cut: bool = False
    unconfirmed: Array = field(default_factory=lambda: Faces.none().boxes)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame, its N faces and their probabilities of K classes.

    Attributes:
        frame: The frame.
        faces: Its faces.
        classes: Names of the K classes.
        probabilities: float32 (N, K), calibrated probabilities for this frame alone; those of the last searched frame
            if this one was not searched.
        smoothed: float32 (N, K), the probabilities smoothed over time; None without smoothing.
        labels: int64 (N,), the class shown for each face, which changes less often than the most probable class; None
            to show the most probable class.
        uncertain: bool (N,), whether the confidence is too low to rely on; None if unknown.
        searched: Whether this frame was searched for faces. If not, the faces are those of an earlier frame.
        unconfirmed: float32 (M, 4), boxes that were detected only once and may not be faces.
        cut: Whether another scene begins with this frame.
        pose: float32 (N, 3), degrees of yaw, pitch and roll as in `fer.faces.pose`, NaN where unknown; None if the
            detector finds no points.

    Raises:
        ValueError: A value has the wrong shape, dtype or range.
    """

    frame: Frame
    faces: Faces
    classes: tuple[str, ...]
    probabilities: Array
    smoothed: Array | None = None
    labels: Array | None = None
    uncertain: Array | None = None
    searched: bool = True
    unconfirmed: Array = field(default_factory=lambda: Faces.none().boxes)
    cut: bool = False
    pose: Array | None = None

    def __post_init__(self) -> None:
        n, k = len(self.faces), len(self.classes)
        check_array("probabilities", self.probabilities, np.float32, (n, k), 0, 1)
        check_array("smoothed", self.smoothed, np.float32, (n, k), 0, 1)
        check_array("labels", self.labels, np.int64, (n,), 0, k - 1)
        check_array("uncertain", self.uncertain, np.bool_, (n,))
        check_array("pose", None if self.pose is None else np.nan_to_num(self.pose), np.float32, (n, 3), -180, 180)
        check_array("unconfirmed", self.unconfirmed, np.float32, (len(self.unconfirmed), 4))

    @property
    def shown(self) -> Array:
        """float32 (N, K): smoothed probabilities if there are any, else those of this frame."""
        return self.probabilities if self.smoothed is None else self.smoothed

    def emotions(self) -> list[tuple[str, float]]:
        """Return the class shown for each face, and its probability, 0 to 1."""
        best = self.shown.argmax(axis=1) if self.labels is None else self.labels
        return [(self.classes[k], float(row[k])) for k, row in zip(best, self.shown, strict=True)]

    def row(self) -> dict[str, Any]:
        """Return the log row of this frame, plain values only: `frame`, `time` in seconds, `faces`.

        A face has `id` (None without tracking), `box` in pixels of the original frame, `score`, `yaw`, `pitch` and
        `roll` in degrees (None if unknown), `emotion`, `confidence`, `uncertain`, `probabilities` by class, and
        `smoothed` likewise or None. Stills also have `file`,
        and `error` if the file could not be read. `event` is what happened before the frame. `carried` is true if
        the faces are those of an earlier frame.
        """
        frame, carried = self.frame, None if self.searched else True
        optional = {"file": frame.file, "error": frame.error, "event": frame.event, "carried": carried}
        known = {name: value for name, value in optional.items() if value is not None}
        faces = [self._face(i, *emotion) for i, emotion in enumerate(self.emotions())]
        return {"frame": frame.index, "time": round(frame.time, 6), **known, "faces": faces}

    def _face(self, i: int, emotion: str, confidence: float) -> dict[str, Any]:
        return {
            "id": None if self.faces.ids is None else int(self.faces.ids[i]),
            "box": [round(float(v), 1) for v in self.faces.boxes[i]],
            "score": round(float(self.faces.scores[i]), 4),
            **{name: self._angle(i, k) for k, name in enumerate(ANGLES)},
            "emotion": emotion,
            "confidence": round(confidence, LOGGED),
            "uncertain": bool(self.uncertain is not None and self.uncertain[i]),
            "probabilities": self._by_class(self.probabilities[i]),
            "smoothed": None if self.smoothed is None else self._by_class(self.smoothed[i]),
        }

    def _angle(self, i: int, k: int) -> float | None:
        return None if self.pose is None or np.isnan(self.pose[i, k]) else round(float(self.pose[i, k]), 1)

    def _by_class(self, values: Iterable[float]) -> dict[str, float]:
        return {name: round(float(v), LOGGED) for name, v in zip(self.classes, values, strict=True)}
