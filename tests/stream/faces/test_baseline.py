from dataclasses import replace

import numpy as np
import pytest

from fer.errors import ConfigError
from fer.faces.types import Array, Faces
from fer.labels import EMOTIONS
from fer.stream.faces.baseline import Baseline
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeSource
from fer.stream.pipeline import results
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Frame, FrameResult

IDS = np.array([1])


def face(**shares: float) -> Array:
    """Probabilities of one face, float32 (1, 7); the emotions that are not named share the rest."""
    rest = (1 - sum(shares.values())) / (7 - len(shares))
    return np.array([[shares.get(name, rest) for name in EMOTIONS]], np.float32)


RESTING = face(sad=0.6, neutral=0.2)


def after(resting: Array, now: Array) -> str:
    """What a face is called that rested for two seconds like this."""
    correct = Baseline(2, EMOTIONS)
    for k in range(50):
        same, early = correct(IDS, resting, k / 25)
        np.testing.assert_array_equal(same, resting)
        assert early.tolist() == [True]
    corrected, early = correct(IDS, now, 2.0)
    assert early.tolist() == [False] and corrected.dtype == np.float32
    assert corrected.sum() == pytest.approx(1, abs=1e-6)
    return EMOTIONS[int(corrected.argmax())]


def test_a_resting_face_that_is_called_sad_is_neutral_after_its_first_seconds() -> None:
    assert after(RESTING, RESTING) == "neutral"
    assert after(RESTING, face(happy=0.5, sad=0.4)) == "happy"
    assert after(RESTING, face(sad=0.97, neutral=0.004)) == "sad", "much sadder than at rest"


def test_nothing_changes_for_a_face_that_is_neutral_at_rest() -> None:
    correct, now = Baseline(1, EMOTIONS), face(sad=0.5, neutral=0.4)
    correct(IDS, face(neutral=0.9), 0.0)
    np.testing.assert_allclose(correct(IDS, now, 1.0)[0], now, atol=1e-6)


def test_an_emotion_that_was_impossible_at_rest_is_not_made_likelier() -> None:
    correct = Baseline(1, EMOTIONS)
    correct(IDS, np.float32([[0, 0, 0, 0, 1, 0, 0]]), 0.0)
    corrected, _ = correct(IDS, face(sad=0.5, happy=0.3), 1.0)
    assert corrected[0, 3] / corrected[0, 0] == pytest.approx(0.3 / 0.04, rel=1e-4)
    assert np.isfinite(corrected).all()


def test_each_face_has_its_own_first_seconds() -> None:
    correct = Baseline(1, EMOTIONS)
    correct(np.array([1]), RESTING, 0.0)
    both = RESTING.repeat(2, axis=0)
    corrected, early = correct(np.array([1, 2]), both, 1.0)
    assert early.tolist() == [False, True]
    assert [EMOTIONS[k] for k in corrected.argmax(axis=1)] == ["neutral", "sad"]
    empty, early = correct(np.zeros(0, np.int64), both[:0], 2.0)
    assert empty.shape == (0, 7) and early.shape == (0,)


def test_a_model_without_neutral_has_no_baseline() -> None:
    with pytest.raises(ConfigError, match=r"baseline=10 .*neutral"):
        Baseline(10, ("yes", "no"))
    Baseline(10, ("0_Neutral", "no"))
    for seconds in (0, -1, True, float("nan")):
        with pytest.raises(ConfigError, match="baseline="):
            Baseline(seconds, EMOTIONS)


def watched(baseline: Baseline | None, emotion: Array) -> list[FrameResult]:
    class Resting:
        classes = EMOTIONS

        def __call__(self, frames: list[tuple[Frame, Faces]]) -> list[Array]:
            return [emotion.repeat(len(faces), axis=0) for _, faces in frames]

    state = TemporalState(Tracker(), Smoother(seconds=0.1), baseline)
    return list(results(FakeSource(50), FakeDetector((8, 8, 40, 40)), Resting(), state, Stats()))


def test_smoothing_follows_the_baseline_and_the_first_seconds_are_uncertain() -> None:
    output = watched(Baseline(1, EMOTIONS), RESTING)
    emotions = [result.emotions()[0][0] for result in output]
    assert emotions[:25] == ["sad"] * 25 and emotions[-10:] == ["neutral"] * 10
    uncertain = [bool(result.uncertain[0]) for result in output]
    assert uncertain[:25] == [True] * 25 and uncertain[-10:] == [False] * 10
    without = watched(None, RESTING)
    assert {result.emotions()[0][0] for result in without} == {"sad"} and not without[0].uncertain[0]
    assert [replace(result).faces.ids.tolist() for result in output] == [[1]] * 50
