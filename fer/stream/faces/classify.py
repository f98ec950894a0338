"""Emotions of faces: all faces of one or several frames are cropped and classified as one batch."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer import artifact, ort
from fer.faces.crop import crop_face
from fer.faces.types import Array, Faces
from fer.stream.types import Frame

_log = logging.getLogger(__name__)


class FaceClassifier:
    """`classify([(frame, faces), …])` → for each frame float32 (N, K) probabilities, columns as in `classes`.

    All faces of all frames go through the artifact as one batch. `model` is the name of its file.
    """

    def __init__(self, loaded: artifact.Artifact, model: str = "") -> None:
        self._artifact, self.model = loaded, model
        self.metadata = loaded.metadata
        self.classes = loaded.metadata.classes

    def become(self, other: "FaceClassifier") -> None:
        """Classify with the artifact of another one, of the same classes, from the next call on."""
        self._artifact, self.metadata, self.model = other._artifact, other.metadata, other.model

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
