"""What is computed of answers and labels: confusion, F1, calibration, intervals, tests."""

import numpy as np
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

BINS = 15


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in 0.05 … 20 with the lowest negative log-likelihood (Guo et al. 2017, section 4.2).

    The likelihood has one minimum in 1/T, so a golden-section search on log T finds it.
    """
    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(logits.double() / float(np.exp(log_t)), labels))

    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1, over equal-width bins of the confidence (Guo et al. 2017, eq. 3)."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    where = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = [
        abs(correct[where == b].mean() - confidence[where == b].mean()) * (where == b).mean()
        for b in range(bins)
        if (where == b).any()
    ]
    return float(sum(gaps))


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean negative log-likelihood of labels (N,) under probabilities (N, K), in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-30)).mean())


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts int64 (K, K): rows are the true classes, columns the predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def scores(matrix: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """accuracy, f1_macro and recall/<class>, each 0 to 1, of a confusion matrix (K, K)."""
    found = per_class(matrix)
    result = {"accuracy": float(np.trace(matrix) / matrix.sum()), "f1_macro": float(found["f1"].mean())}
    return result | {f"recall/{name}": float(value) for name, value in zip(classes, found["recall"], strict=True)}


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall and f1, float64 (K,) from 0 to 1, and support, int64 (K,), of a confusion matrix (K, K)."""
    right = np.diag(matrix).astype(np.float64)
    true, said = matrix.sum(1), matrix.sum(0)
    return {
        "precision": right / np.maximum(said, 1),
        "recall": right / np.maximum(true, 1),
        "f1": 2 * right / np.maximum(true + said, 1),
        "support": true,
    }


def worst(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 (M,): the rows that are answered wrongly, those first whose true class got the lowest probability."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]


def interval(correct: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The bootstrap 95 % interval, by percentiles, of the share of True in bool (N,) (Efron 1979).

    How many of N draws with replacement are True has a binomial distribution, so it is drawn from directly.
    """
    shares = np.random.default_rng(seed).binomial(len(correct), correct.mean(), resamples) / len(correct)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Which of two models is right more often, on the same images: McNemar's test (1947) in its exact form.

    first, second: bool (N,), where each is right. Returns how many images only the first and only the second gets
    right, and the two-sided probability of a split this uneven between equals (1 where there is no such image).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    unlike = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, unlike).pvalue) if unlike else 1.0
