"""Why a run found no face: the likeliest cause, as far as a few of its frames can tell."""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import cv2
import numpy as np

from fer.faces.detect import Detector
from fer.faces.types import Array
from fer.stream.stats import Stats
from fer.stream.types import Frame, FrameResult

_LARGEST = 1920
"""Width in pixels to which kept frames of a film are reduced."""

_DARK = 40
"""Level, of 255, below which 95 % of a dark picture are."""

_TURNS = {1: ("anticlockwise", "transpose=2"), 3: ("clockwise", "transpose=1"), 2: ("upside down", "hflip,vflip")}
"""Quarter turns anticlockwise, in words and as a filter of FFmpeg."""


class Samples:
    """`samples.over(results)` → the same results. Keeps a few of their frames until the first face is found.

    Args:
        still: Whether the frames are photos, which are kept at their size.
    """

    def __init__(self, still: bool) -> None:
        self._still, self._most = still, 2 if still else 4
        self._images: list[Array] = []
        self._step = 1

    def over(self, results: Generator[FrameResult]) -> Generator[FrameResult]:
        """Yield the results. Closing the generator closes `results`."""
        with closing(results):
            found = False
            for count, result in enumerate(results):
                found = found or len(result.faces) > 0
                if found:
                    self._images.clear()
                elif count % self._step == 0 and result.frame.error is None:
                    self._keep(result.frame.image)
                yield result

    def _keep(self, image: Array) -> None:
        height, width = image.shape[:2]
        if not self._still and width > _LARGEST:
            size = _LARGEST, max(1, round(height * _LARGEST / width))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._images.append(image)
        if len(self._images) > self._most:  # half of them, from then on at twice the distance
            self._images, self._step = self._images[::2], 2 * self._step

    def why(self, detector: Mapping[str, Any], stats: Stats) -> str | None:
        """Return in a line why no face was found; None if there are faces, no frames, or no cause that can be told.

        Args:
            detector: Arguments of the `Detector` of the run.
            stats: Counts of the run.
        """
        if stats.faces or not self._images:
            return None
        key = "still_width" if self._still and detector["still_width"] else "width"
        width, score = detector[key], detector["score"]
        if np.mean([np.percentile(image, 95) for image in self._images]) < _DARK:
            return "no face was found: the picture is very dark; give it more light"
        if larger := next((each for each in (2 * width, 4 * width) if self._found(each, score)), None):
            return f"no face was found, but smaller ones are there; set detector.{key}={larger}"
        if best := self._found(max(detector["width"], 640), score / 2):
            lower = max(0.05, np.floor(20 * best - 0.01) / 20)
            return f"no face was found with detector.score={score}, but with {best:.2f}; set detector.score={lower:.2f}"
        turned = {quarters: self._found(640, score, quarters) for quarters in _TURNS}
        if any(turned.values()):
            words, turn = _TURNS[max(turned, key=lambda quarters: turned[quarters])]
            fix = "turn it first" + ("" if self._still else f", as by ffmpeg -i <file> -vf {turn} turned.mp4")
            return f"no face was found, but there are some when the picture is turned {words}; {fix}"
        if stats.unconfirmed:
            what = f"{stats.unconfirmed} were found in a single search each, and so left out"
            return f"no face was found for sure: {what}; a larger detector.width= may find them again"
        return None

    def _found(self, width: int, score: float, quarters: int = 0) -> float:
        """Return the best score of a face in images that are turned; 0 if less than half of them have one."""
        detect = Detector(width, None, score)
        images = [np.ascontiguousarray(np.rot90(image, quarters)) for image in self._images]
        best = [float(faces.scores.max()) for faces in (detect(Frame(i, 0, 0.0)) for i in images) if len(faces)]
        return max(best) if len(best) >= len(images) / 2 else 0.0
