import numpy as np
import pytest
from scipy.stats import binomtest

from fer import metrics
from fer.metrics import METRICS


def certain(predicted: list[int], classes: int = 3) -> np.ndarray:
    return np.eye(classes)[predicted]


def test_figures_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    figures = metrics.compute(certain([0, 0, 1, 1, 1, 0]), labels, ("a", "b", "c"))
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert [figures[f"recall/{label}"] for label in "abc"] == pytest.approx([2 / 3, 1, 0])
    assert [figures[f"precision/{label}"] for label in "abc"] == pytest.approx([2 / 3, 2 / 3, 0])
    assert [figures[f"f1/{label}"] for label in "abc"] == pytest.approx([2 / 3, 4 / 5, 0])
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert figures["recall_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_lower_is_better_for_losses_alone():
    modes = {key: metrics.mode_of(key) for key in ("val/loss", "val_votes/loss", "val/ece", "val/accuracy", "own")}
    assert modes == {"val/loss": "min", "val_votes/loss": "min", "val/ece": "min", "val/accuracy": "max", "own": "max"}


def test_macro_recall_ignores_classes_without_images():
    assert metrics.recall_macro(certain([0, 1, 2]), np.array([0, 1, 1])) == pytest.approx(0.75)


def test_confusion_has_true_classes_as_rows():
    matrix = metrics.confusion(np.array([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 2]), 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_f1_ece_and_loss_agree_with_torchmetrics():
    import torch
    from torchmetrics.functional import classification

    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(7), 500), rng.integers(0, 7, 500)
    figures = metrics.compute(probabilities, labels, tuple("abcdefg"))
    given = torch.tensor(probabilities), torch.tensor(labels), 7
    assert figures["f1_macro"] == pytest.approx(float(classification.multiclass_f1_score(*given)), abs=1e-6)
    assert figures["ece"] == pytest.approx(
        float(classification.multiclass_calibration_error(*given, n_bins=15)), abs=1e-6
    )
    assert figures["loss"] == pytest.approx(float(torch.nn.functional.nll_loss(given[0].log(), given[1])))


def test_ece_of_certain_predictions_is_their_error():
    assert metrics.ece(certain([0, 1, 2, 0]), np.array([0, 1, 2, 0])) == 0
    assert metrics.ece(certain([0, 1, 2, 0]), np.array([1, 2, 0, 1])) == 1


def test_ece_does_not_merge_neighbouring_bins():
    """All of 0.9 are right and 17 of 20 of 0.95: in one bin they would look calibrated."""
    probabilities = np.array([[0.9, 0.1]] * 20 + [[0.95, 0.05]] * 20)
    labels = np.array([0] * 20 + [0] * 17 + [1] * 3)
    assert metrics.ece(probabilities, labels) == pytest.approx(0.1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_scaling_of_the_logits(factor):
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20000, 5))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(1)  # drawn from softmax(honest)
    assert metrics.fit_temperature(honest * factor, labels) == pytest.approx(factor, rel=0.04)


def test_few_images_without_a_mistake_do_not_make_a_model_sure():
    labels = np.arange(28) % 7
    logits = 2 * np.eye(7)[labels]
    shares = np.exp(logits / metrics.fit_temperature(logits, labels))
    sure = (shares / shares.sum(1, keepdims=True)).max(1)
    assert sure == pytest.approx(1 - 6 / 7 / 30, abs=1e-3)  # of 28 images, a share of 1/30 of each label is spread


def test_the_temperature_of_a_mean_over_mirror_images_is_that_of_the_mean():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    one, other = (3 * np.eye(3)[labels] + rng.normal(0, 3, (400, 3)) for _ in range(2))

    def nll(temperature: float) -> float:
        views = [np.exp(view / temperature) for view in (one, other)]
        mean = sum(view / view.sum(1, keepdims=True) for view in views) / 2
        return -np.log(mean[np.arange(400), labels]).mean()

    fitted = metrics.fit_temperature(one, labels, other)
    assert fitted < metrics.fit_temperature(one, labels) - 0.1  # means are less confident
    assert nll(fitted) < min(nll(fitted * 1.02), nll(fitted / 1.02))
    assert metrics.fit_temperature(one, labels, one) == pytest.approx(metrics.fit_temperature(one, labels))


@pytest.mark.parametrize("right", [20, 0])
def test_the_interval_of_a_share_of_one_or_zero_has_a_width(right):
    low, high = metrics.interval(np.arange(20) < right)
    assert (low, high) == pytest.approx((0.8389, 1) if right else (0, 0.1611), abs=1e-4)


def test_interval_holds_the_share_and_narrows_with_more_images():
    low, high = metrics.interval(np.array([True] * 70 + [False] * 30))
    assert (low, high) == pytest.approx((0.604, 0.781), abs=1e-3)
    more = metrics.interval(np.array([True] * 700 + [False] * 300))
    assert low < more[0] < 0.7 < more[1] < high


def test_mcnemar_counts_where_only_one_is_right():
    first = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    second = np.array([1, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    assert metrics.mcnemar(first, second) == (4, 1, pytest.approx(binomtest(1, 5).pvalue))
    assert metrics.mcnemar(first, first) == (0, 0, 1.0)


def test_worst_are_the_wrong_ones_least_probable_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    assert metrics.worst(probabilities, np.array([1, 1, 0, 1])).tolist() == [1, 0]


def test_a_registered_metric_is_computed(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))
    metrics.metric("least", format=".4f")(lambda probabilities, labels: probabilities.min())
    figures = metrics.compute(certain([0, 1]), np.array([0, 1]), ("a", "b", "c"))
    assert figures["least"] == 0
    assert metrics.METRICS["least"].text(0.5) == "0.5000"
    assert metrics.METRICS["accuracy"].text(0.5) == "50.00%"
