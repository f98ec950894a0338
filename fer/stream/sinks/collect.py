"""One's own faces for training: the current face, cut as recognition cuts it, filed under its emotion."""

from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from fer.stream.faces.classify import crop_face
from fer.stream.sinks.base import write_whole
from fer.stream.types import FrameResult


class Collector:
    """Files faces under `root/<session>/<class>/`, as `data=image_folder data.root=<root>` reads them.

    The session is the time of the first one, so that faces of one sitting are never in both train and test.
    margin, size: the artifact's `crop_margin` and `input_size`.
    """

    def __init__(self, root: Path, margin: float, size: int) -> None:
        self.root, self._margin, self._size = root, margin, size
        self._session: Path | None = None
        self._filed: list[Path] = []

    def file(self, result: FrameResult, emotion: str) -> Path | None:
        """File the largest face of a frame; returns where, or None without a face. Raises `SinkError`."""
        if not len(result.faces):
            return None
        if self._session is None:
            self._session = self.root / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        sides = result.faces.boxes[:, 2:] - result.faces.boxes[:, :2]
        face = crop_face(
            result.frame.image, result.faces.boxes[int(np.argmax(sides.prod(axis=1)))], self._margin, self._size
        )
        folder = self._session / emotion
        path = folder / f"{len(self._filed) + 1:04d}.png"
        _, data = cv2.imencode(".png", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
        write_whole(path, data.tobytes(), new_folder=True)
        self._filed.append(path)
        return path

    def undo(self) -> Path | None:
        """Take back the last one; returns where it was, or None where there is none left."""
        if not self._filed:
            return None
        path = self._filed.pop()
        path.unlink(missing_ok=True)
        return path
