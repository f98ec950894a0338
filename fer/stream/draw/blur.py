"""Hiding faces in the frames themselves, before anything is shown or saved."""

from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np

from fer.checks import check_choice
from fer.stream.faces.boxes import area, cover
from fer.stream.queues import room, with_end
from fer.stream.types import Array, FrameResult

_MARGIN = 0.35
"""Margin that is hidden around a box (hair, ears and chin), as a share of its longer side."""

_GROWTH = 1.0
"""Growth of that margin per second since the face was detected, since it may have moved."""

_AFTER = 1.0
"""Seconds for which a region stays hidden after its face was last detected, since detectors miss single frames."""

_BEFORE, _BUFFERED = 0.25, 8
"""Seconds, and frames at most, for which a region is hidden before its face is first detected."""

_CELLS = 4
"""Cells across a face's box, too few to recognize or restore the face."""


_REGION = np.dtype([("id", np.int64), ("time", np.float64), ("box", np.float64, 4)])
"""A region to hide: id of its face (0 for none), seconds at which it was detected, and box in pixels."""


class Blur:
    """`blur.over(results)` → the same results, with frames in which faces are hidden.

    Faces that the detector misses cannot be hidden.

    Args:
        whom: "faces" hides every face that is detected, confirmed or not. "others" shows one of
            them: the face that is largest at first, for as long as it is tracked; one second after it is gone, the one
            that is largest then. In stills, the largest is shown.

    Raises:
        ConfigError: `whom` is unknown.
    """

    def __init__(self, whom: str) -> None:
        check_choice("blur", whom, ("faces", "others", None))
        self._others = whom == "others"
        self._recent: Array = np.zeros(0, _REGION)
        self._spared, self._spared_time = 0, -np.inf

    def over(self, results: Generator[FrameResult], live: bool = False) -> Generator[FrameResult]:
        """Yield the results with faces hidden. Closing the generator closes `results`.

        live: Pass every frame on at once. Otherwise a frame is buffered for a quarter of a second, so that a face is
        hidden before it is first detected.
        """
        buffered: deque[tuple[FrameResult, Array]] = deque()
        with closing(results):
            for result in with_end(results):
                # Nothing is buffered at the end, for live sources and for stills.
                now = np.inf if result is None or live or result.frame.file is not None else result.frame.time
                if result is not None:
                    regions = self._regions(result)
                    new = regions[regions["time"] == now]
                    for k, (earlier, hidden) in enumerate(buffered):
                        if now - earlier.frame.time <= _BEFORE:
                            known = (new["id"] > 0) & np.isin(new["id"], hidden["id"])
                            buffered[k] = earlier, np.concatenate([hidden, new[~known]])
                    buffered.append((result, regions))
                most = room(_BUFFERED, buffered[0][0].frame.image.nbytes, least=4) if buffered else 0
                while buffered and (len(buffered) > most or now - buffered[0][0].frame.time > _BEFORE):
                    yield _hidden(*buffered.popleft())

    def _regions(self, result: FrameResult) -> Array:
        """Return the regions to hide in the next frame: faces detected in it or shortly before."""
        time, faces = result.frame.time, result.faces
        recent = self._recent[: 0 if result.frame.file is not None else None]
        if result.searched:
            ids = np.zeros(len(faces), int) if faces.ids is None else faces.ids
            hidden = np.arange(len(faces)) != (self._spare(result, ids.tolist()) if self._others else None)
            new = np.zeros(hidden.sum() + len(result.unconfirmed), _REGION)
            new["id"][: hidden.sum()], new["time"] = ids[hidden], time
            new["box"] = np.concatenate([faces.boxes[hidden], result.unconfirmed])
            # A face is detected again if its id is, or, without an id, if a new box covers its old one.
            covered = (cover(new["box"], recent["box"]) > 0.5).any(axis=0)
            again = np.where(recent["id"] > 0, np.isin(recent["id"], ids), covered)
            recent = np.concatenate([new, recent[~again]])
        self._recent = recent[(recent["time"] <= time) & (recent["time"] >= time - _AFTER)]
        return self._recent

    def _spare(self, result: FrameResult, ids: list[int]) -> int | None:
        """Return the index of the face to show, None for none."""
        if not ids:
            return None
        largest = int(area(result.faces.boxes).argmax())
        if result.faces.ids is None:
            return largest
        if self._spared not in ids:
            if result.frame.time - self._spared_time <= _AFTER:
                return None
            self._spared = ids[largest]
        self._spared_time = result.frame.time
        return ids.index(self._spared)


def _hidden(result: FrameResult, regions: Array) -> FrameResult:
    margins = _MARGIN + _GROWTH * abs(result.frame.time - regions["time"])
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
