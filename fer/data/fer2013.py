"""FER-2013 (Goodfellow et al. 2013, "Challenges in Representation Learning") in every layout people have.

fer2013.csv                       columns emotion, pixels, Usage
icml_face_data.csv                the same, in another order, with spaces before the names
fer2013.tar.gz                    the original release, with fer2013.csv in it
train/<class>/*, test/<class>/*   the Kaggle folders, or their zip
"""

import csv
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from fer.data import cache
from fer.data.dataset import Split
from fer.data.folder import IMAGE_SUFFIXES, decode_grey
from fer.errors import DataError
from fer.files import expanded
from fer.labels import EMOTIONS, canonical

SIDE = 48
KAGGLE = "msambare/fer2013"

_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""What the files of FER-2013 and of FER+ call our splits."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, OSError)

Member = tuple[str, bytes]
"""(path inside an archive or folder, with /, and its contents)."""


def read(root: str | Path | None = None, download: bool = False, seed: int = 0) -> dict[str, Split]:
    """Read the splits train, val (PublicTest) and test (PrivateTest): uint8 (N, 48, 48), labels as in `EMOTIONS`.

    `root` is a folder, or one of the files above; None means the folder in `FER2013_ROOT`, else `data/fer2013`.
    `download` fetches the public Kaggle set where there is nothing at `root`. `seed` only matters for Kaggle
    folders whose file names do not tell val from test: a stratified tenth of train becomes val.
    The result is cached (`fer.data.cache`). Raises `DataError` for anything missing or malformed, by name and place.
    """
    place = expanded(root or os.environ.get("FER2013_ROOT") or "data/fer2013")
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
        zips = sorted(folder.glob("*.zip"))
        if zips:
            return zips[0]
    return None


def _read(source: Path, seed: int) -> dict[str, Split]:
    try:
        if source.suffix.lower() == ".csv":
            with source.open(newline="", encoding="utf-8-sig") as lines:
                return _from_csv(lines, str(source))
        if source.is_dir():
            return _from_images(_walk(source), str(source), seed)
        return _from_archive(_unzip(source) if source.suffix.lower() == ".zip" else _untar(source), source, seed)
    except UnicodeDecodeError:
        raise DataError(f"{source} is not text; fetch it again") from None
    except _BROKEN as error:
        raise DataError(f"{source} is damaged or cut short ({error}); fetch it again") from None


def _from_archive(members: Iterator[Member], source: Path, seed: int) -> dict[str, Split]:
    images: list[Member] = []
    for name, data in members:
        if PurePosixPath(name).name in _CSV_NAMES:
            return _from_csv(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), f"{source}:{name}")
        images.append((name, data))
    return _from_images(iter(images), str(source), seed)


def _walk(root: Path) -> Iterator[Member]:
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _wanted(name: str, source: Path) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{source} holds a path that climbs out of it ({name!r}); do not trust this archive")
    if path.name.startswith(".") or "__MACOSX" in path.parts:  # what a Mac adds to the archives that it makes
        return False
    return path.name in _CSV_NAMES or path.suffix.lower() in IMAGE_SUFFIXES


def _unzip(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for name in [n for n in sorted(archive.namelist()) if _wanted(n, source)]:
            if not stat.S_ISLNK(archive.getinfo(name).external_attr >> 16):
                try:
                    yield name, archive.read(name)
                except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way Python lacks
                    raise DataError(f"{source}: {error}; unpack it by hand and set data.root to the folder") from None


def _untar(source: Path) -> Iterator[Member]:
    with tarfile.open(source) as archive:
        for member in archive:
            if _wanted(member.name, source) and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _from_csv(lines: Iterator[str] | io.TextIOBase, place: str) -> dict[str, Split]:
    reader = csv.reader(lines)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for name in ("emotion", "pixels", "usage"):
            if name not in header:
                raise DataError(f"{place}: no column {name!r}; expected emotion, pixels, Usage, found {header[:6]}")
        columns = [header.index(name) for name in ("emotion", "pixels", "usage")]
        pixels: dict[str, list[bytes]] = {name: [] for name in USAGE.values()}
        labels: dict[str, list[int]] = {name: [] for name in USAGE.values()}
        for row in reader:
            where = f"{place}, line {reader.line_num}"
            if not row:
                continue
            if len(row) < len(header):
                raise DataError(f"{where}: {len(row)} columns where the header has {len(header)}; fetch it again")
            emotion, text, usage = (row[column].strip() for column in columns)
            if usage not in USAGE:
                raise DataError(f"{where}: Usage is {usage!r}; expected one of {', '.join(USAGE)}")
            labels[USAGE[usage]].append(_label(emotion, where))
            pixels[USAGE[usage]].append(_pixels(text, where))
    except csv.Error as error:
        raise DataError(f"{place}, line {reader.line_num}: not a CSV row ({error}); fetch the file again") from None
    images = {
        name: np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, SIDE, SIDE) for name, rows in pixels.items()
    }
    return _checked({name: (images[name], np.array(labels[name], dtype=np.int64)) for name in images}, place)


def _label(text: str, where: str) -> int:
    if text.isdecimal() and int(text) < len(EMOTIONS):
        return int(text)
    raise DataError(f"{where}: the label is {text!r}; expected 0 ({EMOTIONS[0]}) to 6 ({EMOTIONS[-1]})")


def _pixels(text: str, where: str) -> bytes:
    values = text.split()
    if len(values) != SIDE * SIDE:
        raise DataError(f"{where}: {len(values)} pixels; expected {SIDE * SIDE} (48 × 48)")
    try:
        return bytes(map(int, values))  # refuses what is not a whole number from 0 to 255
    except ValueError:
        wrong = next(v for v in values if not (v.isdecimal() and int(v) < 256))
        raise DataError(f"{where}: a pixel is {wrong!r}; expected whole numbers from 0 to 255") from None


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
