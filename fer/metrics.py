"""Metrics of predictions. A registered metric is part of every table and file, and of validation during training.

To add your own:

    @metric("top2", "top 2")
    def top2(probabilities, labels):
        return (np.argsort(probabilities, 1)[:, -2:] == labels[:, None]).any(1).mean()
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

BINS = 15
# (probabilities float (N, K), labels int (N,)) → a number, or one for each class, float (K,).
Function = Callable[[np.ndarray, np.ndarray], float | np.ndarray]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: Key in `compute`, such as "accuracy".
        function: What computes it.
        title: Heading of its column.
        format: How tables show a value: ".2%" shows 0.712 as 71.20%.
        per_class: Whether the function returns one number for each class, with the keys `<name>/<class>`.
        flip: Whether reports also have it with flip averaging, as `<name>_flip`.
        before: Its key in reports without the temperature; None if the temperature does not change it.
        after: Its key in reports with the temperature; None for `name`.
        lower: Whether lower values are better.
    """

    name: str
    function: Function
    title: str
    format: str = ".2%"
    per_class: bool = False
    flip: bool = False
    before: str | None = None
    after: str | None = None
    lower: bool = False

    def text(self, value: float) -> str:
        """Return a value as tables show it."""
        return f"{value:{self.format}}"


METRICS: dict[str, Metric] = {}


def metric(name: str, title: str | None = None, **options: Any) -> Callable[[F], F]:
    """Register a function as a metric; `options` are fields of `Metric`."""

    def register(function: F) -> F:
        METRICS[name] = Metric(name, function, title or name, **options)
        return function

    return register


def mode_of(key: str) -> str:
    """Return "min" for the key of a logged metric of which lower values are better, such as val/loss, else "max"."""
    name = key.rpartition("/")[2]
    return "min" if name in METRICS and METRICS[name].lower else "max"


def columns() -> dict[str, tuple[str, Metric]]:
    """Return title and metric for each key of a report that is one number, in the order of tables."""
    result = {}
    for name, entry in METRICS.items():
        if not entry.per_class:
            result[entry.after or name] = (entry.title, entry)
            if entry.flip:
                result[f"{name}_flip"] = (f"{entry.title}, flip", entry)
            if entry.before:
                result[entry.before] = (f"{entry.title}, uncalibrated", entry)
    return result


def compute(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Compute all registered metrics.

    Args:
        probabilities: Float (N, K), rows that sum to 1.
        labels: Int (N,) in 0 … K-1.
        classes: The K names.

    Returns:
        `<name>`, or `<name>/<class>` for metrics by class → value.
    """
    figures: dict[str, float] = {}
    for name, entry in METRICS.items():
        value = entry.function(probabilities, labels)
        keys = [f"{name}/{label}" for label in classes] if entry.per_class else [name]
        figures |= {key: float(v) for key, v in zip(keys, np.atleast_1d(value), strict=True)}
    return figures


@metric("accuracy", flip=True)
def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose most probable class is the true one."""
    return float((probabilities.argmax(1) == labels).mean())


@metric("recall_macro", "macro recall")
def recall_macro(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the recalls of the classes that occur."""
    return float(recall(probabilities, labels)[np.unique(labels)].mean())


@metric("f1_macro", "macro F1")
def f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the F1 scores of all classes."""
    return float(f1(probabilities, labels).mean())


@metric("ece", "ECE", format=".4f", before="ece_raw", lower=True)
def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1, over equal-width bins of the confidence (Guo et al. 2017, eq. 3)."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # |accuracy - confidence| of a bin, weighted by its share of the images
    return float(np.abs(np.bincount(index, correct - confidence, bins)).sum() / len(labels))


@metric("loss", "NLL", format=".4f", before="loss", after="nll", lower=True)
def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-30)).mean())


@metric("precision", per_class=True)
def precision(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the images predicted as a class that belong to it; 0 if there are none."""
    counts = _counts(probabilities, labels)
    return np.diag(counts) / np.maximum(counts.sum(0), 1)


@metric("recall", per_class=True)
def recall(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the images of a class that are predicted as it; 0 if there are none."""
    counts = _counts(probabilities, labels)
    return np.diag(counts) / np.maximum(counts.sum(1), 1)


@metric("f1", "F1", per_class=True)
def f1(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall; 0 for a class that is neither present nor predicted."""
    counts = _counts(probabilities, labels)
    return 2 * np.diag(counts) / np.maximum(counts.sum(0) + counts.sum(1), 1)


def _counts(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return confusion(probabilities.argmax(1), labels, probabilities.shape[1])


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix, int64 (K, K): rows are the true classes, columns the predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def worst(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rows of wrong predictions, int64 (M,), lowest probability of the true class first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]


def fit_temperature(logits: np.ndarray, labels: np.ndarray, mirrored: np.ndarray | None = None) -> float:
    """Return the temperature, 0.05 to 20, with the lowest negative log-likelihood (Guo et al. 2017, section 4.2).

    A share of 1 / (N + 2) of each label is spread over all classes (Platt 1999, "Probabilistic Outputs for Support
    Vector Machines", section 2.2): a few images that are all classified correctly do not show that no error occurs.

    Args:
        logits: Float (N, K), up to a constant in each row.
        labels: Int (N,).
        mirrored: Logits of the mirror images, if their probabilities are averaged with those of the images.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    views = [view.astype(np.float64) for view in (logits, mirrored) if view is not None]
    rows, spread = np.arange(len(labels)), 1 / (len(labels) + 2)

    def loss(log_t: float) -> float:
        # up to the constant of the mean over views
        logs = np.logaddexp.reduce([log_softmax(view / np.exp(log_t), axis=1) for view in views])
        return float(-(1 - spread) * logs[rows, labels].mean() - spread * logs.mean())

    bounds = np.log([0.05, 20.0])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x))


def interval(correct: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the share of True in bool (N,) (Wilson 1927)."""
    from scipy.stats import binomtest

    limits = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, "wilson")
    return float(limits.low), float(limits.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test (1947): whether one of two models is right more often on the same images.

    Args:
        first, second: Bool (N,), which images each model classifies correctly.

    Returns:
        The number of images that only the first and only the second model classifies correctly, and the two-sided p
        value, 1 if there are no such images.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    unlike = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, unlike).pvalue) if unlike else 1.0
