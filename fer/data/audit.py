"""What is wrong with a dataset: repeated images, duplicates across splits, conflicting labels, images without a face.

    python -m fer.data.audit data/fer2013 votes=data/fer2013new.csv out=audit

Prints tables and writes `audit.md` (the same tables), `audit.csv` (every image found) and `audit.png` (examples).
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from fer.checks import check_path
from fer.config import program
from fer.data.base import Split, constant, digests
from fer.errors import ConfigError, DataError
from fer.files import expand, write_file
from fer.tables import Table, csv_text, markdown, show

NAMES = ("audit.csv", "audit.md", "audit.png")


@dataclass(frozen=True)
class Audit:
    """What was found; all arrays are over the images of all splits, one split after the other.

    split: name of each image's split. row: its row in there. label: int64 (N,). group: int64 (N,), equal where
    images are equal pixel for pixel. twin: where another split has the same image. conflict: where the same image
    has another label elsewhere. constant: of one single colour. no_face: most FER+ votes say so, None without votes.
    """

    splits: dict[str, Split]
    split: np.ndarray
    row: np.ndarray
    label: np.ndarray
    group: np.ndarray
    repeated: np.ndarray
    twin: np.ndarray
    conflict: np.ndarray
    constant: np.ndarray
    no_face: np.ndarray | None

    @property
    def classes(self) -> tuple[str, ...]:
        return next(iter(self.splits.values())).classes

    def problems(self) -> dict[str, np.ndarray]:
        """bool (N,) of each problem by its name."""
        found = {
            "twin in another split": self.twin,
            "conflicting label": self.conflict,
            "repeated": self.repeated,
            "constant": self.constant,
        }
        return found | ({} if self.no_face is None else {"no face (votes)": self.no_face})

    def twins_in(self, name: str, other: str) -> int:
        """How many images of the split `name` stand in the split `other` as well."""
        return int(np.isin(self.group[self.split == name], self.group[self.split == other]).sum())

    def totals(self) -> dict[str, int]:
        """images, duplicate groups, conflicting groups, repeats of an earlier image, constant, no face."""
        counts = {
            "images": len(self.label),
            "duplicate groups": len(np.unique(self.group[self.repeated])),
            "conflicting groups": len(np.unique(self.group[self.conflict])),
            "images that repeat an earlier one": len(self.label) - len(np.unique(self.group)),
            "images of one colour": int(self.constant.sum()),
        }
        return counts | ({} if self.no_face is None else {"images without a face, by votes": int(self.no_face.sum())})


def audit(splits: dict[str, Split], votes: str | Path | None = None) -> Audit:
    """Look through all splits together; `votes` is the fer2013new.csv of FER+.

    Images are equal where all their pixels are. Raises `DataError` for votes that belong to other data.
    """
    name_of = np.repeat(list(splits), [len(split) for split in splits.values()])
    row = np.concatenate([np.arange(len(split)) for split in splits.values()])
    label = np.concatenate([split.labels for split in splits.values()])
    keys = [digest for split in splits.values() for digest in digests(split.images)]
    numbers: dict[bytes, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

    def kinds(values: np.ndarray) -> np.ndarray:
        """How many different values each image's group has."""
        pairs = np.unique(np.stack([group, values], axis=1), axis=0)
        return np.bincount(pairs[:, 0], minlength=len(numbers))[group]

    no_face = None
    if votes is not None:
        from fer.data import votes as fer_plus  # OpenCV may be missing, which `program` reports

        counts = fer_plus.read(votes)
        fer_plus.attach(splits, counts, votes)
        no_face = np.concatenate([fer_plus.non_faces(counts[name]) for name in splits])
    return Audit(
        splits=splits,
        split=name_of,
        row=row,
        label=label,
        group=group,
        repeated=np.bincount(group)[group] > 1,
        twin=kinds(np.unique(name_of, return_inverse=True)[1]) > 1,
        conflict=kinds(label) > 1,
        constant=np.concatenate([constant(split.images) for split in splits.values()]),
        no_face=no_face,
    )


