"""TemporalState: probabilities over time, and labels that do not flicker."""

from dataclasses import dataclass

import numpy as np

from fer.errors import ConfigError
from fer.stream.types import LOGGED, Array

_FORGET = 60.0
"""Seconds after which an id that is not seen any more is forgotten; far longer than a track outlives its face."""


@dataclass
class _Face:
    probabilities: Array
    label: int
    time: float


class Smoother:
    """Exponential smoothing of each id's probabilities by seconds, so that the frame rate does not matter.

    seconds: the time constant; after it a change has come through by 63 %. 0 for none. margin: how much likelier, 0 to
    1, another class must be before the label changes to it. uncertain: a confidence below this, 0 to 1, means little.
    Raises `ConfigError` where a value cannot work.
    """

    def __init__(self, seconds: float = 0.5, margin: float = 0.1, uncertain: float = 0.5) -> None:
        for name, value, most in (("seconds", seconds, 60), ("margin", margin, 1), ("uncertain", uncertain, 1)):
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
                raise ConfigError(f"smoothing.{name}={value} cannot work; give a number from 0 to {most}")
        self._seconds, self._margin, self._uncertain = float(seconds), float(margin), float(uncertain)
        self._faces: dict[int, _Face] = {}

    def __call__(self, ids: Array, probabilities: Array, time: float) -> tuple[Array, Array, Array]:
        """The faces of the next frame: smoothed float32 (N, K), labels int64 (N,), uncertain bool (N,).

        ids: int64 (N,), each once. probabilities: float32 (N, K). time: seconds.
        What is remembered is rounded as the log rounds it.
        """
        smoothed = np.round(probabilities, LOGGED)
        labels = probabilities.argmax(axis=1).astype(np.int64) if len(ids) else np.zeros(0, np.int64)
        for i, identity in enumerate(ids.tolist()):
            known = self._faces.get(identity)
            if known is not None:
                passed = max(0.0, time - known.time)
                share = 1.0 if self._seconds == 0 else 1 - np.exp(-passed / self._seconds)
                mean = known.probabilities + np.float32(share) * (probabilities[i] - known.probabilities)
                smoothed[i] = np.round(mean, LOGGED)
                best = int(smoothed[i].argmax())
                wins = smoothed[i, best] > smoothed[i, known.label] + self._margin
                labels[i] = best if wins else known.label
            self._faces[identity] = _Face(smoothed[i], int(labels[i]), time)
        self._faces = {k: face for k, face in self._faces.items() if time - face.time < _FORGET}
        return smoothed, labels, self.doubt(smoothed)

    def doubt(self, probabilities: Array) -> Array:
        """bool (N,): which of the faces, float32 (N, K), no class is sure enough of."""
        return probabilities.max(axis=1, initial=0.0) < self._uncertain
