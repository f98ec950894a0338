"""Tables of labelled images: their text, their rows, and the files that the rows name."""

import codecs
import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from re import Pattern
from typing import Any, NamedTuple, TextIO

from fer.data.groups import Box, Image
from fer.data.layout import HIDDEN, SPLITS, split_name
from fer.errors import DataError
from fer.images import IMAGE_SUFFIXES
from fer.labels import key

USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""Our names of the splits by those in the files of FER-2013 and FER+."""

_OTHER_NAMES = {"emotion": "label", "usage": "split"}
"""Names that others give to the columns of FER-2013."""


class Row(NamedTuple):
    """An image in a table.

    Attributes:
        where: Its position for messages: "label.csv, line 7".
        split: "train", "val" or "test".
        file: Its path as the table gives it, on this computer or another; its last parts are enough.
        label: Name of its class.
        group: The person or session, "" if none is known.
        box: Of its face, or None.
    """

    where: str
    split: str
    file: str
    label: str
    group: str = ""
    box: Box | None = None


@dataclass(frozen=True)
class Dataset:
    """How a dataset is distributed. Each has a file beside this one and a config in conf/data.

    Attributes:
        name: As its authors write it.
        expected: What it consists of, and what to unpack, for messages.
        find: Returns what is read at or below a path, None if the dataset is not there.
        rows: Returns the folder of the images and the rows of what `find` found.
        numbers: The classes of numbered folders, for copies in class folders.
        is_copy: Whether class folders with these names, with an image such as this one, are such a copy;
            None if there are none.
        person: What the name of a file begins with, the person as its first group, where it names one.
        left_out: Labels that are no classes. Their images are counted and not read.
        recognised: Whether what `find` found can be of no other dataset, where the user has not named one.
    """

    name: str
    expected: str
    find: Callable[..., Path | None]
    rows: Callable[..., tuple[Path, Iterable[Row]]]
    numbers: Mapping[str, str] = field(default_factory=dict)
    is_copy: Callable[[set[str], Path], bool] | None = None
    person: Pattern[str] | None = None
    left_out: tuple[str, ...] = ()
    recognised: Callable[[Path], bool] = lambda found: True

    def images(self, found: Path, notes: list[str], **options: Any) -> dict[str, list[Image]]:
        """Return the images of each split in the order of their rows. What is not read is counted in `notes`.

        Raises:
            DataError: The table is malformed, or names files that are not there or there twice.
        """
        home, rows = self.rows(found, **options)
        files = _Files(home)
        splits: dict[str, list[Image]] = {}
        missing: list[str] = []
        for row in rows:
            path = files.find(row.file, row.where)
            if path is None:
                missing.append(row.file)
            else:
                splits.setdefault(row.split, []).append(Image(path, row.label, row.group, row.box))
        if not splits:
            lacking = f"{found} lists no image"
            if missing:
                lacking = f"none of the {len(missing)} images in {found} is below {home}, such as {missing[0]}"
            raise DataError(f"{lacking}; expected {self.expected}")
        if missing:
            what = f"images that it lists and that are missing: {len(missing)}, such as {missing[0]}"
            notes.append(f"{found}: {what}; expected {self.expected}")
        if others := files.beside([image.path for images in splits.values() for image in images]):
            example = f"{len(others)}, such as {others[0].relative_to(home).as_posix()}"
            notes.append(f"{found}: images that it does not list and that are not read: {example}")
        return {name: splits[name] for name in SPLITS if name in splits}


class _Files:
    """The image files below a folder, found by what tables call them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._by_name: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        for folder, folders, names in os.walk(home, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
            above = Path(folder).relative_to(home).parts
            for name in names:
                if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    self._by_name[name.casefold()].append((*above, name))

    def find(self, given: str, where: str) -> Path | None:
        """Return the file whose path ends as `given` does or, for paths of other computers, that `given` ends with.

        Case and the kind of slash make no difference. Raises `DataError` if there are several.
        """
        path = PurePosixPath(given.replace("\\", "/"))
        parts = tuple(part.casefold() for part in path.parts if part not in ("/", "."))
        absolute = path.is_absolute() or parts[0].endswith(":") if parts else False
        exact, longer = [], []
        for candidate in self._by_name.get(parts[-1] if parts else "", ()):
            own = tuple(part.casefold() for part in candidate)
            if own[-len(parts) :] == parts:
                exact.append(candidate)
            elif parts[-len(own) :] == own and (absolute or parts[-len(own) - 1] == self._home.name.casefold()):
                longer.append(candidate)
        shortest = sorted(exact or longer, key=len)[:2] if exact else sorted(longer, key=len, reverse=True)[:2]
        if len(shortest) == 2 and len(shortest[0]) == len(shortest[1]):
            either = " and ".join("/".join(each) for each in shortest)
            raise DataError(f"{where}: {given!r} is both {either} in {self._home}; leave one")
        return self._home.joinpath(*shortest[0]) if shortest else None

    def beside(self, listed: Sequence[Path]) -> list[Path]:
        """Return the images that are not among the listed ones, in the folders where those are."""
        known, folders = set(listed), {path.parent for path in listed}
        every = (self._home.joinpath(*parts) for each in self._by_name.values() for parts in each)
        return sorted(path for path in every if path.parent in folders and path not in known)


def first(root: Path, places: Sequence[str], name: str) -> Path | None:
    """Return the first file of the pattern `name` in `places`, patterns such as "" and "*/" below `root`, or None."""
    if not root.is_dir():
        return None
    return next((path for place in places for path in sorted(root.glob(place + name)) if path.is_file()), None)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file that are not empty, with their position for messages."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}, line {number}", line.strip()


def box_of(where: str, texts: Sequence[str], extent: bool = False) -> Box | None:
    """Return the box with the sides `texts`: left, top, right, bottom; None if all are empty.

    With `extent`, the last two are its width and height.

    Raises:
        DataError: It is none, or not in pixels.
    """
    if not any(texts):
        return None
    try:
        left, top, right, bottom = map(float, texts)
        right, bottom = (left + right, top + bottom) if extent else (right, bottom)
    except ValueError:
        raise DataError(f"{where}: the box {' '.join(texts)[:40]!r} is not four numbers") from None
    if not (left < right and top < bottom and max(right, bottom) > 1):
        sides = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
        raise DataError(f"{where}: no box from {sides}; expected pixels, x1 < x2 and y1 < y2")
    return left, top, right, bottom


def open_text(path: Path) -> TextIO:
    """Open a text file in UTF-8, or in the UTF-16 of spreadsheets, which begins with a byte order mark."""
    with path.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.open(encoding="utf-16" if wide else "utf-8-sig", newline="")


def _table(file: TextIO) -> tuple[list[str], "csv.DictReader[str]"]:
    """Return the columns of a CSV file as `fer.labels.key` has them, and a reader of its rows.

    Its separator is a comma, a semicolon or a tabulator.
    """
    separator = max(",;\t", key=file.readline().count)
    file.seek(0)
    reader = csv.DictReader(file, restval="", delimiter=separator)
    header = reader.fieldnames = [key(name) for name in reader.fieldnames or ()]
    return header, reader


def _column(header: Sequence[str], name: str) -> str | None:
    """Return the name in `header` of the column `name`, None without one."""
    return next((each for each in (key(name), _OTHER_NAMES.get(name)) if each in header), None)


def has_columns(path: Path, *names: str) -> bool:
    """Whether a file is a CSV file with these columns."""
    try:
        with open_text(path) as file:
            header, _ = _table(file)
            return all(_column(header, name) for name in names)
    except (OSError, UnicodeError, csv.Error):
        return False


def cells(path: Path, name: str, columns: Sequence[str], fix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of a CSV file, without empty ones.

    Args:
        path: The file. Of its header, case, surrounding spaces and aliases of emotions make no difference.
        name: Name of the file for messages.
        columns: The required columns; "" for a text that is always empty.
        fix: What to do where one is missing, for the message.

    Yields:
        For each row, its position for messages ("fer2013.csv, line 7") and the texts of `columns`, "" where the row is
        too short.

    Raises:
        DataError: Not a CSV file, or a column is missing.
        OSError: The file cannot be read.
    """
    line = 0
    try:
        with open_text(path) as file:
            header, table = _table(file)
            found = {each: _column(header, each) for each in columns if each}
            if missing := [each for each, its in found.items() if not its]:
                expected, given = ", ".join(found), ", ".join(header)[:200]
                found_but = f"expected {expected}, found {given!r}"
                raise DataError(f"{name}: no column {missing[0]!r}; {found_but}" + (f"; {fix}" if fix else ""))
            for row in table:
                line = table.line_num
                texts = [row[found[each] or ""].strip() if each else "" for each in columns]
                if any(texts):  # not a spreadsheet's last rows
                    yield f"{name}, line {line}", texts
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{name}, line {line + 1}: not CSV in UTF-8 ({error}); fetch it again") from None


def rows(
    path: Path, name: str, columns: Sequence[str], split: str | None = None
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rows of a CSV file of FER-2013 or FER+: position, split (train, val or test), and texts of `columns`.

    Args:
        path, name, columns: As in `cells`, without the column usage.
        split: Of all rows if there is no column usage; None to require it.

    Raises:
        DataError: As in `cells`, or a usage is unknown.
        OSError: The file cannot be read.
    """
    given = split is None or has_columns(path, "usage")
    for where, (*values, usage) in cells(path, name, [*columns, "usage" if given else ""]):
        named = split_name(usage) if given else split
        if named is None:
            raise DataError(f"{where}: Usage is {usage[:20]!r}; expected one of {', '.join(USAGE)}")
        yield where, named, values
