"""Hiding faces in the frames themselves, before anything is shown or saved."""

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from fer.checks import check_choice, check_number
from fer.errors import ConfigError
from fer.faces.boxes import area, cover
from fer.faces.detect import Detector, width_of_copy
from fer.faces.types import Array, Faces
from fer.stream.queues import with_end
from fer.stream.types import FrameResult

_SCORE = 0.4
"""Confidence, 0 to 1, from which something is hidden. At 0.5, faces that are turned or cut by the border are missed."""

_NARROW, _WIDE = 320, 880
"""Widths of the copies that are searched for large and for small faces, the second one as in `width_of_copy`."""

_MARGIN = 0.35
"""Margin that is hidden around a box (hair, ears and chin), as a share of its longer side."""

_GROWTH, _MOST = 1.0, 0.5
"""Growth of that margin per second since or until the face is detected, as it may move, and the largest growth."""

_AFTER, _BEFORE = 1.0, 0.5
"""Seconds for which a region is hidden after its face was last, and before it was first detected: detectors miss single
frames, and faces that turn or come in."""

_FRAMES = 5
"""Frames of slow films for which a face that is missed stays hidden, and that wait for its next detection."""

_BYTES = 96 * 2**20
"""The most bytes of frames that wait; two frames wait in any case."""

_NEAR = 3.0
"""Sides of its box that a face may have moved while it was missed."""

_CELLS = 4
"""Cells across a face's box, too few to recognize or restore the face."""

_REGION = np.dtype([("id", np.int64), ("box", np.float64, 4), ("time", np.float64), ("frame", np.int64)])
"""A region to hide: id of its face or 0, box in pixels, seconds and number of the frame in which it was detected."""


class Blur:
    """`blur.over(results)` → the same results, with frames in which faces are hidden.

    Every frame is searched, whether the results come from searched frames or not: at two widths, and at a lower score
    than for recognition. What the detector does not find at all cannot be hidden.

    Args:
        whom: "faces" hides every face that is detected, confirmed or not. "others" shows one of them: the face that is
            largest at first, for as long as it is tracked; one second after it is gone, the one that is largest then.
            In stills, the largest is shown. Frames that were not searched for the results show none.
        detector: Arguments of `Detector`, as for the results.

    Raises:
        ConfigError: `whom` is unknown, or a value is out of range.
    """

    def __init__(self, whom: str, detector: Mapping[str, Any] | None = None) -> None:
        check_choice("blur", whom, ("faces", "others", None))
        self._whom = whom
        score = Detector(**(detector or {})).score  # checks the values
        self._detector = Detector(**{**(detector or {}), "score": min(_SCORE, score)})
        self._recent: Array = np.zeros(0, _REGION)
        self._count = 0  # frames so far
        self._spared, self._spared_at = 0, (-np.inf, -9)

    def check(self, live: bool, every: int) -> str | None:
        """Return what to know before the run, in one line.

        Raises:
            ConfigError: `every` is not a whole number from 1, or leaves frames of a live source unsearched.
        """
        check_number("every", every, 1, whole=True)
        if live and every > 1:
            fix = "use every=1, or a smaller detector.still_width if that is too slow"
            raise ConfigError(f"every={every} does not fit blur={self._whom}, which searches every frame; {fix}")
        if live:
            return f"blur={self._whom}: a face is hidden from the frame on in which it is first detected"
        return f"every={every} is not used: blur={self._whom} searches every frame" if every > 1 else None

    def over(self, results: Generator[FrameResult], live: bool = False) -> Generator[FrameResult]:
        """Yield the results with faces hidden. Closing the generator closes `results`.

        live: Pass every frame on at once. Otherwise a frame is buffered for half a second, so that a face is hidden
        before it is first detected.
        """
        buffered: deque[tuple[FrameResult, Array]] = deque()
        with closing(results):
            for result in with_end(results):
                ends = result is None or result.cut  # what follows tells nothing about the frames so far
                while buffered and ends:
                    yield _hidden(*buffered.popleft())
                if result is not None:
                    self._add(result, buffered)
                    at_once = live or result.frame.file is not None
                    while buffered and (at_once or _may_go(buffered)):
                        yield _hidden(*buffered.popleft())

    def _add(self, result: FrameResult, buffered: deque[tuple[FrameResult, Array]]) -> None:
        """Append the next frame with its regions, and give the frames before it those of its new faces."""
        self._count += 1
        time, recent = result.frame.time, self._recent
        if result.cut or result.frame.file is not None:
            recent = recent[:0]
        late, old = time - recent["time"] > _AFTER, self._count - recent["frame"] > _FRAMES
        recent = recent[~(late & old)]
        boxes, ids, main = self._faces(result)
        found = np.zeros(len(boxes), _REGION)
        found["id"], found["box"], found["time"], found["frame"] = ids, boxes, time, self._count
        # A face is detected again if its id is, or if a new box covers its old one.
        again = cover(np.concatenate([boxes, main]), recent["box"]) > 0.5
        again[: len(boxes)] |= (ids[:, None] == recent["id"]) & (recent["id"] > 0)
        new = found[~again[: len(boxes), recent["frame"] == self._count - 1].any(axis=1)]
        recent = recent[~again.any(axis=0)]
        for k, (earlier, hidden) in enumerate(buffered):
            soon = new if time - earlier.frame.time <= _BEFORE or k == len(buffered) - 1 else new[:0]
            buffered[k] = earlier, np.concatenate([hidden, soon, _between(recent, new, earlier.frame.time)])
        self._recent = np.concatenate([found, recent])
        buffered.append((result, self._recent))

    def _faces(self, result: FrameResult) -> tuple[Array, Array, Array]:
        """Return the boxes to hide in a frame, (N, 4), their ids, (N,), and the box of a face to show, (0 or 1, 4)."""
        faces, frame, boxes = result.faces, result.frame, Faces.none().boxes
        if frame.error is None:
            widths = _NARROW, width_of_copy(frame.image, _WIDE), *self._detector.widths(frame)
            boxes = self._detector.search(frame, widths).boxes
        if result.searched:
            boxes = np.concatenate([boxes, faces.boxes, result.unconfirmed])
        spared = self._spare(result) if self._whom == "others" else None
        main = faces.boxes[[] if spared is None else [spared]]
        same = np.maximum(cover(main, boxes), cover(boxes, main).T) > 0.5
        boxes = boxes[~same.any(axis=0)]
        ids = np.zeros(len(boxes), np.int64)
        if result.searched and faces.ids is not None and len(faces):
            on = cover(faces.boxes, boxes)
            ids = np.where(on.max(axis=0) > 0.5, faces.ids[on.argmax(axis=0)], 0)
        return boxes, ids, main

    def _spare(self, result: FrameResult) -> int | None:
        """Return the index of the face to show, None for none."""
        faces, time = result.faces, result.frame.time
        if not len(faces) or not result.searched:
            return None
        largest = int(area(faces.boxes).argmax())
        if faces.ids is None:
            return largest
        ids = faces.ids.tolist()
        if self._spared not in ids:
            if time - self._spared_at[0] <= _AFTER or self._count - self._spared_at[1] <= 2:
                return None
            self._spared = ids[largest]
        self._spared_at = time, self._count
        return ids.index(self._spared)


