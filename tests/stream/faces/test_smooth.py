import numpy as np
import pytest

from fer.errors import ConfigError
from fer.stream.faces.smooth import Smoother

ONE = np.array([1])
HAPPY, SAD = np.array([[0.9, 0.1]], np.float32), np.array([[0.1, 0.9]], np.float32)


@pytest.mark.parametrize("rate", [5, 30, 100])
def test_the_frame_rate_does_not_matter(rate: int) -> None:
    smooth = Smoother(seconds=0.5)
    smooth(ONE, HAPPY, 0.0)
    for k in range(1, rate // 5 * 5 + 1):
        values, _, _ = smooth(ONE, SAD, k / rate)
    assert values[0, 0] == pytest.approx(0.1 + 0.8 * np.exp(-1 / 0.5), abs=1e-3)


def test_rows_go_on_summing_to_one() -> None:
    smooth, rng = Smoother(), np.random.default_rng(0)
    for k in range(50):
        values, _, _ = smooth(np.array([1, 2]), rng.dirichlet(np.ones(7), 2).astype(np.float32), k / 30)
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_a_label_changes_only_by_a_margin() -> None:
    smooth = Smoother(seconds=0, margin=0.2)
    shown = []
    for k, p in enumerate((0.9, 0.45, 0.55, 0.41, 0.39, 0.45, 0.59, 0.61)):
        _, labels, _ = smooth(ONE, np.array([[p, 1 - p]], np.float32), k / 30)
        shown.append(int(labels[0]))
    assert shown == [0, 0, 0, 0, 1, 1, 1, 0]


def test_by_default_half_a_second_of_an_expression_is_shown_and_a_tenth_is_not() -> None:
    for seconds, shown in ((0.1, {0}), (0.5, {0, 1})):
        smooth = Smoother()
        times = np.arange(0, 3, 1 / 30)
        values = [SAD if 1 <= time < 1 + seconds else HAPPY for time in times]
        labels = [int(smooth(ONE, p, time)[1][0]) for p, time in zip(values, times.tolist(), strict=True)]
        assert (set(labels), labels[-1]) == (shown, 0)


def test_each_face_is_smoothed_on_its_own() -> None:
    smooth = Smoother(seconds=1)
    smooth(np.array([1, 2]), np.concatenate([HAPPY, SAD]), 0.0)
    values, labels, _ = smooth(np.array([2, 1, 3]), np.concatenate([HAPPY, SAD, SAD]), 0.1)
    assert labels.tolist() == [1, 0, 1]
    assert values[2].tolist() == SAD[0].tolist()


def test_uncertainty_is_judged_by_the_smoothed_value() -> None:
    smooth = Smoother(seconds=1, uncertain=0.6)
    assert smooth(ONE, HAPPY, 0.0)[2].tolist() == [False]
    assert smooth(ONE, SAD, 0.1)[2].tolist() == [False]
    assert smooth(ONE, SAD, 0.6)[2].tolist() == [True]
    assert smooth(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), 0.7)[2].shape == (0,)


@pytest.mark.parametrize(
    ("first", "then", "label", "uncertain"),
    [
        ((0.50, 0.45, 0.05), (0.45, 0.50, 0.05), 0, True),  # the label stays, although another is sure enough
        ((0.50, 0.45, 0.05), (0.49, 0.51, 0.00), 0, True),
        ((0.50, 0.45, 0.05), (0.30, 0.60, 0.10), 1, False),  # it changes
        ((0.55, 0.40, 0.05), (0.51, 0.44, 0.05), 0, False),  # it is still the best
    ],
)
def test_uncertainty_is_that_of_the_label_shown(
    first: tuple[float, ...], then: tuple[float, ...], label: int, uncertain: bool
) -> None:
    smooth = Smoother(seconds=0, margin=0.1, uncertain=0.5)
    smooth(ONE, np.array([first], np.float32), 0.0)
    _, labels, doubts = smooth(ONE, np.array([then], np.float32), 0.1)
    assert (labels.tolist(), doubts.tolist()) == ([label], [uncertain])


def test_tracks_that_ended_long_ago_are_forgotten() -> None:
    smooth = Smoother()
    for k in range(200):
        smooth(np.array([k + 1]), HAPPY, float(k))
    assert len(smooth._tracks) < 70


@pytest.mark.parametrize("values", [{"seconds": -1}, {"margin": 2}, {"uncertain": True}, {"seconds": "long"}])
def test_invalid_values_are_named(values: dict) -> None:
    with pytest.raises(ConfigError, match=f"smoothing.{next(iter(values))}="):
        Smoother(**values)


def test_faces_that_are_turned_far_in_any_way_are_uncertain_and_unknown_poses_are_not() -> None:
    pose = np.array([[41, 0, 0], [0, -41, 0], [0, 0, 41], [39, -39, 39], [np.nan] * 3], np.float32)
    assert Smoother().turned(pose).tolist() == [True, True, True, False, False]
    assert Smoother(turned=60).turned(pose).tolist() == [False] * 5
