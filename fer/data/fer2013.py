"""FER-2013 (Goodfellow et al. 2013, "Challenges in Representation Learning") in every layout in circulation.

fer2013.csv                       columns emotion, pixels, Usage
icml_face_data.csv                the same in another order, with spaces before the names
fer2013.tar.gz                    the original release, which contains fer2013.csv
train/<class>/*, test/<class>/*   the Kaggle folders, or their zip
"""

import csv
import io
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fer.checks import check_flag, check_number, check_path
from fer.data import cache
from fer.data.base import Split
from fer.data.folder import list_images, load_image
from fer.errors import DataError
from fer.files import expand
from fer.labels import EMOTIONS, canonical

SIDE = 48
KAGGLE = "msambare/fer2013"
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""Our names of the splits by those in the files of FER-2013 and FER+."""

_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
_LABELS = {str(label): label for label in range(len(EMOTIONS))}

Labelled = tuple[str, int, bytes]
"""Split, label and pixels of an image."""


def read(root: str | Path | None = None, download: bool = False, seed: int = 0) -> dict[str, Split]:
    """Read the splits train, val (PublicTest) and test (PrivateTest): uint8 (N, 48, 48), labels as in `EMOTIONS`.

    The result is cached, see `fer.data.cache`.

    Args:
        root: A folder, or one of the files above; None means the folder in `FER2013_ROOT`, else `data/fer2013`.
        download: Fetch the public Kaggle set if there is nothing at `root`.
        seed: Chooses the tenth of train that becomes val in Kaggle folders whose file names do not mark val.

    Raises:
        DataError: Something is missing or malformed. The message names the file and, in a CSV, the line.
    """
    check_path("data.root", root)
    check_flag("data.download", download)
    check_number("seed", seed, whole=True)
    path = expand(root or os.environ.get("FER2013_ROOT") or "data/fer2013")
    source = find(path)
    if source is None and download:
        source = find(_download())
    if source is None:
        raise DataError(
            f"no FER-2013 in {path}; put fer2013.csv, icml_face_data.csv, fer2013.tar.gz or the Kaggle folders or zip "
            "there, or set data.root or FER2013_ROOT, or data.download=true, or try data=synthetic"
        )
    return cache.cached(cache.stamp(source, "fer2013", seed), lambda: _read(source, seed))


def _download() -> Path:
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot download {KAGGLE} ({reason}); fetch it by hand and set data.root") from None


def find(path: Path) -> Path | None:
    """Return the file or folder to read, which is `path` itself or the best candidate in it; None if there is none."""
    if path.is_file():
        return path if path.suffix.lower() in (".csv", ".zip", ".gz", ".tgz", ".tar") else None
    for folder in (path, path / "fer2013"):
        files = [folder / name for name in (*_CSV_NAMES, "fer2013.tar.gz") if (folder / name).is_file()]
        if files or (folder / "train").is_dir():
            return files[0] if files else folder
        if zips := sorted(folder.glob("*.zip")):
            return zips[0]
    return None


def _read(source: Path, seed: int) -> dict[str, Split]:
    if source.is_dir() or source.suffix.lower() == ".csv":
        return _parse(source, str(source), seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if source.suffix.lower() == ".zip":
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(folder)
            else:
                with tarfile.open(source) as archive:
                    archive.extractall(folder, filter="data")
        except Exception as error:  # zipfile and tarfile raise many kinds for damaged files
            reason = " ".join(str(error).partition(": -")[0].split()) or type(error).__name__
            fix = "fetch it again, or unpack it and set data.root to its folder"
            raise DataError(f"{source} is damaged, cut short or encrypted ({reason}); {fix}") from error
        tables = [path for path in sorted(Path(folder).rglob("*.csv")) if path.name in _CSV_NAMES]
        return _parse(tables[0] if tables else Path(folder), str(source), seed)


def _parse(path: Path, name: str, seed: int) -> dict[str, Split]:
    """Read a CSV file, or a folder that contains train/<class>/ and test/<class>/; `name` is for messages."""
    if path.is_dir():
        return _splits(_folder_images(path, name), name, seed)
    with path.open("rb") as file:
        return _splits(_csv_images(file, name), name)


def rows(file: IO[bytes], name: str, columns: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rows of a CSV file of FER-2013 or FER+.

    Args:
        file: The file, UTF-8. Case and surrounding spaces of its header are ignored.
        name: Name of the file for messages.
        columns: The required columns besides usage, in lower case.

    Yields:
        For each row, its position for messages ("fer2013.csv, line 7"), its split (train, val or test) and the texts
        of `columns`, "" where the row is too short.

    Raises:
        DataError: Not a CSV file, a column is missing, or a usage is unknown.
    """
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, restval="")
        try:
            header = reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or ()]
            if missing := [column for column in (*columns, "usage") if column not in header]:
                expected, given = ", ".join([*columns, "Usage"]), ", ".join(header)[:80]
                raise DataError(f"{name}: no column {missing[0]!r}; expected {expected}, found {given!r}")
            for row in reader:
                where = f"{name}, line {reader.line_num}"
                usage, *values = (row[column].strip() for column in ("usage", *columns))
                if usage not in USAGE:
                    raise DataError(f"{where}: Usage is {usage[:20]!r}; expected one of {', '.join(USAGE)}")
                yield where, USAGE[usage], values
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{name}, line {reader.line_num + 1}: not CSV in UTF-8 ({error}); fetch it again") from None


