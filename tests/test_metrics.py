import numpy as np
import pytest
import torch

from fer import metrics as scores


def test_confusion_and_scores_by_hand():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    matrix = scores.confusion(predicted, labels, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    found = scores.scores(matrix, ("a", "b", "c"))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["recall/a"] == pytest.approx(2 / 3)
    assert found["recall/c"] == 0
    assert found["f1_macro"] == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)


def test_scores_agree_with_torchmetrics():
    from torchmetrics.functional import classification

    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    found = scores.scores(scores.confusion(predicted, labels, 7), tuple("abcdefg"))
    wanted = classification.multiclass_f1_score(torch.tensor(predicted), torch.tensor(labels), 7, average="macro")
    assert found["f1_macro"] == pytest.approx(float(wanted), abs=1e-6)


def test_ece_agrees_with_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 400)
    labels = rng.integers(0, 4, 400)
    wanted = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), 4, n_bins=15)
    assert scores.ece(probabilities, labels) == pytest.approx(float(wanted), abs=1e-6)


def test_ece_of_the_certain():
    sure = np.eye(3)[[0, 1, 2, 0]]
    assert scores.ece(sure, np.array([0, 1, 2, 0])) == 0
    assert scores.ece(sure, np.array([1, 2, 0, 1])) == 1


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(factor):
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20000, 5, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator).squeeze(1)
    assert scores.fit_temperature(honest * factor, labels) == pytest.approx(factor, rel=0.04)


def test_interval_and_mcnemar_agree_with_scipy():
    from scipy.stats import binomtest, bootstrap

    correct = np.random.default_rng(0).random(800) < 0.7
    wanted = bootstrap((correct,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert scores.interval(correct, 4000) == pytest.approx((wanted.low, wanted.high), abs=0.004)
    first = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    second = np.array([1, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    assert scores.mcnemar(first, second) == (4, 1, pytest.approx(binomtest(1, 5).pvalue))
    assert scores.mcnemar(first, first) == (0, 0, 1.0)


def test_ece_keeps_the_two_surest_bins_apart():
    """All of 0.9 are right and 17 of 20 of 0.95: together they look calibrated, which they are not."""
    sure, surer = [[0.9, 0.1]] * 20, [[0.95, 0.05]] * 20
    labels = np.array([0] * 20 + [0] * 17 + [1] * 3)
    assert scores.ece(np.array(sure + surer), labels) == pytest.approx(0.1)
