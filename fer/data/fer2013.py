"""FER-2013 (Goodfellow et al. 2013, "Challenges in Representation Learning") in every layout people have.

fer2013.csv                       columns emotion, pixels, Usage
icml_face_data.csv                the same, in another order, with spaces before the names
fer2013.tar.gz                    the original release, with fer2013.csv in it
train/<class>/*, test/<class>/*   the Kaggle folders, or their zip
"""

import csv
import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np

from fer.data import cache
from fer.data.base import Split
from fer.data.folder import IMAGE_SUFFIXES, decode_grey, image_file
from fer.errors import DataError
from fer.files import expand, regular, unpacked
from fer.labels import EMOTIONS, canonical

SIDE = 48
KAGGLE = "msambare/fer2013"

_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""What the files of FER-2013 and of FER+ call our splits."""
_MOST = 1 << 30
"""Bytes of a CSV, and of all that an archive unpacks to: the real fer2013.csv has 301 million."""
_MEMBERS = 300_000
"""In an archive: the real one of the Kaggle folders has 35,887."""
_PIECE = 1 << 20
_LONGEST = 1 << 16
"""Characters of a line: a real one has less than 10,000."""

Member = tuple[str, bytes]
"""(path inside an archive or folder, with /, and its contents)."""


def read(root: str | Path | None = None, download: bool = False, seed: int = 0) -> dict[str, Split]:
    """Read the splits train, val (PublicTest) and test (PrivateTest): uint8 (N, 48, 48), labels as in `EMOTIONS`.

    `root` is a folder, or one of the files above; None means the folder in `FER2013_ROOT`, else `data/fer2013`.
    `download` fetches the public Kaggle set where there is nothing at `root`. `seed` only matters for Kaggle
    folders whose file names do not tell val from test: a stratified tenth of train becomes val.
    The result is cached (`fer.data.cache`). Raises `DataError` for anything missing or malformed, by name and place.
    """
    place = expand(root or os.environ.get("FER2013_ROOT") or "data/fer2013")
    if download and not find(place):
        place = _download()
    source = find(place)
    if source is None:
        raise DataError(_nothing_at(place))
    return cache.cached(cache.stamp(source, "fer2013", seed), lambda: _read(source, seed))


def _nothing_at(place: Path) -> str:
    fix = "put fer2013.csv, icml_face_data.csv, fer2013.tar.gz or the Kaggle folders or zip there, or set "
    fix += "data.root or FER2013_ROOT, or data.download=true, or try data=synthetic"
    if place.is_file():
        return f"{place} is not a FER-2013 file; {fix}"
    return f"no FER-2013 in {place}; {fix}"


def _download() -> Path:
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the download of {KAGGLE} failed ({reason}); fetch it by hand and set data.root to its folder or zip"
        ) from None


def find(place: Path) -> Path | None:
    """The file or folder that `read` reads: `place` itself or the best candidate in it, None where there is none."""
    if place.is_file():
        known = place.suffix.lower() in (".csv", ".zip", ".gz", ".tgz", ".tar")
        return place if known else None
    for folder in (place, place / "fer2013"):
        for name in (*_CSV_NAMES, "fer2013.tar.gz"):
            if (folder / name).is_file():
                return folder / name
        if (folder / "train").is_dir():
            return folder
        zips = sorted(path for path in folder.glob("*.zip") if path.is_file())
        if zips:
            return zips[0]
    return None


def _read(source: Path, seed: int) -> dict[str, Split]:
    if source.is_dir():
        return _from_images(_walk(source), str(source), seed)
    if source.suffix.lower() != ".csv":
        return _from_archive(source, seed)
    try:
        if regular(source).stat().st_size > _MOST:
            raise DataError(f"{source} is larger than {_MOST >> 20} MB, fer2013.csv has 287; fetch it again")
        with source.open("rb") as file:
            return _from_csv(file, str(source))
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); fetch it again") from None


def _from_archive(source: Path, seed: int) -> dict[str, Split]:
    images: list[Member] = []
    for name, data in _members(source):
        if PurePosixPath(name).name in _CSV_NAMES:
            return _from_csv(io.BytesIO(data), f"{source}:{name}")
        images.append((name, data))
    return _from_images(iter(images), str(source), seed)


def _walk(root: Path) -> Iterator[Member]:
    for path in sorted(root.glob("*/*/*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts)  # by a Mac, or a notebook
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden:
            yield inside.as_posix(), image_file(path)


def _members(source: Path) -> Iterator[Member]:
    """What is wanted of an archive, in memory: nothing of it is written anywhere.

    Raises `DataError`, also for more than `_MOST` bytes and `_MEMBERS` members, whatever its headers claim.
    """
    left = _MOST
    try:
        for name, file in _unzip(source) if source.suffix.lower() == ".zip" else _untar(source):
            data = unpacked(file, left)
            left -= len(data)
            yield name, data
    except DataError:
        raise
    except Exception as error:  # of damaged bytes, zipfile and tarfile raise what their parsing happens to end in
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{source} is damaged or cut short ({reason}); fetch it again") from error


def _wanted(name: str, source: Path) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{source} holds a path that climbs out of it ({name!r}); do not trust this archive")
    if path.name.startswith(".") or "__MACOSX" in path.parts:  # what a Mac adds to the archives that it makes
        return False
    return path.name in _CSV_NAMES or path.suffix.lower() in IMAGE_SUFFIXES


def _unzip(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(regular(source)) as archive:
        names = [name for name in sorted(archive.namelist()) if _wanted(name, source)]
        for name in names:
            _check(len(names), archive.getinfo(name).file_size, source)
            if not stat.S_ISLNK(archive.getinfo(name).external_attr >> 16):
                try:
                    file = archive.open(name)
                except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way Python lacks
                    raise DataError(f"{source}: {error}; unpack it by hand and set data.root to the folder") from None
                with file:
                    yield name, file


class _Tar(io.BufferedReader):
    """The inside of a tar, of which tarfile reads at once, and skips, what its headers claim."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _PIECE:
            raise OSError("a header of it is out of all proportion")
        return super().read(size)

    def seek(self, place: int, whence: int = 0, /) -> int:
        if not 0 <= place <= 2 * _MOST:
            raise OSError(f"it unpacks to more than {2 * _MOST >> 20} MB")
        return super().seek(place, whence)


