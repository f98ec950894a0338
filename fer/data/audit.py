"""Find repeated images, duplicates across splits, conflicting labels and images without a face in datasets.

    python -m fer.data.audit data/fer2013 votes=data/fer2013new.csv out=audit
    python -m fer.data.audit root=[data/fer2013,faces]
    python -m fer.data.audit faces model=fast

Prints tables and writes `audit.md` (the tables), `audit.csv` (every image with a problem) and `audit.png` (examples);
with a model, also what `fer.evaluate.suspects` finds.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer.checks import check_path
from fer.config import build, program
from fer.data.base import Split, Unreadable, constant, digests
from fer.errors import ConfigError, DataError
from fer.files import atomic_write, expand, write_file
from fer.tables import Table, csv_text, markdown, show

_UNREADABLE = "unreadable"
NEAR = "near-duplicate in another split"
NAMES = ("audit.csv", "audit.md", "audit.png")


@dataclass(frozen=True)
class Audit:
    """The problems of a dataset. Arrays are over the images of all splits, one split after the other.

    Attributes:
        splits: The data.
        split: str (N,), name of each image's split.
        row: int (N,), its row in there.
        group: int64 (N,), equal for images that are equal pixel for pixel.
        copies: int64 (P, 2), pairs of other images that are copies of one photograph, by `fer.data.similar`.
        alike: int64 (N,), equal for images that such pairs or equal pixels join.
        problems: bool (N,) for each kind of problem: which images have it.
        unreadable: Files that are not among the images, since they cannot be read.
    """

    splits: dict[str, Split]
    split: np.ndarray
    row: np.ndarray
    group: np.ndarray
    copies: np.ndarray
    alike: np.ndarray
    problems: dict[str, np.ndarray]
    unreadable: Sequence[Unreadable] = ()

    def duplicates(self, name: str, other: str) -> int:
        """Return the number of images of the split `name` that also occur in the split `other`."""
        return int(np.isin(self.group[self.split == name], self.group[self.split == other]).sum())

    def near(self, name: str, other: str) -> int:
        """Return the number of images of the split `name` of which `other` has a copy that is not equal to them."""
        pairs = np.concatenate([self.copies, self.copies[:, ::-1]])
        where = (self.split[pairs[:, 0]] == name) & (self.split[pairs[:, 1]] == other)
        return len(np.unique(pairs[where, 0]))

    def describe(self, k: int) -> tuple[str, str, str, str]:
        """Return split, row, file and class of image `k`."""
        split, row = self.splits[str(self.split[k])], int(self.row[k])
        file = split.names[row] if split.names else ""
        return str(self.split[k]), str(row), file, split.classes[split.labels[row]]


def examine(splits: dict[str, Split], votes: str | Path | None = None, unreadable: Sequence[Unreadable] = ()) -> Audit:
    """Search all splits together for problems.

    Args:
        splits: The data.
        votes: Path of the fer2013new.csv of FER+, which shows images without a face.
        unreadable: Files that could not be read.

    Raises:
        DataError: The votes belong to other data.
    """
    from fer.data import similar  # needs OpenCV, as readers do

    split = np.repeat(list(splits), [len(each) for each in splits.values()])
    row = np.concatenate([np.arange(len(each)) for each in splits.values()])
    label = np.concatenate([each.labels for each in splits.values()])
    numbers: dict[bytes, int] = {}
    keys = [key for each in splits.values() for key in digests(each.images)]
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

    datasets = [name.rpartition("/")[0] for name in splits]
    pairs = similar.within([each.images for each in splits.values()], datasets)
    copies = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
    across = copies[split[copies[:, 0]] != split[copies[:, 1]]]

    def differ(values: np.ndarray) -> np.ndarray:
        """Return bool (N,), whether the images in the group of each image differ in `values`."""
        pairs = np.unique(np.stack([group, values], axis=1), axis=0)
        return np.bincount(pairs[:, 0])[group] > 1

    problems = {
        "duplicate in another split": differ(np.unique(split, return_inverse=True)[1]),
        NEAR: np.isin(np.arange(len(split)), across),
        "conflicting label": differ(label),
        "repeated": np.bincount(group)[group] > 1,
        "constant": np.concatenate([constant(each.images) for each in splits.values()]),
    }
    if votes is not None:
        from fer.data import votes as fer_plus

        counts = fer_plus.read(votes)
        splits = fer_plus.attach(splits, counts, votes)  # refuses those of other images
        problems["no face (votes)"] = np.concatenate([fer_plus.non_faces(counts[name]) for name in splits])
    return Audit(splits, split, row, group, copies, joined(group, copies), problems, unreadable)


def joined(group: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return int64 (N,), equal for images of one group, int (N,), or of groups that `pairs` of images, (P, 2), join."""
    if not len(group):
        return group
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    start, end = np.concatenate([np.stack([np.arange(len(group)), first[number]], axis=1), pairs]).T
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(group), len(group)))
    return connected_components(graph)[1].astype(np.int64)


