"""FER+ (Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution"): the votes of ten taggers for every image of FER-2013, `fer2013new.csv`."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer.data.base import Split
from fer.data.fer2013 import USAGE
from fer.data.fer2013 import rows as rows_of
from fer.errors import DataError
from fer.files import expand
from fer.files import read as contents
from fer.labels import canonical

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
_AGREEMENT = 0.5
_LARGEST = 1 << 24
"""Bytes: the real file has 1.6 million."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The counts of votes of train, val and test: int64 (N, 10), columns as in `COLUMNS`, rows as in fer2013.csv.

    Raises `DataError` where the file is missing or is not the votes of FER+.
    """
    try:
        table = rows_of(io.BytesIO(contents(expand(path), _LARGEST)), str(path))
    except OSError as error:
        raise DataError(f"cannot read data.votes={path} ({error.strerror}); give the fer2013new.csv of FER+") from None
    header = next(table, ("", []))[1]
    missing = [name for name in ("Usage", *COLUMNS) if name not in header]
    if missing:
        raise DataError(f"data.votes={path} has no column {missing[0]!r}; give the fer2013new.csv of FER+")
    found: dict[str, list[list[int]]] = {name: [] for name in USAGE.values()}
    for where, row in table:
        named = dict(zip(header, row, strict=False))
        counts = [named.get(name, "").strip() for name in COLUMNS]
        if named.get("Usage") not in USAGE or not all(n.isdecimal() and len(n) < 7 for n in counts):
            raise DataError(f"{where}: not a row of FER+; fetch it again")
        found[USAGE[named["Usage"]]].append([int(n) for n in counts])
    return {name: np.array(votes, dtype=np.int64).reshape(-1, len(COLUMNS)) for name, votes in found.items()}


def non_faces(counts: np.ndarray) -> np.ndarray:
    """bool (N,): where "not a face" (NF) has more votes than anything else, of counts (N, 10)."""
    nf = COLUMNS.index("NF")
    return counts[:, nf] > np.delete(counts, nf, axis=1).max(axis=1)


def shares(counts: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """float32 (N, K), rows that sum to 1: how the votes for any of the classes are shared out.

    Votes for contempt, unknown and NF do not count; an image without any other keeps its label.
    """
    columns = {canonical(name): place for place, name in enumerate(COLUMNS)}
    chosen = counts[:, [columns[name] for name in classes]].astype(np.float32)
    sums = chosen.sum(1, keepdims=True)
    own = np.eye(len(classes), dtype=np.float32)[labels]
    return np.where(sums > 0, chosen / np.maximum(sums, 1), own)


def attach(splits: dict[str, Split], counts: dict[str, np.ndarray], path: str | Path) -> dict[str, Split]:
    """The splits with the votes as their `targets`.

    Raises `DataError` where the votes belong to other images: another number, other classes, or so little agreement
    with the labels that the order must be another (the Kaggle folders have no order).
    """
    result = {}
    for name, split in splits.items():
        if set(split.classes) - {canonical(column) for column in COLUMNS}:
            raise DataError(f"data.votes={path} is for the seven emotions of FER-2013, not {', '.join(split.classes)}")
        if len(split) != len(counts[name]):
            found = f"{len(counts[name])} rows of {name}, the data has {len(split)} images"
            raise DataError(f"data.votes={path} does not belong to this data: it has {found}")
        targets = shares(counts[name], split.labels, split.classes)
        agreement = float((targets.argmax(1) == split.labels).mean()) if len(split) else 1.0
        if agreement < _AGREEMENT:
            raise DataError(
                f"data.votes={path} agrees with only {agreement:.0%} of the labels of {name}: the images are "
                "in another order; use fer2013.csv or fer2013.tar.gz, not the Kaggle folders"
            )
        result[name] = replace(split, targets=targets)
    return result
