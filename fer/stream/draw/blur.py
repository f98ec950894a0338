"""Faces made unrecognisable in the frames themselves, before anything shows or saves them."""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from fer.errors import ConfigError, FerError
from fer.stream.queues import close
from fer.stream.types import Array, FrameResult

_MARGIN = 0.35
"""Share of a box's longer side that is hidden beyond it on each side: hair, ears and chin."""

_GROWS = 1.0
"""How much larger that share gets with each second since the face was seen; it may have moved."""

_AFTER = 1.0
"""Seconds that a place stays hidden once its face is not found any more; a detector misses single frames."""

_BEFORE, _HELD = 0.25, 8
"""Seconds, and frames at most, for which a place is hidden before its face is found, where the source can wait."""

_CELLS = 4
"""Cells across a face's box; fewer than any method of recognition or restoration can work with."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a face is hidden. identity: 0 where it has none. box: (4,) pixels. time: seconds, when it was seen."""

    identity: int
    box: Array
    time: float


@dataclass(eq=False)
class _Waiting:
    result: FrameResult
    places: list[_Place] = field(default_factory=list)


class Blur:
    """`blur.over(results)` → the same results, with frames that hide faces; boxes and emotions stay.

    whom: "faces" hides every face that the detector finds, confirmed or not. "others" leaves one: the largest when it is
    chosen, for as long as it is followed; a second after it has gone, the largest that is there then. For stills the
    largest. Faces that the detector does not find cannot be hidden. Raises `ConfigError` for another word.
    """

    def __init__(self, whom: str) -> None:
        if whom not in ("faces", "others"):
            raise ConfigError(f"blur={whom} is unknown; choose faces, others or null")
        self._others = whom == "others"
        self._places: list[_Place] = []
        self._main, self._main_seen = 0, -np.inf

    def over(self, results: Iterator[FrameResult], live: bool = False) -> Generator[FrameResult]:
        """live: hold no frame back. Otherwise each waits for a quarter of a second of its successors, so that a face is
        hidden before it is first found; closing the generator closes `results`."""
        held: deque[_Waiting] = deque()
        try:
            for result in results:
                now = _Waiting(result, self._hidden(result))
                still = result.frame.file is not None
                for earlier in () if still else held:
                    known = {place.identity for place in earlier.places if place.identity}
                    seen = [p for p in now.places if p.time == result.frame.time and p.identity not in known]
                    if result.frame.time - earlier.result.frame.time <= _BEFORE:
                        earlier.places += seen
                held.append(now)
                while held and (live or still or len(held) > _HELD or _age(held) > _BEFORE):
                    yield _without(held.popleft())
            yield from map(_without, held)
        except FerError:  # of the source: what it gave before is answered first
            yield from map(_without, held)
            raise
        finally:
            close(results)

    def _hidden(self, result: FrameResult) -> list[_Place]:
        """The places to hide in the next frame: of faces found in it, and of those that were found shortly before."""
        time = result.frame.time
        if result.frame.file is not None:
            self._places = []
        if result.searched:
            faces = result.faces
            ids = [0] * len(faces) if faces.ids is None else faces.ids.tolist()
            spared = self._spared(result, ids) if self._others else None
            found = [_Place(ids[i], faces.boxes[i], time) for i in range(len(faces)) if i != spared]
            found += [_Place(0, box, time) for box in (() if result.unconfirmed is None else result.unconfirmed)]
            self._places = found + [place for place in self._places if not _again(place, ids, found)]
        self._places = [place for place in self._places if 0 <= time - place.time <= _AFTER]
        return list(self._places)

    def _spared(self, result: FrameResult, ids: list[int]) -> int | None:
        """Which face of a frame is shown, None for none."""
        if not ids:
            return None
        boxes, time = result.faces.boxes, result.frame.time
        largest = int(np.argmax(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)))
        if result.faces.ids is None:
            return largest
        if self._main not in ids:
            if time - self._main_seen <= _AFTER:
                return None
            self._main = ids[largest]
        self._main_seen = time
        return ids.index(self._main)


def _age(held: deque[_Waiting]) -> float:
    return held[-1].result.frame.time - held[0].result.frame.time


def _again(place: _Place, ids: list[int], found: list[_Place]) -> bool:
    """Whether the face of an earlier place has been found anew, as one of `ids` or where it was."""
    return place.identity in ids if place.identity else any(_covers(other.box, place.box) for other in found)


def _covers(box: Array, other: Array) -> bool:
    """Whether a box covers more than half of another."""
    shared = np.prod(np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0))
    return bool(shared > 0.5 * np.prod(other[2:] - other[:2]))


def _without(waiting: _Waiting) -> FrameResult:
    result = waiting.result
    if not waiting.places or result.frame.error is not None:
        return result
    boxes = np.stack([place.box for place in waiting.places])
    ages = np.array([abs(result.frame.time - place.time) for place in waiting.places])
    return replace(result, frame=replace(result.frame, image=hide(result.frame.image, boxes, _MARGIN + _GROWS * ages)))


def hide(image: Array, boxes: Array, margins: Array) -> Array:
    """A copy of `image`, uint8 (H, W, 3), with `boxes`, (N, 4) pixels, and what lies around them, blurred for good.

    margins: (N,), shares of a box's longer side that are hidden beyond it. Of each place only the mean colours of some
    6 × 6 cells are left, blurred with their neighbours and in 16 steps, so that a film of it tells no more than one
    frame does.
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
        across, down = (max(1, round(length * _CELLS / side)) for length in (right - left, bottom - top))
        cells = cv2.resize(picture[top:bottom, left:right], (across, down), interpolation=cv2.INTER_AREA)
        cells = cv2.GaussianBlur(cells, (3, 3), 0) // 16 * 16 + 8
        cells = cells.astype(np.uint8).reshape(down, across, 3)
        picture[top:bottom, left:right] = cv2.resize(
            cells, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
    return picture
