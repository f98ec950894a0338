"""Stand-ins for a camera, a detector and a model, for tests of whatever is built on the pipeline."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from fer.errors import SourceError
from fer.stream.sources import Kind, Source
from fer.stream.types import Array, Faces, Frame


class FakeSource(Source):
    """Yields `frames` grey frames of `size` (width, height) at `rate`, and raises `SourceError` in place of
    frame `fails_at`. `closed` tells whether it was closed."""

    kind: Kind = "video"

    def __init__(
        self, frames: int = 5, fails_at: int | None = None, size: tuple[int, int] = (64, 48), rate: int = 25
    ) -> None:
        super().__init__()
        self.name = "fake"
        self.total, self.rate = frames, Fraction(rate)
        self.closed = False
        self._fails_at, self._size = fails_at, size

    def __iter__(self) -> Iterator[Frame]:
        assert self.total is not None and self.rate is not None
        width, height = self._size
        for index in range(self.total):
            if index == self._fails_at:
                raise SourceError(f"the fake source fails at frame {index}, as asked")
            yield Frame(np.full((height, width, 3), 90 + index % 64, np.uint8), index, float(index / self.rate))

    def close(self) -> None:
        self.closed = True


class FakeDetector:
    """Finds the same `boxes`, (x1, y1, x2, y2) in pixels, in every frame of an index that is not in
    `blind`."""

    def __init__(self, *boxes: tuple[float, float, float, float], blind: frozenset[int] = frozenset()) -> None:
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self._blind = blind

    def __call__(self, frame: Frame) -> Faces:
        if frame.index in self._blind:
            return Faces.none()
        return Faces(self._boxes.copy(), np.full(len(self._boxes), 0.9, np.float32))


class FakeFaceClassifier:
    """Sees class number `index` of `classes` in every face, with `confidence` (0 to 1)."""

    def __init__(self, classes: tuple[str, ...], index: int = 0, confidence: float = 0.88) -> None:
        self.classes = classes
        self._row = np.full(len(classes), (1 - confidence) / (len(classes) - 1), np.float32)
        self._row[index] = confidence

    def __call__(self, asked: Sequence[tuple[Frame, Faces]]) -> list[Array]:
        return [np.tile(self._row, (len(faces), 1)) for _, faces in asked]
