"""FER-2013 (Goodfellow et al. 2013, "Challenges in Representation Learning") in every layout in circulation.

fer2013.csv                       columns emotion, pixels, Usage; of any name, if it is the only such table
icml_face_data.csv                the same in another order, with spaces before the names
fer2013.tar.gz                    the original release, which contains fer2013.csv
train/<class>/*, test/<class>/*   the Kaggle folders, or their zip; with val/<class>/* or not
"""

import logging
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fer.checks import check_flag, check_number, check_path
from fer.data import cache, layout, listing
from fer.data.base import Split, Unreadable
from fer.data.listing import USAGE
from fer.data.pictures import read_images, refusal
from fer.errors import DataError
from fer.files import expand
from fer.labels import EMOTIONS, canonical

SIDE = 48
KAGGLE = "msambare/fer2013"

_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
_ARCHIVES = (".zip", ".gz", ".tgz", ".tar")
_LABELS = {str(label): label for label in range(len(EMOTIONS))}

_SEPARATORS = str.maketrans(",;[]", "    ")
"""What stands between or around pixels besides spaces."""

_log = logging.getLogger(__name__)

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
    if source is None and path.is_dir() and sum(bool(canonical(child.name)) for child in path.iterdir()) > 1:
        raise DataError(f"{path} has class folders but no train; data=image_folder reads it, or put them into train")
    if source is None:
        raise DataError(
            f"no FER-2013 in {path}; put fer2013.csv, icml_face_data.csv, fer2013.tar.gz or the Kaggle folders or zip "
            "there, or set data.root or FER2013_ROOT, or data.download=true, or try data=synthetic"
        )
    others = [] if source == path or source.is_dir() else [p.name for p in _candidates(source.parent) if p != source]
    if others:
        _log.warning("%s is read, not what else is there: %s", source, ", ".join(others))
    notes: list[str] = []
    splits = cache.cached(cache.stamp(source, "fer2013", seed), lambda: _read(source, seed, notes), notes)
    for note in notes:
        _log.warning("%s", note)
    return splits


def _download() -> Path:
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot download {KAGGLE} ({reason}); fetch it by hand and set data.root") from None


def find(path: Path) -> Path | None:
    """Return the file or folder to read; None if there is none.

    It is `path` itself, or the best candidate in it, or in its folder `fer2013`, or in its only folder.
    """
    if path.is_file():
        return path if path.suffix.lower() in (".csv", *_ARCHIVES) else None
    if not path.is_dir():
        return None
    if found := _candidates(path):
        return found[0]
    folders = layout.folders_in(path)
    folders = [each for each in folders if each.name == "fer2013"] or folders
    return find(folders[0]) if len(folders) == 1 else None


