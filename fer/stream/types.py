"""The values that pass between the stages, each checked where it is built."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LOGGED = 6
"""Decimals of a probability in the log."""


def _check(good: bool, message: str) -> None:
    if not good:
        raise ValueError(message)


def _is_unit(values: Array) -> bool:
    return bool(np.isfinite(values).all()) and bool(((values >= 0) & (values <= 1)).all())


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    image: uint8 (H, W, 3), RGB, upright. index: counts from 0. time: seconds since the source's start, 0 for
    stills. file: the name of a still, None for video and camera. error: why a still of a folder could not be read;
    the image is (0, 0, 3) then. event: what happened before it, as "camera 0 was away for 2.1 s"; the log says so.
    captured: `time.monotonic()` when a live source had it, None for the others.

    Raises `ValueError` where a value is of the wrong shape, kind or range.
    """

    image: Array
    index: int
    time: float
    file: str | None = None
    error: str | None = None
    event: str | None = None
    captured: float | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        _check(
            self.image.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3,
            f"image must be uint8 (H, W, 3), not {self.image.dtype} {shape}",
        )
        _check((self.image.size > 0) == (self.error is None), "a frame has a picture or an error, not both")
        _check(self.index >= 0, f"index must be 0 or more, not {self.index}")
        _check(bool(np.isfinite(self.time)), f"time must be a number of seconds, not {self.time}")


@dataclass(frozen=True, eq=False)
class Faces:
    """The N faces of one frame.

    boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the original frame, clipped to it, x1 < x2 and y1 < y2.
    scores: float32 (N,), the detector's, 0 to 1. landmarks: float32 (N, 5, 2), right eye, left eye, nose,
    right and left mouth corner as the face has them, in pixels, possibly outside the frame; None where not known.
    ids: int64 (N,), who is who, from 1, or 0 while that is not confirmed; None where nobody keeps track.
    Raises `ValueError` where a value is of the wrong shape, kind or range.
    """

    boxes: Array
    scores: Array
    landmarks: Array | None = None
    ids: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        _check(
            self.boxes.shape == (n, 4) and self.boxes.dtype == np.float32,
            f"boxes must be float32 (N, 4), not {self.boxes.dtype} {self.boxes.shape}",
        )
        _check(bool(np.isfinite(self.boxes).all()), "boxes must be finite")
        _check(bool((self.boxes[:, :2] < self.boxes[:, 2:]).all()), "boxes must have x1 < x2 and y1 < y2")
        _check(
            self.scores.shape == (n,) and self.scores.dtype == np.float32 and _is_unit(self.scores),
            f"scores must be float32 ({n},) within 0 to 1",
        )
        if self.landmarks is not None:
            _check(
                self.landmarks.shape == (n, 5, 2) and self.landmarks.dtype == np.float32,
                f"landmarks must be float32 ({n}, 5, 2)",
            )
        if self.ids is not None:
            _check(
                self.ids.shape == (n,) and self.ids.dtype == np.int64 and bool((self.ids >= 0).all()),
                f"ids must be int64 ({n},), 0 or more",
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def only(self, which: Array) -> "Faces":
        """The faces of `which` alone, bool (N,)."""
        landmarks, ids = ((None if v is None else v[which]) for v in (self.landmarks, self.ids))
        return Faces(self.boxes[which], self.scores[which], landmarks, ids)

    @classmethod
    def none(cls) -> "Faces":
        """No faces."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame, its N faces and what they show.

    classes: the K names. probabilities: float32 (N, K), rows that sum to 1, the artifact's answer for this
    frame alone (with `every` above 1: for the last frame that was searched at). smoothed: the same shape, over time; None
    where nobody smooths. labels: int64 (N,), the class that each face is shown as, calmer than the likeliest of a
    frame; None for the likeliest. uncertain: bool (N,), faces whose confidence is too low to mean much; None where
    nobody judges that. searched: whether this frame itself was searched, and not only carried over from an earlier one.
    unconfirmed: float32 (M, 4), boxes of what may be faces too, but was not seen twice; None where nobody keeps track.
    Raises `ValueError` where a value is of the wrong shape, kind or range.
    """

    frame: Frame
    faces: Faces
    classes: tuple[str, ...]
    probabilities: Array
    smoothed: Array | None = None
    labels: Array | None = None
    uncertain: Array | None = None
    searched: bool = True
    unconfirmed: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.faces)
        if self.unconfirmed is not None:
            good = self.unconfirmed.shape == (len(self.unconfirmed), 4) and self.unconfirmed.dtype == np.float32
            _check(good, "unconfirmed must be float32 (M, 4)")
        if self.labels is not None:
            good = self.labels.shape == (n,) and self.labels.dtype == np.int64
            good = good and bool(((self.labels >= 0) & (self.labels < len(self.classes))).all())
            _check(good, f"labels must be int64 ({n},) within 0 to {len(self.classes) - 1}")
        if self.uncertain is not None:
            _check(self.uncertain.shape == (n,) and self.uncertain.dtype == np.bool_, f"uncertain must be bool ({n},)")
        shape = (n, len(self.classes))
        for name, values in (("probabilities", self.probabilities), ("smoothed", self.smoothed)):
            if values is not None:
                _check(
                    values.shape == shape and values.dtype == np.float32 and _is_unit(values),
                    f"{name} must be float32 {shape} within 0 to 1, not {values.dtype} {values.shape}",
                )

    @property
    def shown(self) -> Array:
        """What a viewer should see, float32 (N, K): smoothed where there is such a thing."""
        return self.probabilities if self.smoothed is None else self.smoothed

    def emotions(self) -> list[tuple[str, float]]:
        """For each face the class it is shown as, and the probability of that, 0 to 1."""
        best = self.shown.argmax(axis=1) if self.labels is None else self.labels
        return [(self.classes[k], float(row[k])) for k, row in zip(best, self.shown, strict=True)]

    def row(self) -> dict[str, Any]:
        """The log row of this frame, plain values only: `frame`, `time` in seconds, `faces`.

        A face has `id` (None without tracking), `box` in pixels of the original frame, `score`, `emotion`,
        `confidence`, `uncertain`, `probabilities` by class, and `smoothed` likewise or None. Stills also have `file`,
        and `error` where the file could not be read; `event` stands where something happened before the frame,
        `carried` where its faces are those of an earlier one.
        """
        faces = []
        for i, (emotion, confidence) in enumerate(self.emotions()):
            faces.append(
                {
                    "id": None if self.faces.ids is None else int(self.faces.ids[i]),
                    "box": [round(float(v), 1) for v in self.faces.boxes[i]],
                    "score": round(float(self.faces.scores[i]), 4),
                    "emotion": emotion,
                    "confidence": round(confidence, LOGGED),
                    "uncertain": bool(self.uncertain is not None and self.uncertain[i]),
                    "probabilities": self._by_class(self.probabilities[i]),
                    "smoothed": None if self.smoothed is None else self._by_class(self.smoothed[i]),
                }
            )
        row: dict[str, Any] = {"frame": self.frame.index, "time": round(self.frame.time, 6)}
        if self.frame.file is not None:
            row["file"] = self.frame.file
        if self.frame.error is not None:
            row["error"] = self.frame.error
        if self.frame.event is not None:
            row["event"] = self.frame.event
        if not self.searched:
            row["carried"] = True
        return {**row, "faces": faces}

    def _by_class(self, values: Array) -> dict[str, float]:
        return {name: round(float(v), LOGGED) for name, v in zip(self.classes, values, strict=True)}
