"""Collect faces for training: each is cropped exactly as for recognition and filed under its emotion."""

from datetime import datetime
from pathlib import Path

import numpy as np

from fer.faces.boxes import area
from fer.faces.crop import crop_face
from fer.stream.sinks.base import write_output
from fer.stream.sinks.pictures import encode
from fer.stream.types import FrameResult


class Collector:
    """Files faces as `root/<session>/<class>/0001.png`, which `data=image_folder data.root=<root>` reads.

    A session is named after the time of its first face. `image_folder` keeps it in one split.

    Args:
        root: The folder of all sessions.
        margin: The artifact's `crop_margin`.
        size: The artifact's `input_size`.
    """

    def __init__(self, root: Path, margin: float, size: int) -> None:
        self.root, self._margin, self._size = root, margin, size
        self._session: Path | None = None
        self._filed: list[Path] = []

    def file(self, result: FrameResult, emotion: str) -> Path | None:
        """File the largest face of a frame. Return its path, or None if there is no face."""
        if not len(result.faces):
            return None
        if self._session is None:
            self._session = self.root / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        box = result.faces.boxes[int(np.argmax(area(result.faces.boxes)))]
        face = crop_face(result.frame.image, box, self._margin, self._size)
        path = self._session / emotion / f"{len(self._filed) + 1:04d}.png"
        write_output(path, encode(face, path))
        self._filed.append(path)
        return path

    def undo(self) -> Path | None:
        """Delete the file that was added last. Return its path, or None if no file is left."""
        if not self._filed:
            return None
        path = self._filed.pop()
        path.unlink(missing_ok=True)
        return path