def _candidates(folder: Path) -> list[Path]:
    """Return what can be read in a folder, the best first: tables, the folder itself if it has splits, archives."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file() and not path.name.startswith(layout.HIDDEN)]
    named = [path for name in (*_CSV_NAMES, "fer2013.tar.gz") for path in files if path.name.lower() == name]
    tables = [path for path in files if path not in named and _is_table(path)]
    archives = [path for path in files if path not in named and path.suffix.lower() in _ARCHIVES]
    splits = {layout.split_name(path.stem) for path in tables} - {None}
    itself = [folder] if (folder.is_dir() and layout.find_splits(folder)) or len(splits) == len(tables) > 1 else []
    return named + itself + tables + archives


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and listing.has_columns(path, "emotion", "pixels")


def _read(source: Path, seed: int, notes: list[str]) -> dict[str, Split]:
    if source.is_dir() or source.suffix.lower() == ".csv":
        return _splits(_images(source, str(source), notes), str(source), seed, notes)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if source.suffix.lower() == ".zip":
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(folder)
            else:
                with tarfile.open(source) as archive:
                    # Python before 3.11.4, as in Debian 12, has no filters.
                    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
                    archive.extractall(folder)
        except Exception as error:  # zipfile and tarfile raise many kinds for damaged files
            reason = " ".join(str(error).partition(": -")[0].split()) or type(error).__name__
            fix = "fetch it again, or unpack it and set data.root to its folder"
            raise DataError(f"{source} is damaged, cut short or encrypted ({reason}); {fix}") from error
        folders = [Path(folder), *(path for path in sorted(Path(folder).rglob("*")) if path.is_dir())]
        inside = (path for each in folders for path in _candidates(each))
        best = next((path for path in inside if path.is_dir() or path.suffix.lower() == ".csv"), Path(folder))
        return _splits(_images(best, str(source), notes), str(source), seed, notes)


def _images(path: Path, name: str, notes: list[str]) -> Iterator[Labelled]:
    """Yield the images of a CSV file, of a folder with split folders, or of one with a CSV file for each split.

    `name` is for messages.
    """
    if path.is_dir() and layout.find_splits(path):
        yield from _folder_images(path, name, notes)
        return
    tables = list(filter(_is_table, sorted(path.glob("*")))) if path.is_dir() else [path]
    for table in tables:
        yield from _csv_images(table, name if table == path else str(table), layout.split_name(table.stem))


def _csv_images(path: Path, name: str, split: str | None) -> Iterator[Labelled]:
    """Yield the images of a CSV file. Without a column usage they are those of `split`, or train."""
    for where, given, (emotion, text) in listing.rows(path, name, ("emotion", "pixels"), split or "train"):
        label = _LABELS.get(emotion.removesuffix(".0"))
        if label is None and (word := canonical(emotion)) in EMOTIONS:
            label = EMOTIONS.index(word)
        if label is None:
            raise DataError(f"{where}: the label is {emotion[:20]!r}; expected 0 (angry) to 6 (neutral)")
        try:
            pixels = bytes(map(int, text.translate(_SEPARATORS).split()))
        except ValueError:
            raise DataError(f"{where}: a pixel is not a whole number from 0 to 255; fetch it again") from None
        if len(pixels) != SIDE * SIDE:
            raise DataError(f"{where}: {len(pixels)} pixels; expected {SIDE * SIDE} (48 × 48)")
        yield given, label, pixels


def _folder_images(root: Path, name: str, notes: list[str]) -> Iterator[Labelled]:
    home, folders = layout.split_folders(root, notes, name)
    broken: list[Unreadable] = []
    for split, images in layout.labelled(home, folders, notes, name).items():
        for image, file, pixels in read_images(images, split, root, 1, broken):
            if image.label not in EMOTIONS:
                what = f"{image.label!r} is no emotion of FER-2013"
                raise DataError(f"{name}/{file}: {what}; for other classes use data=image_folder")
            if pixels.shape != (SIDE, SIDE):
                size = f"{pixels.shape[1]}×{pixels.shape[0]}"
                raise DataError(f"{name}/{file}: {size} pixels; for sizes other than 48×48 use data=image_folder")
            marked = split == "test" and "val" not in folders and image.path.name.startswith("PublicTest_")
            yield "val" if marked else split, EMOTIONS.index(image.label), pixels.tobytes()
    if broken:
        raise DataError(refusal(broken, name))


def _splits(images: Iterable[Labelled], source: str, seed: int, notes: list[str]) -> dict[str, Split]:
    """Sort images into splits. Those without images are cut from train, if it has some."""
    splits, labels, pixels = list(zip(*images, strict=True)) or ((), (), ())
    stack = np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(-1, SIDE, SIDE)
    split, label = np.array(splits, dtype=object), np.array(labels, dtype=np.int64)
    names = [name for name in USAGE.values() if name in splits]
    if not names:
        raise DataError(f"{source}: no images; fetch the whole set")
    if "train" in names and (missing := [name for name in USAGE.values() if name not in names]):
        percent = 10 if missing == ["val"] else 15
        if missing != ["val"]:  # the Kaggle set is known to have no val
            lacking = " and no ".join(missing)
            notes.append(f"{source} has no {lacking}: {percent} % of train are cut for each, by seed")
        _cut(split, label, missing, percent, seed)
        names = list(USAGE.values())
    for usage, name in USAGE.items():
        present = set(label[split == name].tolist())
        missing = [emotion for k, emotion in enumerate(EMOTIONS) if k not in present]
        if name in names and missing:
            raise DataError(f"{source}: no {name} image ({usage}) of class {', '.join(missing)}; fetch the whole set")
    return {name: Split(stack[split == name], label[split == name], EMOTIONS) for name in names}


def _cut(split: np.ndarray, label: np.ndarray, missing: Sequence[str], percent: int, seed: int) -> None:
    """Move a random share of each class of train, at least one image of two or more, to each missing split."""
    rng = np.random.default_rng(seed)
    for number in range(len(EMOTIONS)):
        rows = rng.permutation(np.flatnonzero((split == "train") & (label == number)))
        count = max(len(rows) * percent // 100, int(len(rows) > 1))
        for k, name in enumerate(missing):
            split[rows[k * count : (k + 1) * count]] = name
