"""Tracking: a face keeps its id while it is visible, until a scene cut."""

import itertools
import warnings
from typing import Any

import cv2
import numpy as np

from fer.checks import check_number
from fer.faces.types import Array, Faces
from fer.stream.types import Frame


class Tracker:
    """ByteTrack (Zhang et al. 2022, by the package `trackers`) over the faces of one source.

    Its filter counts searches, not seconds, so that slow films and long distances between two searches are tracked like
    any other. This class is where searches and seconds meet.

    Args:
        lost: Seconds for which a face may be out of sight and keep its id, from the first search that misses it. A
            search within this time also decides whether a face of the search before was one.

    Attributes:
        waiting: int64 (W,), ids of the new faces of the last search, of which the next one decides whether they are
            faces.
        unsure: Whether the last search found new faces or missed some, so that the next frame should be searched, too.

    Raises:
        ConfigError: `lost` is out of range.
    """

    def __init__(self, lost: float = 1.0) -> None:
        check_number("tracking.lost", lost, 0, 60, above=True)
        self._lost = float(lost)
        self._next_id = itertools.count(1).__next__
        self.cut()

    def cut(self) -> None:
        """Begin another scene, in which no earlier face returns and none waits for a second detection."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from libraries that only this import loads
            from trackers import ByteTrackTracker

        # Any detected face may start a track. Tracks are ended here, not by the tracker.
        self._tracker: Any = ByteTrackTracker(
            lost_track_buffer=10**6, track_activation_threshold=0.0, high_conf_det_threshold=0.0
        )
        self._time = -np.inf  # of the last search
        self._missed: dict[int, float] = {}  # by id, the time since when a track is out of sight
        self.waiting: Array = np.zeros(0, np.int64)
        self.unsure = False

    def update(self, faces: Faces, time: float, ahead: bool = True, interrupted: bool = False) -> tuple[Array, Array]:
        """Track the faces of the next search.

        A face that is new waits for a second detection. The next search decides if it comes within `lost`; if there is
        none in this scene, or only a later one, nothing speaks against the face.

        Args:
            faces: The N faces. Their own ids are ignored.
            time: Seconds, increasing from search to search.
            ahead: Whether the faces can wait for the next search. If not, whether it comes in time is judged by the
                distance to the last one.
            interrupted: Whether the source was away since the last search, so that its faces were out of sight.

        Returns:
            Ids of the faces, int64 (N,), counted from 1, none used twice; ids of faces that waited for this search,
            which did not find them, int64 (M,).
        """
        in_time = time - self._time <= self._lost
        if interrupted:
            self._missed = {track.tracker_id: self._time for track in self._tracker.tracks} | self._missed
        self._remove([identity for identity, since in self._missed.items() if time - since > self._lost])
        ids = self._associate(faces)
        dropped = self.waiting[~np.isin(self.waiting, ids)] if in_time and len(self.waiting) else self.waiting[:0]
        self._remove(dropped)
        tracks = self._tracker.tracks
        self._missed = {t.tracker_id: self._missed.get(t.tracker_id, time) for t in tracks if t.time_since_update}
        new = [t.tracker_id for t in tracks if t.age == 0]
        self.waiting = np.array(new if ahead or in_time else [], np.int64)
        self.unsure = len(self.waiting) > 0 or time in self._missed.values()
        self._time = time
        return ids, dropped

    def _remove(self, ids: Array | list[int]) -> None:
        self._tracker.tracks = [track for track in self._tracker.tracks if track.tracker_id not in ids]

    def _associate(self, faces: Faces) -> Array:
        """Return the ids of faces. New tracks get theirs at once, not by the tracker at their second detection."""
        import supervision as sv

        detections = sv.Detections(faces.boxes, confidence=faces.scores, data={"index": np.arange(len(faces))})
        tracked = self._tracker.update(detections)
        ids = np.zeros(len(faces), np.int64)
        if len(tracked):
            ids[tracked.data["index"]] = tracked.tracker_id
        started = [track for track in self._tracker.tracks if track.tracker_id < 0]  # in the order of the faces
        for i, track in zip(np.flatnonzero(ids < 0), started, strict=True):
            ids[i] = track.tracker_id = self._next_id()
        return ids


class SceneCutDetector:
    """`is_cut(frame)` → whether nearly all of the picture changed since the previous one.

    Pictures are compared by their thumbnails.

    Args:
        threshold: Mean absolute difference, of 255, above which two pictures belong to different scenes.
    """

    def __init__(self, threshold: float = 45.0) -> None:
        self._threshold = threshold
        self._previous: tuple[tuple[int, ...], Array] | None = None

    def __call__(self, frame: Frame) -> bool:
        """Return whether `frame` begins another scene. One without an image does not."""
        if frame.error is not None:
            return False
        now = frame.thumbnail()
        (shape, previous), self._previous = self._previous or (frame.image.shape, now), (frame.image.shape, now)
        return shape != frame.image.shape or cv2.norm(now, previous, cv2.NORM_L1) / now.size > self._threshold
