"""A baseline for each person: the face of the first seconds counts as neutral."""

from dataclasses import dataclass

import numpy as np

from fer import labels
from fer.checks import check_number
from fer.errors import ConfigError
from fer.faces.types import Array

_NEUTRAL = 0.6
"""Probability, 0 to 1, that the corrected resting face has of being neutral, if it had less: the median that the
included models give to neutral faces of press photos."""

_FORGET = 60.0
"""Seconds after which an unused id is forgotten. Tracks end much sooner."""


@dataclass
class _Rest:
    """One face: the times of its first and last frame, the sum of its log-probabilities (K,), and their number."""

    since: float
    seen: float
    total: Array
    count: int = 0


class Baseline:
    """Corrects the probabilities of faces whose resting face is taken for an emotion.

    For the first seconds of each face, the mean of its log-probabilities is taken. From then on, a constant is added to
    the logit of each class, which moves that mean to a neutral face: neutral has 0.6, and the others share the rest.
    Classes that were less probable than that stay as they are, and so does all of a face that was taken for neutral.

    Args:
        seconds: How long the first seconds are, counted from the first frame of a face.
        classes: Names of the K classes.

    Raises:
        ConfigError: `seconds` is out of range, or no class, or more than one, means neutral.
    """

    def __init__(self, seconds: float, classes: tuple[str, ...]) -> None:
        check_number("baseline", seconds, 0, 3600, above=True)
        neutral = [k for k, name in enumerate(classes) if labels.canonical(name) == "neutral"]
        if len(neutral) != 1 or len(classes) < 2:
            raise ConfigError(
                f"baseline={seconds:g} needs a model with a class neutral beside others, not {', '.join(classes)}; "
                "leave it out"
            )
        self._seconds, self._neutral = seconds, np.arange(len(classes)) == neutral[0]
        self._target = np.log(np.where(self._neutral, _NEUTRAL, (1 - _NEUTRAL) / (len(classes) - 1)))
        self._rest: dict[int, _Rest] = {}

    def __call__(self, ids: Array | None, probabilities: Array, time: float) -> tuple[Array, Array]:
        """Correct the faces of the next frame.

        Args:
            ids: int64 (N,), None without tracking.
            probabilities: float32 (N, K).
            time: Seconds, increasing from frame to frame.

        Returns:
            Probabilities, float32 (N, K), and whether a face is still in its first seconds, so that its probabilities
            are those of the model, bool (N,). Without ids, all are.
        """
        corrected, early = probabilities.copy(), np.ones(len(probabilities), bool)
        logs = np.log(probabilities.clip(1e-6).astype(np.float64))
        for i, identity in enumerate([] if ids is None else ids.tolist()):
            rest = self._rest.setdefault(identity, _Rest(time, time, np.zeros(logs.shape[1])))
            rest.seen = time
            early[i] = time - rest.since < self._seconds
            if early[i]:
                rest.total += logs[i]
                rest.count += 1
            else:
                mean, least = rest.total / rest.count, self._target
                offset = least - np.where(self._neutral, np.minimum(mean, least), np.maximum(mean, least))
                shifted = np.exp(logs[i] + offset)
                corrected[i] = shifted / shifted.sum()
        self._rest = {key: rest for key, rest in self._rest.items() if time - rest.seen < _FORGET}
        return corrected, early