def _untar(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with regular(source).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        inside = gzip.GzipFile(fileobj=file) if packed else file
        with _Tar(cast(io.RawIOBase, inside)) as stream, tarfile.TarFile(fileobj=stream) as archive:
            for count, member in enumerate(archive):
                wanted = _wanted(member.name, source) and member.isfile()
                _check(count, member.size if wanted else 0, source)
                if wanted:
                    content = archive.extractfile(member)
                    assert content is not None
                    yield member.name, content


def _check(members: int, size: int, source: Path) -> None:
    if size > _MOST:
        raise DataError(f"{source} claims to hold {size >> 20} MB, fer2013.csv has 287; fetch it again")
    if members > _MEMBERS:
        raise DataError(f"{source} holds more than {_MEMBERS} files, FER-2013 has 35,887 images; fetch it again")


def rows(file: IO[bytes], place: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV in UTF-8, each with the place and line that it stands at, for what may be wrong with it; rows
    without anything are left out, and a row is one line.

    Raises `DataError` for what is no text, or has a line longer than any of FER-2013.
    """
    number = 0
    with io.TextIOWrapper(cast(io.BufferedReader, file), encoding="utf-8-sig", newline="") as lines:
        try:
            while line := lines.readline(_LONGEST + 1):
                number += 1
                if len(line) > _LONGEST:
                    raise DataError(f"{place}, line {number}: longer than {_LONGEST} characters; fetch the file again")
                if row := next(csv.reader([line]), None):
                    yield f"{place}, line {number}", row
        except UnicodeDecodeError:
            raise DataError(f"{place} is not text; fetch it again") from None
        except csv.Error as error:
            raise DataError(f"{place}, line {number}: not a CSV row ({error}); fetch the file again") from None


def _from_csv(file: IO[bytes], place: str) -> dict[str, Split]:
    table = rows(file, place)
    header = [name.strip().lower() for name in next(table, ("", []))[1]]
    for name in ("emotion", "pixels", "usage"):
        if name not in header:
            found = ", ".join(header)[:80]
            raise DataError(f"{place}: no column {name!r}; expected emotion, pixels, Usage, found {found!r}")
    columns = [header.index(name) for name in ("emotion", "pixels", "usage")]
    pixels: dict[str, list[bytes]] = {name: [] for name in USAGE.values()}
    labels: dict[str, list[int]] = {name: [] for name in USAGE.values()}
    for where, row in table:
        if len(row) < len(header):
            raise DataError(f"{where}: {len(row)} columns where the header has {len(header)}; fetch it again")
        emotion, text, usage = (row[column].strip() for column in columns)
        if usage not in USAGE:
            raise DataError(f"{where}: Usage is {usage[:20]!r}; expected one of {', '.join(USAGE)}")
        labels[USAGE[usage]].append(_label(emotion, where))
        pixels[USAGE[usage]].append(_pixels(text, where))
    images = {
        name: np.frombuffer(b"".join(every), dtype=np.uint8).reshape(-1, SIDE, SIDE) for name, every in pixels.items()
    }
    return _checked({name: (images[name], np.array(labels[name], dtype=np.int64)) for name in images}, place)


def _label(text: str, where: str) -> int:
    if text.isdecimal() and len(text) < 4 and int(text) < len(EMOTIONS):
        return int(text)
    raise DataError(f"{where}: the label is {text[:20]!r}; expected 0 ({EMOTIONS[0]}) to 6 ({EMOTIONS[-1]})")


def _pixels(text: str, where: str) -> bytes:
    values = text.split()
    if len(values) != SIDE * SIDE:
        raise DataError(f"{where}: {len(values)} pixels; expected {SIDE * SIDE} (48 × 48)")
    try:
        return bytes(map(int, values))  # refuses what is not a whole number from 0 to 255
    except ValueError:
        wrong = next(v for v in values if not re.fullmatch(r"\d{1,3}", v) or int(v) > 255)
        raise DataError(f"{where}: a pixel is {wrong[:20]!r}; expected whole numbers from 0 to 255") from None


def _from_images(members: Iterator[Member], place: str, seed: int) -> dict[str, Split]:
    images: list[np.ndarray] = []
    labels: list[int] = []
    homes: list[str] = []
    for name, data in members:
        parts = PurePosixPath(name).parts
        if len(parts) < 3 or parts[-3].lower() not in ("train", "test"):
            continue
        where = f"{place}/{name}"
        emotion = canonical(parts[-2])
        if emotion is None:
            raise DataError(
                f"{where}: {parts[-2]!r} is no emotion of FER-2013; for other classes use data=image_folder"
            )
        image = decode_grey(data, where)
        if image.shape != (SIDE, SIDE):
            size = f"{image.shape[1]}×{image.shape[0]}"
            raise DataError(f"{where}: {size} pixels; FER-2013 has 48×48, for other sizes use data=image_folder")
        images.append(image)
        labels.append(EMOTIONS.index(emotion))
        homes.append("val" if parts[-1].startswith("PublicTest_") else parts[-3].lower())
    stack = np.stack(images) if images else np.empty((0, SIDE, SIDE), dtype=np.uint8)
    home, label = np.array(homes, dtype=object), np.array(labels, dtype=np.int64)
    if "val" not in homes:
        home[_tenth(home, label, seed)] = "val"
    return _checked({name: (stack[home == name], label[home == name]) for name in USAGE.values()}, place)


def _tenth(home: np.ndarray, label: np.ndarray, seed: int) -> list[int]:
    """Row numbers of a seeded tenth of each class of train, at least one where there are two."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for number in range(len(EMOTIONS)):
        rows = np.flatnonzero((home == "train") & (label == number))
        chosen += rng.permutation(rows)[: max(len(rows) // 10, int(len(rows) > 1))].tolist()
    return chosen


def _checked(splits: dict[str, tuple[np.ndarray, np.ndarray]], place: str) -> dict[str, Split]:
    usage = {split: name for name, split in USAGE.items()}
    for name, (_, labels) in splits.items():
        if not len(labels):
            raise DataError(f"{place}: no {name} split (Usage {usage[name]}, or its folder); fetch the whole set")
        missing = [EMOTIONS[k] for k in range(len(EMOTIONS)) if k not in set(labels.tolist())]
        if missing:
            raise DataError(f"{place}: no {name} image of class {', '.join(missing)}; fetch the whole set")
    return {name: Split(images, labels, EMOTIONS) for name, (images, labels) in splits.items()}
