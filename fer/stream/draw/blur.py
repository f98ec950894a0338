"""Faces made unrecognizable in the frames themselves, before anything shows or saves them."""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from fer.checks import check_choice
from fer.stream.faces.boxes import area, cover
from fer.stream.queues import close, with_end
from fer.stream.types import Array, FrameResult

_MARGIN = 0.35
"""Share of a box's longer side that is hidden beyond it on each side: hair, ears and chin."""

_GROWTH = 1.0
"""How much that share grows with each second since the face was detected, since it may have moved."""

_AFTER = 1.0
"""Seconds for which a region stays hidden after its face was last detected; a detector misses single frames."""

_BEFORE, _BUFFERED = 0.25, 8
"""Seconds, and frames at most, for which a region is hidden before its face is first detected."""

_CELLS = 4
"""Cells across a face's box. No method of recognition or restoration can work with so few."""


@dataclass(frozen=True, eq=False)
class _Region:
    """A region to hide: id of its face (0 for none), box (4,) in pixels, and seconds at which it was detected."""

    identity: int
    box: Array
    time: float


class Blur:
    """`blur.over(results)` → the same results, with frames in which faces are hidden.

    Faces that the detector misses cannot be hidden.

    Args:
        whom: "faces" hides every face that is detected, confirmed or not. "others" spares one: the face that is
            largest at first, for as long as it is tracked, and a second after it is gone the one that is largest
            then. In stills, the largest.

    Raises:
        ConfigError: `whom` is unknown.
    """

    def __init__(self, whom: str) -> None:
        check_choice("blur", whom, ("faces", "others", None))
        self._others = whom == "others"
        self._recent: list[_Region] = []
        self._spared, self._spared_time = 0, -np.inf

    def over(self, results: Iterator[FrameResult], live: bool = False) -> Generator[FrameResult]:
        """Yield the results with faces hidden. Closing the generator closes `results`.

        live: Pass every frame on at once. Otherwise a frame is buffered for a quarter of a second, so that a face is
        hidden before it is first detected.
        """
        buffered: deque[tuple[FrameResult, list[_Region]]] = deque()
        try:
            for result in with_end(results):
                # Nothing is buffered at the end, for live sources and for stills.
                now = np.inf if result is None or live or result.frame.file is not None else result.frame.time
                if result is not None:
                    regions = self._regions(result)
                    new = [region for region in regions if region.time == now]
                    for earlier, hidden in buffered:
                        if now - earlier.frame.time <= _BEFORE:
                            ids = {region.identity for region in hidden if region.identity}
                            hidden += [region for region in new if region.identity not in ids]
                    buffered.append((result, regions))
                while buffered and (len(buffered) > _BUFFERED or now - buffered[0][0].frame.time > _BEFORE):
                    yield _hidden(*buffered.popleft())
        finally:
            close(results)

    def _regions(self, result: FrameResult) -> list[_Region]:
        """Return the regions to hide in the next frame: of faces detected in it or shortly before."""
        time, faces = result.frame.time, result.faces
        if result.frame.file is not None:
            self._recent = []
        if result.searched:
            ids = [0] * len(faces) if faces.ids is None else faces.ids.tolist()
            spared = self._spare(result, ids) if self._others else None
            new = [_Region(ids[i], faces.boxes[i], time) for i in range(len(faces)) if i != spared]
            new += [_Region(0, box, time) for box in (() if result.unconfirmed is None else result.unconfirmed)]
            self._recent = new + [region for region in self._recent if not _detected_again(region, ids, new)]
        self._recent = [region for region in self._recent if 0 <= time - region.time <= _AFTER]
        return list(self._recent)

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


def _detected_again(region: _Region, ids: list[int], new: list[_Region]) -> bool:
    """Whether a face was detected again, by its id or else by its position."""
    if region.identity:
        return region.identity in ids
    boxes = np.reshape([other.box for other in new], (-1, 4))
    return bool((cover(boxes, region.box[None]) > 0.5).any())


def _hidden(result: FrameResult, regions: list[_Region]) -> FrameResult:
    if not regions or result.frame.error is not None:
        return result
    boxes = np.stack([region.box for region in regions])
    ages = np.array([abs(result.frame.time - region.time) for region in regions])
    image = hide(result.frame.image, boxes, _MARGIN + _GROWTH * ages)
    return replace(result, frame=replace(result.frame, image=image))


def hide(image: Array, boxes: Array, margins: Array) -> Array:
    """Blur boxes and what surrounds them beyond recovery.

    All that is left of a region are the mean colours of some 6 × 6 cells, blurred with their neighbours and reduced to
    16 levels, so that many frames of it reveal no more than one.

    Args:
        image: uint8 (H, W, 3).
        boxes: (N, 4), in pixels.
        margins: (N,), share of each box's longer side that is hidden beyond it on each side.

    Returns:
        A new image.
    """
    picture = image.copy()
    height, width = image.shape[:2]
    for (x1, y1, x2, y2), margin in zip(boxes.astype(float), margins, strict=True):
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
