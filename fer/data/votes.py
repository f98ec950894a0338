"""FER+ (Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution"): the votes of ten taggers for every image of FER-2013, `fer2013new.csv`."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fer.checks import check_path
from fer.data.base import Split
from fer.data.listing import USAGE, rows
from fer.errors import DataError
from fer.files import expand
from fer.labels import canonical, key

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
_AGREED = 5
"""Votes that make a class the majority."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read the votes for train, val and test: int64 (N, 10), columns as in `COLUMNS`, rows as in fer2013.csv.

    Raises:
        DataError: The file is missing or is not the CSV of FER+.
    """
    check_path("data.votes", path, optional=False)
    counts: dict[str, list[list[int]]] = {name: [] for name in USAGE.values()}
    try:
        for where, split, values in rows(expand(path), f"data.votes={path}", COLUMNS):
            numbers = [value.removesuffix(".0") for value in values]
            if not all(number.isdecimal() and len(number) < 7 for number in numbers):
                raise DataError(f"{where}: votes must be whole numbers from 0; fetch it again")
            counts[split].append([int(number) for number in numbers])
    except OSError as error:
        raise DataError(f"cannot read data.votes={path} ({error.strerror}); give the fer2013new.csv of FER+") from None
    return {name: np.array(votes, dtype=np.int64).reshape(-1, len(COLUMNS)) for name, votes in counts.items()}


def non_faces(counts: np.ndarray) -> np.ndarray:
    """Return bool (N,), whether "not a face" (NF) has more votes than anything else, for counts (N, 10)."""
    nf = COLUMNS.index("NF")
    return counts[:, nf] > np.delete(counts, nf, axis=1).max(axis=1)


def shares(counts: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Return target distributions: the share of each class in the votes for any of the classes.

    Votes for contempt, unknown and NF do not count; an image without any other votes keeps its label.

    Args:
        counts: int (N, 10), as from `read`.
        labels: int (N,).
        classes: K emotions.

    Returns:
        float32 (N, K), rows sum to 1.
    """
    columns = {canonical(name): index for index, name in enumerate(COLUMNS)}
    chosen = counts[:, [columns[name] for name in classes]].astype(np.float32)
    sums = chosen.sum(1, keepdims=True)
    own = np.eye(len(classes), dtype=np.float32)[labels]
    return np.where(sums > 0, chosen / np.maximum(sums, 1), own)


def majority(counts: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Return the class that most taggers chose: int64 (N,) for counts (N, 10), as from `read`.

    It is -1 where that class has fewer than five votes, or contempt, unknown or NF have as many.
    """
    columns = [key(name) for name in COLUMNS]
    chosen = counts[:, [columns.index(name) for name in classes]]
    others = counts[:, [name not in classes for name in columns]]
    most = chosen.max(1, initial=0)
    agreed = (most >= _AGREED) & (most > others.max(1, initial=0))
    return np.where(agreed, chosen.argmax(1), -1)


def attach(splits: dict[str, Split], counts: dict[str, np.ndarray], path: str | Path) -> dict[str, Split]:
    """Return the splits with the shares of the votes as their `targets`, and with their `majority`.

    A mixture has both already, from the votes of one of its parts.

    Raises:
        DataError: The votes belong to other images: their number or the classes differ, or they agree with so few
            labels that the order must be another, as in the Kaggle folders.
    """
    if any(split.majority is not None for split in splits.values()):
        return splits
    result = {}
    for name, split in splits.items():
        if set(split.classes) - {canonical(column) for column in COLUMNS}:
            raise DataError(f"data.votes={path} is for the seven emotions of FER-2013, not {', '.join(split.classes)}")
        if len(split) != len(counts[name]):
            counted = f"{len(counts[name])} rows of {name}, the data has {len(split)} images"
            raise DataError(f"data.votes={path} has {counted}; give the votes for this data")
        targets = shares(counts[name], split.labels, split.classes)
        agreement = float((targets.argmax(1) == split.labels).mean()) if len(split) else 1.0
        if agreement < 0.5:
            raise DataError(
                f"data.votes={path} agrees with only {agreement:.0%} of the labels of {name}: the images are "
                "in another order; use fer2013.csv or fer2013.tar.gz, not the Kaggle folders"
            )
        result[name] = replace(split, targets=targets, majority=majority(counts[name], split.classes))
    return result
