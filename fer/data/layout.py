"""What lies in a folder of images: splits, classes, and what belongs to neither."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from fer import labels
from fer.data.groups import Image
from fer.errors import DataError
from fer.images import count_frames, is_image, is_side_file

HIDDEN = (".", "__MACOSX")
"""Prefixes of the names of hidden files and folders."""

_LIKE_SPLIT = re.compile(r"(train|val|valid|validation|test)(ing)?$", re.IGNORECASE)
SPLITS = ("train", "val", "test")
_OTHER_NAMES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "publictest": "val",  # of FER-2013, as the next
    "privatetest": "test",
    "testing": "test",
}

Numbers = Callable[[set[str], Path], Mapping[str, str] | None]

_CONTAINERS = ("images", "imgs")
"""Names of folders that hold images, and are neither a class nor a person."""


def list_images(root: Path) -> list[Path]:
    """Return all images below `root`, by content, sorted by their path with /; see `list_files`."""
    return [path for path in list_files(root) if is_image(path)]


def list_files(root: Path) -> list[Path]:
    """Return all files below `root`, sorted by their path with /.

    Links to folders are followed, hidden files and folders are left out. Raises `DataError` if a folder cannot be
    listed.
    """
    files = [Path(folder, name) for folder, _, names in _walk(root) for name in names if not name.startswith(HIDDEN)]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`, but skip hidden folders, and follow links unless they lead to a parent folder."""
    for folder, folders, files in os.walk(root, onerror=_unlistable, followlinks=True):
        here = Path(folder).resolve()
        visible = [name for name in folders if not name.startswith(HIDDEN)]
        folders[:] = sorted(name for name in visible if not here.is_relative_to(Path(folder, name).resolve()))
        yield folder, folders, files


def _unlistable(error: OSError) -> NoReturn:
    raise DataError(f"cannot list {error.filename} ({error.strerror}); check its permissions")


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones, by name."""
    return [folder / name for name in next(_walk(folder))[1]]


def split_name(name: str) -> str | None:
    """Return the split (train, val or test) that a folder or a table's cell names, None if no split."""
    word = re.sub(r"[\W_]*(set|data|images|class|classes)?$", "", labels.key(name))
    word = _OTHER_NAMES.get(word, word)
    return word if word in SPLITS else None


def split_folders(root: Path, notes: list[str], name: str | None = None) -> tuple[Path, dict[str, Path]]:
    """Return the folder that holds split folders, `root` or one below it, and the folder of each split.

    Folders with images beside them are named in `notes`, with `name` as the dataset's. Without split folders the
    second is empty.

    Raises:
        DataError: Several folders in `root` hold split folders.
    """
    home = find_splits(root)
    if home is None:
        return root, {}
    splits = {split: path for path in reversed(folders_in(home)) if (split := split_name(path.name))}
    beside = [path for path in folders_in(root) if not home.is_relative_to(path)] if home != root else []
    beside += [path for path in folders_in(home) if path not in splits.values()]
    if ignored := ", ".join(path.name for path in beside if list_images(path)):
        reason = "they are no split folders, or a second one"
        notes.append(f"{name or home}: not read, since {reason}: {ignored}")
    return home, splits


def find_splits(root: Path) -> Path | None:
    """Return the folder with split folders: `root`, an only folder's, or the one of several in it; None without."""
    folders = folders_in(root)
    if any(split_name(path.name) for path in folders):
        return root
    if len(folders) == 1:  # an archive unpacked into a folder of its own
        return find_splits(folders[0])
    homes = [path for path in folders if len({split_name(each.name) for each in folders_in(path)} - {None}) > 1]
    homes = [path for path in homes if len(homes) == 1 or list_images(path)]  # not those of labels in text files
    if len(homes) > 1:
        names = " and ".join(path.name for path in homes)
        fix = "set data.root to one of them, or put train, val and test above the classes"
        raise DataError(f"{root} has split folders in {names}; {fix}")
    return homes[0] if homes else None