def _may_go(buffered: deque[tuple[FrameResult, Array]]) -> bool:
    """Return whether the first frame has waited long enough."""
    first, last = buffered[0][0].frame, buffered[-1][0].frame
    many = sum(result.frame.image.nbytes for result, _ in buffered) > _BYTES
    return len(buffered) > (2 if many else _FRAMES) and (many or last.time - first.time > _BEFORE)


def _between(gone: Array, new: Array, time: float) -> Array:
    """Return where faces were at `time` that are detected anew, near a place at which one was missed since."""
    regions, gone = [], gone[gone["time"] < time]
    sides = (gone["box"][:, 2:] - gone["box"][:, :2]).max(axis=1, initial=1)
    for face in new if len(gone) else ():
        moved = face["box"] - gone["box"]
        distances = np.abs(moved).max(axis=1) / sides
        nearest = distances.argmin()
        if distances[nearest] <= _NEAR:
            region = gone[nearest].copy()
            share = (time - region["time"]) / (face["time"] - region["time"])
            region["box"], region["time"] = region["box"] + share * moved[nearest], time
            regions.append(region)
    return np.array(regions, _REGION)


def _hidden(result: FrameResult, regions: Array) -> FrameResult:
    margins = _MARGIN + np.minimum(_GROWTH * abs(result.frame.time - regions["time"]), _MOST)
    return replace(result, frame=replace(result.frame, image=hide(result.frame.image, regions["box"], margins)))


def hide(image: Array, boxes: Array, margins: Array) -> Array:
    """Blur boxes and their surroundings beyond recovery.

    Only the mean colours of about 6 × 6 cells remain, blurred with their neighbours and reduced to 16 levels, so that
    many frames reveal no more than one.

    Args:
        image: uint8 (H, W, 3).
        boxes: (N, 4), in pixels.
        margins: (N,), margin that is hidden around each box, as a share of its longer side.

    Returns:
        A new image.
    """
    picture = image.copy()
    height, width = image.shape[:2]
    for (x1, y1, x2, y2), margin in zip(boxes.tolist(), margins.tolist(), strict=True):
        side = max(x2 - x1, y2 - y1)
        beyond = margin * side
        left, top = max(0, int(x1 - beyond)), max(0, int(y1 - beyond))
        right, bottom = min(width, int(np.ceil(x2 + beyond))), min(height, int(np.ceil(y2 + beyond)))
        if left >= right or top >= bottom:
            continue
        region = picture[top:bottom, left:right]
        across, down = (max(1, round(length * _CELLS / side)) for length in (right - left, bottom - top))
        cells = cv2.resize(region, (across, down), interpolation=cv2.INTER_AREA)
        cells = (cv2.GaussianBlur(cells, (3, 3), 0) // 16 * 16 + 8).astype(np.uint8).reshape(down, across, 3)
        region[:] = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return picture