def report(found: Audit) -> list[Table]:
    """What there is to say of all images together."""
    names = list(found.splits)
    problems = [
        [name, *(str(int(where[found.split == split].sum())) for split in names), str(int(where.sum()))]
        for name, where in found.problems().items()
    ]
    duplicates = [
        [name, *("" if name == other else str(found.twins_in(name, other)) for other in names)] for name in names
    ]
    counts = {name: split.counts() for name, split in found.splits.items()}
    balance = [
        [label, *(f"{counts[n][k]} ({counts[n][k] / max(1, len(found.splits[n])):.1%})" for n in names)]
        for k, label in enumerate(found.classes)
    ]
    totals = [[name, str(count)] for name, count in found.totals().items()]
    return [
        Table("In all", ["", "count"], totals),
        Table("Images with a problem", ["", *names, "all"], problems),
        Table("Twins", ["images of", *(f"also in {name}" for name in names)], duplicates),
        Table("Class balance", ["class", *names], balance),
    ]


def rows_of(found: Audit) -> list[list[str]]:
    """One row for every image with a problem: split, row, file, class, problem, group of equal images."""
    rows = []
    for name, where in found.problems().items():
        for k in sorted(np.flatnonzero(where), key=lambda k: (found.group[k], k)):
            split = found.splits[str(found.split[k])]
            file = "" if split.names is None else split.names[found.row[k]]
            label = found.classes[found.label[k]]
            rows.append([str(found.split[k]), str(found.row[k]), file, label, name, str(found.group[k])])
    return rows


def examples(found: Audit, most: int = 8) -> list[tuple[str, list[tuple[np.ndarray, str]]]]:
    """For each problem up to `most` images, uint8 (H, W) or (H, W, 3), with what is to be said of each."""
    result = []
    for name, where in found.problems().items():
        groups = np.unique(found.group[where])
        chosen = groups[np.linspace(0, len(groups) - 1, min(most, len(groups))).astype(int)]
        cells = []
        for number in chosen:
            members = np.flatnonzero((found.group == number) & where)
            first = members[0]
            image = found.splits[str(found.split[first])].images[found.row[first]]
            lines = [f"{found.split[k]} {found.row[k]} {found.classes[found.label[k]]}" for k in members[:3]]
            cells.append((image, "\n".join(lines + [f"and {len(members) - 3} more"] * (len(members) > 3))))
        result.append((f"{name}: {int(where.sum())}", cells))
    return result


def write(found: Audit, out: Path, title: str) -> None:
    """Write `NAMES` into `out`, each whole or not at all. Raises `DataError` where that is not possible."""
    from fer import plots  # matplotlib takes a second to import

    parts = [out / f".{name}.part" for name in NAMES]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(parts[0], csv_text(["split", "row", "file", "class", "problem", "group"], rows_of(found)))
        write_file(parts[1], markdown(title, report(found)))
        plots.sheet([part for part in examples(found) if part[1]], title, parts[2])
        for part, name in zip(parts, NAMES, strict=True):
            part.replace(out / name)
    except OSError as error:
        raise DataError(f"cannot write into out={out} ({error.strerror}); choose another folder") from None
    finally:
        with contextlib.suppress(OSError):
            for part in parts:
                part.unlink(missing_ok=True)


def read(root: str | Path, size: int = 48, channels: int = 1) -> dict[str, Split]:
    """The splits at `root`: a file, folder or archive of FER-2013, or a folder of images by class.

    Raises `DataError` where it is neither.
    """
    from fer.data import fer2013, folder

    place = expand(root)
    if not place.exists():
        raise DataError(f"nothing at {place}; give a folder of images by class, or fer2013.csv or its archive")
    if place.is_dir() and fer2013.find(place) in (None, place):  # folders: Kaggle's, or anybody's
        names = {path.name.lower() for path in place.iterdir() if path.is_dir()}
        try:
            if size == 48 and channels == 1 and names <= {"train", "test"}:
                return fer2013.read(place)
        except DataError:
            pass  # other classes, or other sizes
        return folder.read(place, size=size, channels=channels)
    return fer2013.read(place)


def run(cfg: DictConfig) -> None:
    """Audit as conf/audit.yaml says.

    Raises:
        ConfigError: A value is missing or of another kind.
        DataError: The data cannot be read, or the results cannot be written.
    """
    if cfg.root is None:
        raise ConfigError("root is missing; give the data as the first word, as in: python -m fer.data.audit faces")
    check_path("votes", cfg.votes)
    check_path("out", cfg.out, optional=False)
    root = str(cfg.root)
    found = audit(read(root, size=cfg.size, channels=cfg.channels), cfg.votes)
    out = expand(cfg.out)
    title = f"Audit of {Path(root).resolve().name}"
    write(found, out, title)
    show(report(found))
    print(*(out / name for name in NAMES), sep="\n")


main = program("audit", run, positional="root", paths=("root", "votes", "out"))

if __name__ == "__main__":
    main()