def labelled(
    root: Path, folders: dict[str, Path], notes: list[str], name: str | None = None, numbers: Numbers | None = None
) -> dict[str, list[Image]]:
    """Return the images of each split, with class and group from their folders.

    Args:
        root: The folder of the dataset.
        folders: The folder of each split.
        notes: What is not read is added here, a line for each kind.
        name: Of the dataset, for messages; None for the path of `root`.
        numbers: Returns the classes of numbered folders, if it knows them, from their names and an image.

    Raises:
        DataError: No images in class folders, or a class without any.
    """
    name = name or str(root)

    def count(what: str, files: Sequence[Path]) -> None:
        if files:
            notes.append(f"{name}: {what}: {len(files)}, such as {files[0].relative_to(root).as_posix()}")

    rows: list[tuple[str, Path, tuple[str, ...]]] = []  # split, image, and its folders below the split's
    others: list[Path] = []
    for split, folder in folders.items():
        for path in list_files(folder):
            if is_image(path):
                parts = path.relative_to(folder).parts[:-1]
                rows.append((split, path, tuple(part for part in parts if part.lower() not in _CONTAINERS)))
            elif not is_side_file(path):
                others.append(path)
    count("files that are no images and not read", others)
    several = [path for _, path, _ in rows if _has_several(path)]
    count("images of several frames or pages, of which only the first is read", several)
    if not (above := [parts for *_, parts in rows if parts]):
        there = f"{name} (but {others[0].relative_to(root).as_posix()})" if others else name
        raise DataError(
            f"no images in class folders under {there}; expected {name}/train/<class>/* or {name}/<class>/*"
        )
    level = _class_level(above, sessions=root in folders.values())
    stray = [path for _, path, parts in rows if len(parts) <= level]
    if root not in folders.values():
        beside = [path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(HIDDEN)]
        stray += filter(is_image, beside)
    count("images in no class folder and not read", stray)
    rows = [row for row in rows if len(row[2]) > level]
    found = {parts[level] for *_, parts in rows}
    if not level:  # then an emotion's folder is a class without images, too
        beside = [path for each in folders.values() for path in folders_in(each)]
        empty = [path for path in beside if path.name not in found and path.name.lower() not in _CONTAINERS]
        count("folders without images and not read", [p for p in empty if not labels.canonical(p.name)])
        found |= {path.name for path in empty if labels.canonical(path.name)}
    classes = _classes(found, rows[0][1], notes, numbers)
    images: dict[str, list[Image]] = {split: [] for split in folders}
    for split, path, parts in rows:  # folders above the class are sessions, the one below it is a person
        group = unicodedata.normalize("NFC", "/".join(parts[:level] or parts[level + 1 : level + 2]))
        images[split].append(Image(path, classes[parts[level]], group))
    if missing := set(classes.values()) - {image.label for each in images.values() for image in each}:
        absent = ", ".join(labels.order(list(missing)))
        raise DataError(f"{name} has no image of {absent}; add some, or delete the class everywhere")
    return images


def _has_several(path: Path) -> bool:
    with suppress(OSError):  # it is reported when it is read
        return count_frames(path) > 1
    return False


def _classes(names: set[str], example: Path, notes: list[str], numbers: Numbers | None) -> dict[str, str]:
    """Return the class of each folder name. Bare numbers are explained in `notes`.

    Raises:
        DataError: A number is none of `numbers`.
    """
    classes = labels.unify(names)
    plain = {name: name.strip() for name in names}
    known = numbers and numbers(set(plain.values()), example)
    if known and (bare := {name: text.lstrip("0") or "0" for name, text in plain.items() if text.isdecimal()}):
        if wrong := sorted(name for name, text in bare.items() if text not in known):
            expected = f"expected {', '.join(known)}"
            raise DataError(f"the class folder {wrong[0]!r}, beside that of {example}, has no meaning; {expected}")
        classes |= {name: known[text] for name, text in bare.items()}
    if len(alike := sorted(name for name in names if _LIKE_SPLIT.search(name))) > 1:
        notes.append(f"the folders {', '.join(alike)} are read as classes; for splits, call them train, val and test")
    if all(map(str.isdecimal, plain.values())):
        emotions = known or set(classes.values()) <= set(labels.EMOTIONS)
        read = ", ".join(f"{name} {classes[name]}" for name in sorted(names)) if emotions else "classes of their own"
        fix = "if they are others, rename the folders" if emotions else "rename the folders if they are emotions"
        fix += ", or name the dataset, such as data=rafdb (for the audit dataset=rafdb)"
        notes.append(f"the class folders have numbers for names and are read as {read}; {fix}")
    return classes


def _class_level(folders: Sequence[tuple[str, ...]], sessions: bool) -> int:
    """Return the number of folders above the class folders; see `read`."""
    named = ((level, name) for parts in folders for level, name in enumerate(parts))
    # "joy12" is a person
    emotions = Counter(level for level, name in named if labels.canonical(name) and not name[-1].isdecimal())
    if emotions:
        return max(sorted(emotions), key=lambda level: emotions[level])
    levels = [{parts[level] for parts in folders} for level in range(min(map(len, folders)))]
    if numbers := [n for n, names in enumerate(levels) if set(labels.unify(names).values()) == set(labels.EMOTIONS)]:
        return numbers[0]
    digit = re.compile(r"\d")
    numbered = all(len(p) > 1 and digit.search(p[0]) and not digit.search(p[1]) for p in folders)
    return 1 if sessions and numbered else 0
