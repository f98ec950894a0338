"""Any CSV file of labelled images: a path and a label in each row and, where there are such columns, the split, the box
of the face and the person or session.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer import labels
from fer.checks import check_path
from fer.data.layout import split_name
from fer.data.listing import Dataset, Row, box_of, cells, has_columns
from fer.errors import ConfigError, DataError
from fer.files import expand

_SUFFIXES = (".csv", ".tsv", ".txt")

COLUMNS: dict[str, Any] = dict(path="path", label="label", split="split", group="group", box=("x1", "y1", "x2", "y2"))
"""The names of the columns. Those of split, group and box may be missing from a file, unless others are given."""


def _find(root: Path, columns: Mapping[str, Any] | None = None, **_: Any) -> Path | None:
    """Return the list: `root` itself, or the one in it."""
    required = [(columns or COLUMNS)[each] for each in ("path", "label")]
    files = [root] if root.is_file() else [path for path in sorted(root.glob("*")) if path.suffix.lower() in _SUFFIXES]
    lists = [path for path in files if has_columns(path, *required)]
    if len(lists) > 1:
        raise DataError(f"{root} has the lists {lists[0].name} and {lists[1].name}; set data.root to one of them")
    if not lists and columns and len(files) == 1:
        return files[0]  # the message names the column that it lacks
    return lists[0] if lists else None


def _rows(
    table: Path,
    columns: Mapping[str, Any] | None = None,
    names: Sequence[str] | Mapping[Any, str] | None = None,
    images: str | None = None,
) -> tuple[Path, Iterator[Row]]:
    """Return the folder of the images and the rows.

    Args:
        table: The file.
        columns: Names of columns by their meaning, as `COLUMNS`; None for a column that is not to be read.
        names: Of numbered classes: from 0 on, or by number.
        images: The folder to which paths are relative; None for that of the table.

    Raises:
        DataError: A column is missing, or a label, split or box is none.
        ConfigError: An argument is of the wrong type.
    """
    check_path("data.images", images)
    home = expand(images) if images else table.parent
    if not home.is_dir():
        raise DataError(f"no folder {home}; set data.images to the folder of the images")
    return home, _listed(table, _columns(table, columns or {}), names)


def _columns(table: Path, given: Mapping[str, Any]) -> list[str]:
    """Return the names of eight columns: path, label, split, group and the sides of the box; "" where there is none."""
    merged = {**COLUMNS, **given}
    merged["box"] = tuple(merged["box"] or ("",) * 4)
    flat = [merged[each] or "" for each in ("path", "label", "split", "group")] + list(merged["box"])
    if merged.keys() != COLUMNS.keys() or len(flat) != 8 or not all(isinstance(each, str) for each in flat):
        raise ConfigError("data.columns has a name for each of path, label, split and group, and four for box")
    for each in ("split", "group", "box"):
        usual = [COLUMNS[each]] if isinstance(COLUMNS[each], str) else list(COLUMNS[each])
        if set(usual) <= set(flat) and not any(has_columns(table, name) for name in usual):
            flat = ["" if name in usual else name for name in flat]
    return flat


def _listed(table: Path, columns: list[str], names: Sequence[str] | Mapping[Any, str] | None) -> Iterator[Row]:
    fix = "name yours, as in data.columns.path=file data.columns.label=emotion"
    rows = list(cells(table, str(table), columns, fix))
    classes = _classes(table, {texts[1] for _, texts in rows}, names)
    has_split = any(texts[2] for _, texts in rows)
    for where, (path, label, split, group, *box) in rows:
        named = split_name(split) if has_split else "train"
        if named is None:
            raise DataError(f"{where}: the split is {split[:20]!r}; expected train, val or test")
        if not path or label not in classes:
            what = f"the label is {label[:20]!r}; expected one of {', '.join(classes)[:80]}" if path else "no path"
            raise DataError(f"{where}: {what}")
        yield Row(where, named, path, classes[label], group, box_of(where, box))


def _classes(table: Path, found: set[str], names: Sequence[str] | Mapping[Any, str] | None) -> dict[str, str]:
    """Return the class of each label, without empty ones."""
    if names:
        by_number = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        numbers = {str(number): str(name) for number, name in by_number.items()}
        plain = labels.unify(numbers.values())
        known = {number: plain[name] for number, name in numbers.items()}
        return known | {label: known[short] for label in found if (short := label.removesuffix(".0")) in known}
    if found and all(label.removesuffix(".0").isdecimal() for label in found):
        fix = "name them, as in data.names=[angry,disgust,fear] from 0 on, or data.names={1: happy, 2: sad}"
        raise DataError(f"{table}: the labels are numbers; {fix}")
    return labels.unify(found - {""})


DATASET = Dataset("list", "a CSV file with the columns path and label", _find, _rows)
