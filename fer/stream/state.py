"""What a run remembers from frame to frame: ids, smoothing, poses and resting faces."""

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np

from fer.faces.pose import HeadPose
from fer.faces.types import Array
from fer.stream.faces.baseline import Baseline
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.types import Detections, FrameResult


class TemporalState:
    """The state of one run, kept from frame to frame.

    Args:
        tracker: Gives faces their ids; None for stills.
        smoother: Smooths the probabilities of faces with ids, and decides which faces are uncertain.
        baseline: Corrects the probabilities by the first seconds of each face, which are uncertain; None for nothing.
    """

    def __init__(self, tracker: Tracker | None, smoother: Smoother, baseline: Baseline | None = None) -> None:
        self.tracker, self.smoother, self._baseline, self._pose = tracker, smoother, baseline, HeadPose()
        self._ids = defaultdict[int, int](itertools.count(1).__next__)  # by the tracker's, which false faces have too

    def identify(self, item: Detections, ahead: bool = False) -> tuple[Detections, Array]:
        """Give the faces of the next searched frame their ids.

        Args:
            item: The frame.
            ahead: Whether it can wait for the next search, which may confirm its new faces. If not, they are left out.

        Returns:
            The frame, and the ids of faces of the frame before, int64 (D,), that this search did not confirm.
        """
        if self.tracker is None:
            return item, np.zeros(0, np.int64)
        if item.cut:
            self.tracker.cut()
        frame = item.frame
        ids, dropped = self.tracker.update(item.faces, frame.time, ahead, frame.event is not None)
        item = replace(item, faces=replace(item.faces, ids=ids))
        return item if ahead else without(item, self.tracker.waiting), dropped

    def result(self, item: Detections, classes: tuple[str, ...], probabilities: Array) -> FrameResult:
        """Return the result of the next searched frame, smoothed if its faces have ids."""
        if item.cut:
            self._ids.clear()  # of faces that do not return
        faces = item.faces
        if faces.ids is not None:
            faces = replace(faces, ids=np.array([self._ids[k] for k in faces.ids.tolist()], np.int64))
        pose = self._pose(item.frame.image, faces, item.frame.time)
        early = np.zeros(len(faces), bool)
        if self._baseline is not None:
            probabilities, early = self._baseline(faces.ids, probabilities, item.frame.time)
        smoothed, labels, uncertain = self.smoother(faces.ids, probabilities, item.frame.time)
        uncertain |= early
        if pose is not None:
            uncertain |= self.smoother.turned(pose)
        shown = probabilities, smoothed, labels, uncertain
        return FrameResult(item.frame, faces, classes, *shown, unconfirmed=item.unconfirmed, cut=item.cut, pose=pose)


def without(item: Detections, ids: Array) -> Detections:
    """Move the faces with these ids from `item.faces` to `item.unconfirmed`."""
    faces = item.faces
    if faces.ids is None or not len(ids):
        return item
    kept = ~np.isin(faces.ids, ids)
    return replace(item, faces=faces[kept], unconfirmed=np.concatenate([item.unconfirmed, faces.boxes[~kept]]))
