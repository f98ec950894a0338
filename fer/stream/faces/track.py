"""Tracking: a face keeps its id while it is visible, until a scene cut."""

import itertools
import warnings
from collections import defaultdict
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from fer.checks import check_number
from fer.stream.faces.boxes import iou
from fer.stream.types import Array, Faces

UNCONFIRMED = 0
"""Id of a face that has been detected only once so far."""

_SAME_FACE = 0.1
"""IoU above which boxes of successive searches may be the same face."""


class Tracker:
    """ByteTrack (Zhang et al. 2022, by the package `trackers`) over the faces of one source.

    Args:
        lost: Seconds for which a face may be out of sight and keep its id.

    Raises:
        ConfigError: `lost` is out of range.
    """

    def __init__(self, lost: float = 1.0) -> None:
        check_number("tracking.lost", lost, 0, 60, above=True)
        self._lost = float(lost)
        self._time = -np.inf
        self._ids = defaultdict[int, int](itertools.count(1).__next__)  # by ByteTrack's number; no id is used twice
        self._tracker = self._new_tracker()

    def _new_tracker(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from libraries that only this import loads
            from trackers import ByteTrackTracker

        # Given timestamps, the buffer is in seconds times this rate. Any detected face may start a track.
        return ByteTrackTracker(
            lost_track_buffer=max(1, round(self._lost * 30)),
            frame_rate=30.0,
            track_activation_threshold=0.0,
            high_conf_det_threshold=0.0,
            minimum_consecutive_frames=2,
        )

    def update(self, faces: Faces, time: float) -> Array:
        """Return the ids of the faces of the next frame.

        Args:
            faces: The faces. Their own ids are ignored.
            time: Seconds, increasing from frame to frame.

        Returns:
            int64 (N,), counted from 1; `UNCONFIRMED` for faces not yet detected twice in a row.
        """
        import supervision as sv

        self._time = max(time, self._time + 1e-3)  # in broken sources, time stands still or runs backwards
        detections = sv.Detections(faces.boxes, confidence=faces.scores, data={"index": np.arange(len(faces))})
        tracked = self._tracker.update(detections, timestamp=self._time)
        ids = np.full(len(faces), UNCONFIRMED, np.int64)
        if len(tracked):
            known = tracked.tracker_id >= 0
            ids[tracked.data["index"][known]] = [self._ids[number] for number in tracked.tracker_id[known].tolist()]
        return ids

    def cut(self) -> None:
        """Begin another scene, in which no earlier face returns."""
        self._ids.clear()
        self._tracker = self._new_tracker()


def confirm(faces: Faces, later: Faces) -> Faces:
    """Give each unconfirmed face the id of the face that it overlaps in the next searched frame, if there is one."""
    assert faces.ids is not None and later.ids is not None
    ids, overlaps = faces.ids.copy(), iou(faces.boxes, later.boxes)
    overlaps[ids != UNCONFIRMED] = 0
    overlaps[:, (later.ids == UNCONFIRMED) | np.isin(later.ids, ids)] = 0
    while overlaps.max(initial=0) > _SAME_FACE:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        ids[i] = later.ids[j]
        overlaps[i], overlaps[:, j] = 0, 0
    return replace(faces, ids=ids)


class SceneCutDetector:
    """`is_cut(image)` → whether nearly all of the picture changed since the previous one.

    Pictures are compared as grey copies of 32 × 18 pixels after histogram equalization, so that a flash or a lamp is
    not a cut.

    Args:
        threshold: Mean absolute difference, of 255, above which two pictures belong to different scenes.
    """

    def __init__(self, threshold: float = 45.0) -> None:
        self._threshold = threshold
        self._previous: tuple[tuple[int, ...], Array] | None = None

    def __call__(self, image: Array) -> bool:
        """Return whether `image`, uint8 (H, W, 3), begins another scene, as a change of size does."""
        step = max(1, min(image.shape[0] // 72, image.shape[1] // 128))  # resizing all of a large frame takes longer
        part = np.ascontiguousarray(image[::step, ::step])
        small = cv2.cvtColor(cv2.resize(part, (32, 18), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        now = cv2.equalizeHist(small).astype(np.float32)
        now -= now.mean()  # equalization does not change a picture of one colour
        (shape, previous), self._previous = self._previous or (image.shape, now), (image.shape, now)
        return shape != image.shape or float(np.abs(now - previous).mean()) > self._threshold