def report(audit: Audit) -> list[Table]:
    """Return tables of totals, problems by split, duplicates between splits, and class balance."""
    names, group, problems = list(audit.splits), audit.group, audit.problems
    totals = {
        "images": len(group),
        "duplicate groups": len(np.unique(group[problems["repeated"]])),
        "conflicting groups": len(np.unique(group[problems["conflicting label"]])),
        "images that repeat an earlier one": len(group) - len(np.unique(group)),
        "unreadable files": len(audit.unreadable),
    }
    masks = [audit.split == name for name in names] + [np.ones(len(group), dtype=bool)]
    by_split = [[problem, *(str((where & mask).sum()) for mask in masks)] for problem, where in problems.items()]
    broken = [file.split for file in audit.unreadable]
    by_split.append([_UNREADABLE, *(str(broken.count(name)) for name in names), str(len(broken))])

    def between(count: Callable[[str, str], int]) -> list[list[str]]:
        return [[a, *("" if a == b else str(count(a, b)) for b in names)] for a in names]

    counts = [split.counts() for split in audit.splits.values()]
    classes = enumerate(audit.splits[names[0]].classes)
    balance = [[label, *(f"{n[k]} ({n[k] / max(1, sum(n)):.1%})" for n in counts)] for k, label in classes]
    files = [Table("Unreadable files", ["file", "reason"], [[f.file, f.reason] for f in audit.unreadable])]
    return [
        Table("In all", ["", "count"], [[name, str(count)] for name, count in totals.items()]),
        Table("Images with a problem", ["", *names, "all"], by_split),
        Table("Duplicates", ["images of", *(f"also in {name}" for name in names)], between(audit.duplicates)),
        Table("Near-duplicates", ["images of", *(f"with a copy in {name}" for name in names)], between(audit.near)),
        Table("Class balance", ["class", *names], balance),
        *(files if audit.unreadable else []),
    ]


def rows(audit: Audit) -> list[list[str]]:
    """Return split, row, file, class, problem and group of equal images for each problem of each image."""
    result = []
    for problem, where in audit.problems.items():
        group = audit.alike if problem == NEAR else audit.group
        for k in sorted(np.flatnonzero(where).tolist(), key=lambda k: (group[k], k)):
            result.append([*audit.describe(k), problem, str(group[k])])
    return result + [[f.split, "", f.file, f.label, f"{_UNREADABLE}: {f.reason}", ""] for f in audit.unreadable]


def examples(audit: Audit, most: int = 8) -> list[tuple[str, list[tuple[np.ndarray, str]]]]:
    """Return a heading and up to `most` images with captions for each problem that occurs."""
    result = []
    for problem, where in audit.problems.items():
        group = audit.alike if problem == NEAR else audit.group
        groups, cells = np.unique(group[where]), []
        for number in groups[np.linspace(0, len(groups) - 1, min(most, len(groups))).astype(int)]:
            first, *others = np.flatnonzero((group == number) & where).tolist()
            image = audit.splits[str(audit.split[first])].images[audit.row[first]]
            lines = [" ".join(audit.describe(k)[i] for i in (0, 1, 3)) for k in (first, *others[:2])]
            cells.append((image, "\n".join(lines + [f"and {len(others) - 2} more"] * (len(others) > 2))))
        if cells:
            result.append((f"{problem}: {where.sum()}", cells))
    return result


def write(audit: Audit, out: Path, title: str) -> None:
    """Write `NAMES` into the folder `out`. Raises `DataError` if that is not possible."""
    from fer import plots  # matplotlib takes a second to import

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / NAMES[0], csv_text(["split", "row", "file", "class", "problem", "group"], rows(audit)))
        write_file(out / NAMES[1], markdown(title, report(audit)))
        with atomic_write(out / NAMES[2]) as part:
            plots.sheet(examples(audit), title, part)
    except OSError as error:
        raise DataError(f"cannot write into out={out} ({error.strerror}); choose another folder") from None


