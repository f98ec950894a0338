"""AffectNet (Mollahosseini et al. 2017): training.csv and validation.csv beside Manually_Annotated_Images, or
train_set and val_set with images/*.jpg and annotations/*_exp.npy, or copies in numbered folders such as train_class/0.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fer.data.layout import split_name
from fer.data.listing import Dataset, Row, box_of, cells, first, has_columns
from fer.errors import DataError

_NO_CLASS = ("none", "uncertain", "no face")
_CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt", *_NO_CLASS)
LABELS = {str(number): name for number, name in enumerate(_CLASSES)}
"""The class of each label, 0 to 10. The order is not that of FER-2013."""

_BOX = ("face_x", "face_y", "face_width", "face_height")
_TABLES = {"training": "train", "validation": "val"}
_PLACES = ("", "*/", "*/*/")


def _find(root: Path) -> Path | None:
    """Return the first table, or the folder train_set or val_set."""
    if table := first(root, _PLACES, "training.csv") or first(root, _PLACES, "validation.csv"):
        return table
    annotated = [path for place in _PLACES if root.is_dir() for path in sorted(root.glob(f"{place}*_set/annotations"))]
    return annotated[0].parent if annotated else None


def _rows(found: Path) -> tuple[Path, Iterator[Row]]:
    if found.is_dir():
        return found.parent, _annotated(found.parent)
    home = found.parent
    if not any(child.is_dir() for child in home.iterdir()):  # lists in a folder of their own
        home = home.parent
    return home, _listed(found.parent)


def _listed(folder: Path) -> Iterator[Row]:
    for name, split in _TABLES.items():
        if (table := folder / f"{name}.csv").is_file():
            box = _BOX if has_columns(table, *_BOX) else ("",) * 4
            columns = ["subDirectory_filePath", "expression", *box]
            for where, (file, number, *sides) in cells(table, str(table), columns):
                label = _class(where, number)
                face = None if label in _NO_CLASS else box_of(where, sides, extent=True)  # these have "NULL"
                yield Row(where, split, file, label, file, face)


def _annotated(home: Path) -> Iterator[Row]:
    for folder in sorted(home.glob("*_set")):
        split = split_name(folder.name)
        for path in sorted(folder.glob("annotations/*_exp.npy")) if split else ():
            try:
                number = str(int(np.load(path)))
            except (OSError, ValueError, TypeError, EOFError) as error:
                raise DataError(f"{path} is not one whole number ({error}); fetch it again") from None
            name = path.name.removesuffix("_exp.npy")
            yield Row(str(path), str(split), f"{folder.name}/images/{name}.jpg", _class(str(path), number), name)


def _class(where: str, label: str) -> str:
    if label not in LABELS:
        raise DataError(f"{where}: the label is {label[:20]!r}; expected 0 (neutral) to 7 (contempt), or 8, 9, 10")
    return LABELS[label]


def _is_copy(names: set[str], example: Path) -> bool:
    above = {part.lower() for part in example.parts}
    return names <= set(LABELS) and ("affectnet" in "/".join(above) or bool({"train_class", "val_class"} & above))


DATASET = Dataset(
    "AffectNet",
    "training.csv, validation.csv and Manually_Annotated_Images, or train_set/annotations, or folders 0 to 7",
    _find,
    _rows,
    LABELS,
    _is_copy,
    left_out=_NO_CLASS,
    recognised=lambda found: found.is_dir() or has_columns(found, "subDirectory_filePath", "expression"),
)
