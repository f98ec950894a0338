"""Smoothing over time: steadier probabilities, and labels that do not flicker."""

from dataclasses import dataclass

import numpy as np

from fer.checks import check_number
from fer.faces.types import Array
from fer.stream.types import LOGGED

_FORGET = 60.0
"""Seconds after which an unused id is forgotten. Tracks end much sooner."""


@dataclass
class _Track:
    probabilities: Array
    label: int
    time: float


class Smoother:
    """Exponential smoothing of each track's probabilities, in seconds, so that the frame rate does not matter.

    Args:
        seconds: Time constant, after which 63 % of a change shows; 0 for no smoothing.
        margin: How much more probable, 0 to 1, another class must be before the label changes to it.
        uncertain: Confidence, 0 to 1, of the label shown, below which a face is marked as uncertain.
        turned: Degrees of yaw, pitch or roll beyond which it is marked, too. Of 1,720 press photos on which the
            included models were judged, 99 % show faces that are turned by less than 40.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, seconds: float = 0.4, margin: float = 0.2, uncertain: float = 0.5, turned: float = 40) -> None:
        check_number("smoothing.seconds", seconds, 0, 60)
        check_number("smoothing.margin", margin, 0, 1)
        check_number("smoothing.uncertain", uncertain, 0, 1)
        check_number("smoothing.turned", turned, 0, 180)
        self._seconds, self._margin, self._uncertain, self._turned = seconds, margin, uncertain, turned
        self._tracks: dict[int, _Track] = {}

    def __call__(
        self, ids: Array | None, probabilities: Array, time: float
    ) -> tuple[Array | None, Array | None, Array]:
        """Smooth the faces of the next frame.

        Args:
            ids: int64 (N,), without duplicates; None without tracking.
            probabilities: float32 (N, K).
            time: Seconds, increasing from frame to frame.

        Returns:
            Smoothed probabilities float32 (N, K), rounded as in the log, and labels int64 (N,), both None without ids;
            uncertain bool (N,).
        """
        if ids is None:
            return None, None, probabilities.max(axis=1, initial=0) < self._uncertain
        smoothed = np.round(probabilities, LOGGED)
        labels = probabilities.argmax(axis=1).astype(np.int64) if len(ids) else np.zeros(0, np.int64)
        for i, identity in enumerate(ids.tolist()):
            track = self._tracks.get(identity)
            if track is not None:
                share = 1.0 if self._seconds == 0 else 1 - np.exp(-(time - track.time) / self._seconds)
                mean = track.probabilities + np.float32(share) * (probabilities[i] - track.probabilities)
                smoothed[i] = np.round(mean, LOGGED)
                best = int(smoothed[i].argmax())
                changes = smoothed[i, best] > smoothed[i, track.label] + self._margin
                labels[i] = best if changes else track.label
            self._tracks[identity] = _Track(smoothed[i], int(labels[i]), time)
        self._tracks = {k: track for k, track in self._tracks.items() if time - track.time < _FORGET}
        return smoothed, labels, smoothed[np.arange(len(ids)), labels] < self._uncertain

    def turned(self, pose: Array) -> Array:
        """Return which faces are turned too far to rely on, bool (N,); False where the pose, (N, 3), is NaN."""
        return np.asarray((np.abs(pose) > self._turned).any(axis=1))
