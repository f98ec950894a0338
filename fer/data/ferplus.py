"""FER+ (Barsoum et al. 2016) as its script writes it: FER2013Train/label.csv, FER2013Valid, FER2013Test, each a table
without header of image, box and the votes of ten taggers, beside its images of 48×48 pixels.

The label is the class with most votes, if it has five and more than unknown and NF, as in `fer.data.votes`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer import labels
from fer.data import votes
from fer.data.listing import Dataset, Row, first, open_text
from fer.errors import DataError

_SPLITS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_CLASSES = tuple(labels.key(name) for name in votes.COLUMNS[:-2])
_UNDECIDED = "without a majority"


def _find(root: Path) -> Path | None:
    table = first(root, ("", "*/", "*/*/"), "FER2013T*/label.csv") or first(root.parent, [f"{root.name}/"], "label.csv")
    return table and table.parent.parent if table and table.parent.name in _SPLITS else None


def _rows(home: Path) -> tuple[Path, Iterator[Row]]:
    return home, (row for folder in _SPLITS if (home / folder / "label.csv").is_file() for row in _listed(home, folder))


def _listed(home: Path, folder: str) -> Iterator[Row]:
    table = home / folder / "label.csv"
    with open_text(table) as file:
        for number, cells in enumerate(csv.reader(file), 1):
            where = f"{table}, line {number}"
            counts = [cell.strip().removesuffix(".0") for cell in cells[2:]]
            if number == 1 and counts and not any(map(str.isdecimal, counts)):
                continue  # a header that somebody added
            if not cells:
                continue
            if len(counts) != len(votes.COLUMNS) or not all(map(str.isdecimal, counts)):
                expected = f"expected image, box and {len(votes.COLUMNS)} votes"
                raise DataError(f"{where}: {','.join(cells)[:60]!r}; {expected}")
            majority = int(votes.majority(np.array([counts], dtype=np.int64), _CLASSES)[0])
            label = _CLASSES[majority] if majority >= 0 else _UNDECIDED
            yield Row(where, _SPLITS[folder], f"{folder}/{cells[0].strip()}", label)


DATASET = Dataset(
    "FER+",
    "FER2013Train, FER2013Valid and FER2013Test, each with label.csv and the images that FER+'s script writes",
    _find,
    _rows,
    left_out=(_UNDECIDED,),
)
