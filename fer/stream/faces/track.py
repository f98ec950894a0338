"""Who is who: ids that last as long as a face is seen, and end at a cut."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer.errors import ConfigError
from fer.stream.types import Array, Faces

if TYPE_CHECKING:
    from trackers import ByteTrackTracker

UNCONFIRMED = 0
"""The id of a face that has not been seen twice yet."""


class Tracker:
    """ByteTrack (Zhang et al. 2022) over the boxes of one source, by way of `trackers`.

    lost: seconds that a face may be out of sight and keep its id. Ids count from 1, and none is given twice.
    Raises `ConfigError` where a value cannot work.
    """

    def __init__(self, lost: float = 1.0) -> None:
        if not isinstance(lost, int | float) or isinstance(lost, bool) or not 0 < lost <= 60:
            raise ConfigError(f"tracking.lost={lost} cannot work; give seconds, above 0 and up to 60")
        self._lost = float(lost)
        self._next = 1
        self._known: dict[int, int] = {}
        self._tracker = self._fresh()
        self._time: float | None = None

    def _fresh(self) -> "ByteTrackTracker":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that only this import brings
            from trackers import ByteTrackTracker

        self._known = {}
        # With timestamps the buffer counts seconds at this rate. All that the detector reports may start a track.
        return ByteTrackTracker(
            lost_track_buffer=max(1, round(self._lost * 30)),
            frame_rate=30.0,
            track_activation_threshold=0.0,
            high_conf_det_threshold=0.0,
            minimum_consecutive_frames=2,
        )

    def update(self, faces: Faces, time: float) -> Array:
        """The ids of the faces of the next frame, int64 (N,), `UNCONFIRMED` for those not seen twice in a row yet.

        time: seconds, growing from frame to frame.
        """
        ids = np.full(len(faces), UNCONFIRMED, np.int64)
        for place, theirs in self._tracks(faces, time):
            ids[place] = self._own(theirs)
        return ids

    def _tracks(self, faces: Faces, time: float) -> list[tuple[int, int]]:
        """Each face that has a track, by its place, and the tracker's own number of that."""
        import supervision as sv

        if self._time is not None:
            time = max(time, self._time + 1e-3)  # broken sources have time that stands still or runs backwards
        self._time = time
        order = np.arange(len(faces))
        found = sv.Detections(xyxy=faces.boxes, confidence=faces.scores, data={"place": order})
        found = self._tracker.update(found, timestamp=time)
        tracks = np.zeros(0, np.int64) if found.tracker_id is None else found.tracker_id
        places = found.data.get("place", ())
        return [(int(place), int(track)) for place, track in zip(places, tracks, strict=True) if track >= 0]

    def _own(self, theirs: int) -> int:
        if theirs not in self._known:
            self._known[theirs] = self._next
            self._next += 1
        return self._known[theirs]

    def cut(self) -> None:
        """Another scene begins: whoever is seen next is somebody else."""
        self._tracker = self._fresh()


def confirm(faces: Faces | None, after: Faces | None) -> Faces:
    """The faces of a frame once those of its successor are known: unconfirmed ones get the id that their place has then.

    Faces that are not there in the next frame stay unconfirmed.
    """
    assert faces is not None and after is not None and faces.ids is not None and after.ids is not None
    ids = faces.ids.copy()
    new = [j for j, identity in enumerate(after.ids) if identity != UNCONFIRMED and identity not in ids]
    pairs = [(_iou(faces.boxes[i], after.boxes[j]), i, j) for i in np.flatnonzero(ids == UNCONFIRMED) for j in new]
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap > 0.1 and ids[i] == UNCONFIRMED and after.ids[j] not in ids:
            ids[i] = after.ids[j]
    return replace(faces, ids=ids)


def _iou(a: Array, b: Array) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = float(np.prod(sides))
    return shared / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared)


class CutDetector:
    """Tells where a film cuts: nearly all of a 32 × 18 copy in grey changes from one frame to the next.

    threshold: mean change of its pixels, of 255, taken after each copy's own brightness and contrast are evened out,
    so that a flash or a lamp is no cut.
    """

    def __init__(self, threshold: float = 45.0) -> None:
        self._threshold = threshold
        self._before: Array | None = None
        self._shape: tuple[int, ...] = ()

    def __call__(self, image: Array) -> bool:
        """Whether `image`, uint8 (H, W, 3), begins another scene, as one of another size does; the first does not."""
        step = max(1, min(image.shape[0] // 72, image.shape[1] // 128))  # all of a large frame would take longer
        part = np.ascontiguousarray(image[::step, ::step])
        small = cv2.cvtColor(cv2.resize(part, (32, 18), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        now = cv2.equalizeHist(small).astype(np.float32)
        now -= now.mean()  # a picture of one colour is not evened out
        before, self._before = self._before, now
        shape, self._shape = self._shape, image.shape
        if before is None:
            return False
        return shape != image.shape or float(np.abs(now - before).mean()) > self._threshold
