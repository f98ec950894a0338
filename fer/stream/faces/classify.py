"""What the faces show: all faces of a frame or several, cut and answered as one batch."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer.errors import ConfigError
from fer.stream.types import Array, Faces, Frame

if TYPE_CHECKING:
    from fer.artifact import Artifact


def cut(image: Array, box: Array, margin: float, size: int) -> Array:
    """Cut one face out of a frame.

    image: uint8 (H, W, 3). box: (4,) x1 y1 x2 y2 in pixels. Returns uint8 (size, size, 3).

    The cut is a square around the box's centre. Its side is the box's longer side times (1 + 2 · margin):
    `margin`, the artifact's `crop_margin`, of the longer side is added on each side. Both are rounded to
    whole pixels. What lies beyond the frame repeats the frame's border.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    # The square may miss the frame by a rounding; one pixel of it is always inside.
    left, top = min(max(left, 1 - side), width - 1), min(max(top, 1 - side), height - 1)
    right, bottom = left + side, top + side
    face = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    beyond = max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)
    if any(beyond):
        face = cv2.copyMakeBorder(face, *beyond, cv2.BORDER_REPLICATE)
    # Area averaging keeps a reduced face free of aliasing; enlarging by it would show blocks.
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(face, (size, size), interpolation=method)


class FaceClassifier:
    """`recogniser([(frame, faces), …])` → for each frame float32 (N, K) probabilities, columns as in `classes`.

    All faces of all the frames go through the artifact as one batch.
    """

    def __init__(self, artifact: "Artifact") -> None:
        self._artifact = artifact
        self.metadata = artifact.metadata
        self.classes = artifact.metadata.classes

    def __call__(self, asked: Sequence[tuple[Frame, Faces]]) -> list[Array]:
        margin, size = self.metadata.crop_margin, self.metadata.input_size
        crops = [cut(frame.image, box, margin, size) for frame, faces in asked for box in faces.boxes]
        if not crops:
            return [np.zeros((0, len(self.classes)), np.float32) for _ in asked]
        import torch

        batch = np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))  # (N, 3, S, S)
        answers = self._artifact(torch.from_numpy(batch)).numpy()
        ends = np.cumsum([len(faces) for _, faces in asked])
        return np.split(answers, ends[:-1])


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Raises `ConfigError` for a number that no computer has."""
    if threads is not None and not (type(threads) is int and 1 <= threads <= 256):
        raise ConfigError(f"threads={threads} cannot work; give 1 to 256, or null to leave it to the libraries")


def load_face_classifier(path: str | None, device: str, threads: int | None) -> FaceClassifier:
    """Load an artifact, by default the bundled one, on `device`: auto, cpu or cuda.

    threads: of the CPU, for OpenCV and for PyTorch each; None gives each of them half of the cores.
    Raises `ConfigError` for a device that is not here and for threads that cannot be, `ArtifactError` for a file that
    is not an artifact.
    """
    check_threads(threads)
    import torch

    from fer import artifact
    from fer.artifact.formats import onnx as onnx_artifact

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={device} is unknown; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        why = "this PyTorch was built without CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA GPU"
        raise ConfigError(
            f"device=cuda, but {why}; use device=cpu or device=auto, or see https://pytorch.org/get-started"
        )
    # Faces are found and recognised side by side; together they then keep every core busy, and none waits for another.
    threads = threads or max(1, _cores() // 2)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if device == "auto":
        gpu = torch.cuda.is_available() and (not str(path).endswith(".onnx") or onnx_artifact.gpu())
        device = "cuda" if gpu else "cpu"
    return FaceClassifier(artifact.load(artifact.BUNDLED if path is None else path, device))
