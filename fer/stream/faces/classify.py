"""Emotions of faces: all faces of one or several frames are cropped and classified as one batch."""

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fer import artifact, ort
from fer.stream.types import Array, Faces, Frame

_log = logging.getLogger(__name__)


def crop_face(image: Array, box: Array, margin: float, size: int) -> Array:
    """Crop one face.

    The crop is a square around the centre of the box; its side is the longer side of the box times (1 + 2 · margin).
    Both are rounded to whole pixels, a large side to an even number. Outside the frame, its border pixels are repeated.

    Args:
        image: uint8 (H, W, 3).
        box: (4,), x1 y1 x2 y2 in pixels.
        margin: Share of the longer side that is added on each side: the artifact's `crop_margin`.
        size: Side of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))
    large = side >= 8 * size
    if large:
        side -= side % 2
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    # Rounding could move the square out of the frame; keep at least one pixel inside.
    left, top = min(max(left, 1 - side), width - 1), min(max(top, 1 - side), height - 1)
    right, bottom = left + side, top + side
    face = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    beyond = max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)
    if any(beyond):
        face = cv2.copyMakeBorder(face, *beyond, cv2.BORDER_REPLICATE)
    if large:  # halving is much faster than any other ratio
        face = cv2.resize(face, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    # Area averaging shrinks without aliasing, but enlarges to blocks.
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(face, (size, size), interpolation=method)


class FaceClassifier:
    """`classify([(frame, faces), …])` → for each frame float32 (N, K) probabilities, columns as in `classes`.

    All faces of all frames go through the artifact as one batch. `model` is the name of its file.
    """

    def __init__(self, loaded: artifact.Artifact, model: str = "") -> None:
        self._artifact, self.model = loaded, model
        self.metadata = loaded.metadata
        self.classes = loaded.metadata.classes

    def __call__(self, frames: Sequence[tuple[Frame, Faces]]) -> list[Array]:
        margin, size = self.metadata.crop_margin, self.metadata.input_size
        crops = [crop_face(frame.image, box, margin, size) for frame, faces in frames for box in faces.boxes]
        if not crops:
            return [np.zeros((0, len(self.classes)), np.float32) for _ in frames]
        batch = np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))  # (N, 3, S, S)
        probabilities = self._artifact(batch)
        return np.split(probabilities, np.cumsum([len(faces) for _, faces in frames])[:-1])


def load_face_classifier(
    path: str | Path | None = None, device: str = "auto", threads: int | None = None
) -> FaceClassifier:
    """Load an artifact for classification.

    Args:
        path: The model file, or the name of an included model, of which the fastest file is used
            (`fer.artifact.fastest`); None for the bundled one.
        device: auto, cpu, cuda or cuda:1.
        threads: CPU threads of an ONNX artifact, None for one on each core.

    Raises:
        ConfigError: The device is unknown or not available.
        ArtifactError: The file is not an artifact.
    """
    file = artifact.fastest(path or "bundled", device)
    loaded = artifact.load(file, device, threads=threads)
    if loaded.metadata.precision == "int8" and not ort.fast_int8() and not (device != "cpu" and ort.gpu()):
        _log.warning("%s: this CPU has no fast int8; use the .onnx of the same model, which is as fast and exact", file)
    return FaceClassifier(loaded, file.name)