def _csv_images(file: IO[bytes], name: str) -> Iterator[Labelled]:
    for where, split, (emotion, text) in rows(file, name, ("emotion", "pixels")):
        if emotion not in _LABELS:
            raise DataError(f"{where}: the label is {emotion[:20]!r}; expected 0 (angry) to 6 (neutral)")
        try:
            pixels = bytes(map(int, text.split()))
        except ValueError:
            raise DataError(f"{where}: a pixel is not a whole number from 0 to 255; fetch it again") from None
        if len(pixels) != SIDE * SIDE:
            raise DataError(f"{where}: {len(pixels)} pixels; expected {SIDE * SIDE} (48 × 48)")
        yield split, _LABELS[emotion], pixels


def _folder_images(root: Path, name: str) -> Iterator[Labelled]:
    for path in list_images(root):
        where = f"{name}/{path.relative_to(root).as_posix()}"
        *_, folder, label, file = ("", "", *path.relative_to(root).parts)
        if folder.lower() not in ("train", "test"):
            continue
        emotion = canonical(label)
        if emotion is None:
            raise DataError(f"{where}: {label!r} is no emotion of FER-2013; for other classes use data=image_folder")
        image = load_image(path, where, channels=1)
        if image.shape != (SIDE, SIDE):
            size = f"{image.shape[1]}×{image.shape[0]}"
            raise DataError(f"{where}: {size} pixels; FER-2013 has 48×48, for other sizes use data=image_folder")
        split = "val" if file.startswith("PublicTest_") else folder.lower()
        yield split, EMOTIONS.index(emotion), image.tobytes()


def _splits(images: Iterable[Labelled], source: str, seed: int | None = None) -> dict[str, Split]:
    """Sort images into splits. With a seed, val is cut from train if it has no images."""
    splits, labels, pixels = list(zip(*images, strict=True)) or ((), (), ())
    stack = np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(-1, SIDE, SIDE)
    split, label = np.array(splits, dtype=object), np.array(labels, dtype=np.int64)
    if seed is not None and "val" not in splits:
        split[_tenth(split, label, seed)] = "val"
    for usage, name in USAGE.items():
        present = set(label[split == name].tolist())
        if missing := [emotion for k, emotion in enumerate(EMOTIONS) if k not in present]:
            raise DataError(f"{source}: no {name} image ({usage}) of class {', '.join(missing)}; fetch the whole set")
    return {name: Split(stack[split == name], label[split == name], EMOTIONS) for name in USAGE.values()}


def _tenth(split: np.ndarray, label: np.ndarray, seed: int) -> list[int]:
    """Return the row numbers of a random tenth of each class of train, at least one if a class has two or more."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for number in range(len(EMOTIONS)):
        rows = np.flatnonzero((split == "train") & (label == number))
        chosen += rng.permutation(rows)[: max(len(rows) // 10, int(len(rows) > 1))].tolist()
    return chosen
