"""Which frames of a source are searched for faces."""

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from fer.faces.types import Array, Faces
from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.stats import Stats
from fer.stream.types import Detections, Frame

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
        stats: Gets the time of each search, and the number of frames that are skipped as still.
        every: The k above.
        skip_still: Do not search frames in which nothing has moved since the last search.
    """
    is_cut = None if tracker is None else SceneCutDetector()
    still = Still() if skip_still and tracker is not None else None
    for count, frame in enumerate(frames):
        cut, faces = is_cut is not None and is_cut(frame), Faces.none()
        needed = cut or (tracker is not None and tracker.unsure)
        searched = needed or count % every == 0
        if still is not None and searched and not needed and still(frame):
            searched = False
            stats.skipped += 1
        if searched and frame.error is None:
            with stats.stage("detect"):
                faces = detect(frame)
            if still is not None:
                still.keep(frame)
        yield Detections(frame, faces, searched, cut)


class Still:
    """`still(frame)` → whether nothing has moved since the last search, so that it would find the same faces.

    Frames are compared by the mean colours of blocks. All of the picture counts: a face may also turn to the camera, or
    come out from behind something.
    """

    def __init__(self) -> None:
        self._time, self._levels = -np.inf, np.zeros(0)

    def keep(self, frame: Frame) -> None:
        """Remember the last frame that was searched."""
        self._time, self._levels = frame.time, _levels(frame)

    def __call__(self, frame: Frame) -> bool:
        if frame.error is not None or not frame.time - self._time < _STILL:
            return False
        return bool(np.abs(_levels(frame) - self._levels).max() <= _MOVED)


def _levels(frame: Frame) -> Array:
    """Return the mean colours of blocks, float32 (18, 32, 3)."""
    blocks = cv2.resize(frame.reduced(_WIDTH), _BLOCKS, interpolation=cv2.INTER_AREA)
    return blocks.astype(np.float32)
