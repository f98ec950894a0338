"""A fake source, detector and classifier, for tests of the pipeline and of plugins."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from fer.errors import SourceError
from fer.faces.types import Array, Faces
from fer.stream.sources import Kind, Source
from fer.stream.types import Frame


class FakeSource(Source):
    """A video of plain grey frames.

    Args:
        frames: Number of frames.
        fails_at: Index of the frame at which it raises `SourceError` instead.
        size: Width and height in pixels.
        rate: Frames per second.
    """

    kind: Kind = "video"

    def __init__(
        self, frames: int = 5, fails_at: int | None = None, size: tuple[int, int] = (64, 48), rate: Fraction | int = 25
    ) -> None:
        super().__init__()
        self.name, self.total, self.rate = "fake", frames, Fraction(rate)
        self.closed = False
        self._frames, self._fails_at, self._size = frames, fails_at, size

    def __iter__(self) -> Iterator[Frame]:
        width, height = self._size
        for index in range(self._frames):
            if index == self._fails_at:
                raise SourceError(f"the fake source fails at frame {index}")
            image = np.full((height, width, 3), 90 + index % 64, np.uint8)
            yield Frame(image, index, float(index / (self.rate or 1)))

    def close(self) -> None:
        self.closed = True


class FakeDetector:
    """Detects the same `boxes`, (x1, y1, x2, y2) in pixels, in every frame whose index is not in `blind`."""

    width, skip_still = 320, False

    def __init__(self, *boxes: tuple[float, float, float, float], blind: frozenset[int] = frozenset()) -> None:
        self._boxes, self._blind = np.array(boxes, np.float32).reshape(-1, 4), blind

    def __call__(self, frame: Frame) -> Faces:
        boxes = self._boxes[: 0 if frame.index in self._blind else None]
        return Faces(boxes, np.full(len(boxes), 0.9, np.float32))


class FakeFaceClassifier:
    """Classifies every face as `classes[index]`, with `confidence`, 0 to 1."""

    def __init__(self, classes: tuple[str, ...], index: int = 0, confidence: float = 0.88) -> None:
        self.classes = classes
        self._row = np.full(len(classes), (1 - confidence) / (len(classes) - 1), np.float32)
        self._row[index] = confidence

    def __call__(self, frames: Sequence[tuple[Frame, Faces]]) -> list[Array]:
        return [np.tile(self._row, (len(faces), 1)) for _, faces in frames]