def read(
    root: str | Path,
    size: int = 48,
    channels: int = 1,
    unreadable: list[Unreadable] | None = None,
    crop: str | None = None,
    dataset: str | None = None,
) -> dict[str, Split]:
    """Read a file, folder or archive of FER-2013, a folder of images by class, or another dataset.

    Files of a folder that cannot be read are added to `unreadable`. `crop` and `dataset` are those of `folder.read`.

    Raises:
        DataError: It is neither.
    """
    from fer.data import fer2013, folder, layout

    path = expand(root)
    if not path.exists():
        raise DataError(f"nothing at {path}; give a folder of images by class, or fer2013.csv or its archive")
    if dataset or folder.recognise(path):
        return folder.read(path, size, channels, unreadable=unreadable, crop=crop, dataset=dataset)
    home = None if path.is_file() else layout.find_splits(path)
    if path.is_file() or ((found := fer2013.find(path)) and (found != path or not home)):
        return fer2013.read(path)
    kaggle = home and {layout.split_name(child.name) for child in home.iterdir()} - {None} == {"train", "test"}
    if kaggle and (size, channels, crop) == (48, 1, None):
        with contextlib.suppress(DataError):  # of other classes or sizes
            return fer2013.read(path)
    return folder.read(path, size=size, channels=channels, unreadable=unreadable, crop=crop)


def run(cfg: DictConfig) -> None:
    """Run the audit that conf/audit.yaml describes.

    Raises:
        ConfigError: A value is missing or of the wrong type.
        DataError: The data cannot be read, or the results cannot be written.
    """
    check_path("out", cfg.out, optional=False)
    roots = _roots(cfg.root)
    out, title = expand(cfg.out), "Audit of " + ", ".join(Path(root).resolve().name for root in roots)
    unreadable: list[Unreadable] = []
    if len(roots) == 1:
        splits = read(roots[0], cfg.size, cfg.channels, unreadable, cfg.crop, cfg.dataset)
    else:
        splits = _read_several(roots, cfg, unreadable)
    audit = examine(splits, cfg.votes, unreadable)
    find_suspects = build(cfg.suspects, "suspects") if cfg.suspects.model is not None else None
    write(audit, out, title)
    suspects = find_suspects(audit, out) if find_suspects else []
    show([*report(audit), *suspects])
    if suspects:
        write_file(out / NAMES[1], markdown(title, [*report(audit), *suspects]))
    print(*(out / name for name in NAMES), *sorted(out.glob("suspects.*")) * bool(suspects), sep="\n")


def _roots(given: object) -> list[str]:
    """Return the roots of the datasets. Paths are literal, so that a list, [a,b], arrives here as a text."""
    if given is None:
        raise ConfigError("root is missing; give the data as the first word, as in: python -m fer.data.audit faces")
    text = str(given)
    if text.startswith("[") and text.endswith("]") and not Path(text).exists():
        return [part.strip() for part in text[1:-1].split(",")]
    return [text]


def _read_several(roots: Sequence[str], cfg: DictConfig, unreadable: list[Unreadable]) -> dict[str, Split]:
    """Return the splits of several datasets, as name/split, with the same classes and images of one size."""
    from fer.data import mixture

    if cfg.votes is not None:
        raise ConfigError("votes= is for one dataset; audit it alone, root=…")
    data: dict[str, dict[str, Split]] = {}
    for root in roots:
        name = expand(root).resolve().stem
        while name in data:
            name += "'"
        broken: list[Unreadable] = []
        data[name] = read(root, cfg.size, cfg.channels, broken, cfg.crop, cfg.dataset)
        unreadable += [file._replace(split=f"{name}/{file.split}", file=f"{name}/{file.file}") for file in broken]
    unified = mixture.unify(data, cfg.size, cfg.channels)
    return {f"{name}/{split}": own for name, splits in unified.items() for split, own in splits.items()}


def _arguments(words: list[str]) -> list[str]:
    """Write out `model=`, which Hydra takes for the choice of a network in conf/model."""
    return [f"suspects.{word}" if word.startswith("model=") else word for word in words]


main = program("audit", run, positional="root", paths=("root", "votes", "model", "out"), arguments=_arguments)

if __name__ == "__main__":
    main()
