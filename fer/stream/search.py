"""Which frames of a source are searched for faces."""

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.stats import Stats
from fer.stream.types import Array, Detections, Faces, Frame

Detect = Callable[[Frame], Faces]

_WIDTH = 320
"""Width in pixels of the copies that are compared for motion."""

_BLOCKS = 32, 18
"""Columns and rows of blocks whose mean colours are compared."""

_MOVED = 3.0
"""By how many levels, of 255, the mean of a block must change to have moved. The noise of a camera changes it less."""

_STILL = 1.0
"""Seconds after which a frame is searched even if nothing moves."""


def search(
    frames: Iterable[Frame],
    detect: Detect,
    tracker: Tracker | None,
    stats: Stats,
    every: int,
    skip_still: bool = False,
) -> Iterator[Detections]:
    """Yield the detections of each frame.

    Every k-th frame is searched, the first frame of a scene, and frames after a search that found new faces or missed
    some. If `every` is more than 1, or with `skip_still`, each frame must be tracked before the next one is taken.

    Args:
        frames: The frames.
        detect: `Frame` → `Faces`.
        tracker: Knows whether the last search found new faces or missed some; None for stills.
        stats: Gets the time of each search, and the number of frames that are left out as still.
        every: The k above.
        skip_still: Leave out frames in which nothing moves where a face is or could come into the picture.
    """
    is_cut = None if tracker is None else SceneCutDetector()
    still = Still() if skip_still and tracker is not None else None
    for count, frame in enumerate(frames):
        cut, faces = is_cut is not None and is_cut(frame), Faces.none()
        needed = cut or (tracker is not None and tracker.unsure)
        searched = needed or count % every == 0
        if still is not None and searched and not needed and still(frame):
            searched = False
            stats.still += 1
        if searched and frame.error is None:
            with stats.stage("detect"):
                faces = detect(frame)
            if still is not None:
                still.keep(frame, faces)
        yield Detections(frame, faces, searched, cut)


class Still:
    """`still(frame)` → whether no search of a frame is needed, because no face can have come, gone or changed.

    That is so if nothing has moved, since the last search, at the edges of the picture, nor at its faces and around
    them by half of their size. Frames are compared by the mean colours of blocks.
    """

    def __init__(self) -> None:
        self._time, self._levels, self._watched = -np.inf, np.zeros(0), np.zeros(_BLOCKS[::-1], bool)

    def keep(self, frame: Frame, faces: Faces) -> None:
        """Remember the last frame that was searched, and its faces."""
        self._time, self._levels = frame.time, _levels(frame)
        self._watched[:] = True
        self._watched[1:-1, 1:-1] = False
        (columns, rows), (height, width) = _BLOCKS, frame.image.shape[:2]
        for x1, y1, x2, y2 in faces.boxes.tolist():
            across, down = (x2 - x1) / 2, (y2 - y1) / 2
            left, right = (int(x * columns / width) for x in (max(0, x1 - across), x2 + across))
            top, bottom = (int(y * rows / height) for y in (max(0, y1 - down), y2 + down))
            self._watched[top : bottom + 1, left : right + 1] = True

    def __call__(self, frame: Frame) -> bool:
        if frame.error is not None or not frame.time - self._time < _STILL:
            return False
        moved = np.abs(_levels(frame) - self._levels).max(axis=2) > _MOVED
        return not (moved & self._watched).any()


def _levels(frame: Frame) -> Array:
    """Return the mean colours of blocks, float32 (18, 32, 3)."""
    blocks = cv2.resize(frame.reduced(_WIDTH), _BLOCKS, interpolation=cv2.INTER_AREA)
    return blocks.astype(np.float32)
