"""ExpW (Zhang et al. 2018, "From Facial Expression Recognition to Interpersonal Relation Prediction"): label/label.lst
and image/origin/*.jpg. Each line is an image, a number, top, left, right and bottom of a face, a confidence, a label.

All faces of one image are in the same split.
"""

from collections.abc import Iterator
from pathlib import Path

from fer.data.listing import Dataset, Row, box_of, first, lines
from fer.errors import DataError
from fer.labels import EMOTIONS

LABELS = {str(number): name for number, name in enumerate(EMOTIONS)}
"""The class of each label: the order is that of FER-2013."""


def _find(root: Path) -> Path | None:
    return first(root, ("", "label/", "*/", "*/label/"), "label.lst")


def _rows(table: Path) -> tuple[Path, Iterator[Row]]:
    home = table.parent.parent if table.parent.name == "label" else table.parent
    return home, _listed(table)


def _listed(table: Path) -> Iterator[Row]:
    for where, line in lines(table):
        name, *values = line.rsplit(maxsplit=7)
        if len(values) != 7 or values[-1] not in LABELS:
            expected = "expected image, number, top, left, right, bottom, confidence and a label from 0 to 6"
            raise DataError(f"{where}: {line[:60]!r}; {expected}")
        _, top, left, right, bottom, _, label = values
        yield Row(where, "train", name, LABELS[label], name, box_of(where, (left, top, right, bottom)))


DATASET = Dataset("ExpW", "label/label.lst and the unpacked images in image/origin", _find, _rows)
