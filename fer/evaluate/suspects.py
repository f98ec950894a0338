"""Images whose label is probably wrong, by confident learning (Northcutt et al. 2021), for `fer.data.audit model=…`.

Each image is judged by a classifier that has not seen its label: a logistic regression on what the model answers for
the images of the other folds. Copies of a photograph, and images of one person or session, are in the same fold.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fer import metrics, plots
from fer.artifact import trust as trusted
from fer.checks import check_number, check_path
from fer.data.audit import Audit, joined
from fer.data.base import Split
from fer.errors import ConfigError, DataError
from fer.evaluate import predict
from fer.evaluate.predict import Model
from fer.files import atomic_write, write_file
from fer.tables import Table, csv_text

NAMES = ("suspects.csv", "suspects.png")
FIRST = 500
"""The suspects of which the share that is really wrong is given, where votes tell."""
_DRAWN = 64
_TOO_FEW = "too few images to judge labels: two classes need two different photographs each; add some"
_EVIDENCE = 100.0
"""Weight of all labels together against the prior of the regression. Where each label has a weight of 1, about one
point fewer of the first 500 suspects of FER-2013 are wrong; for 213 and 1,720 pictures it makes no difference."""


@dataclass(frozen=True)
class Suspects:
    """Images whose label is not the most probable class, the least probable label first.

    Attributes:
        rows: int (S,), rows of all images of the audit, one split after the other.
        probabilities: float (N, K) of all images, by a classifier that has not seen their label.
        judged: bool (N,), whether that could be done.
        estimate: bool (N,), which labels confident learning takes for wrong.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    judged: np.ndarray
    estimate: np.ndarray


def run(
    audit: Audit, out: Path, model: str, folds: int = 5, device: str = "auto", seed: int = 0, trust: bool = False
) -> list[Table]:
    """Find suspects, write `NAMES` into the folder `out`, which exists, and return tables of them.

    Args:
        audit: The data, with the majority of votes if there are some.
        out: The folder.
        model: A checkpoint, an artifact, or the name of an included model. Its classes may be others than the data's.
        folds: Parts of the data, each judged by what the others teach; fewer for few images.
        device, trust: As in conf/evaluate.yaml.
        seed: Deals the images to folds.

    Raises:
        ConfigError: An argument is out of range, or cleanlab is not installed.
        ArtifactError: The model cannot be used.
        DataError: Too few images.
    """
    check_path("model", model, optional=False)
    check_number("suspects.folds", folds, 2, whole=True)
    check_number("suspects.seed", seed, whole=True)
    if trust:
        trusted.accept([model])
    (loaded,) = predict.load_models([model], device)
    for note in _notes(loaded, audit.splits):
        print(note, file=sys.stderr)
    found = find(features(loaded, audit.splits), audit, folds, seed)
    _write(found, audit, out, loaded.name)
    return [_summary(found, audit), *_precision(found, audit)]


def features(model: Model, splits: Mapping[str, Split]) -> np.ndarray:
    """Return the log-probabilities of all images, averaged with those of the mirror images, float32 (N, K).

    Raises:
        DataError: No images.
    """
    answers = []
    for split in (split for split in splits.values() if len(split)):
        both = [torch.from_numpy(predict.logits(model.network, split.images, flip)) for flip in (False, True)]
        answers.append(torch.stack([one.log_softmax(1) for one in both]).mean(0).numpy())
    if not answers:
        raise DataError(_TOO_FEW)
    return np.concatenate(answers)


def find(values: np.ndarray, audit: Audit, folds: int = 5, seed: int = 0) -> Suspects:
    """Find suspects by features of all images, float (N, F). Arguments and errors are those of `run`."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ModuleNotFoundError as error:
        raise ConfigError(f"model= needs {error.name}: pip install cleanlab") from None
    splits = audit.splits.values()
    labels = np.concatenate([split.labels for split in splits])
    classes = next(iter(splits)).classes
    probabilities, judged = _out_of_fold(values, labels, len(classes), folds_of(audit, labels, folds, seed))
    if (alone := np.bincount(labels[~judged], minlength=len(classes))).any():
        counts = ", ".join(f"{n} of {classes[k]}" for k, n in enumerate(alone.tolist()) if n)
        print(f"not judged, since no other image of the class could teach it: {counts}", file=sys.stderr)
    if len(np.unique(labels[judged])) < 2:
        raise DataError(_TOO_FEW)
    own = np.unique(labels[judged])
    renumbered, shares = np.searchsorted(own, labels[judged]), probabilities[np.ix_(judged, own)]
    shares = shares / shares.sum(axis=1, keepdims=True)
    score, estimate = np.ones(len(labels)), np.zeros(len(labels), dtype=bool)
    score[judged] = get_label_quality_scores(renumbered, shares, method="self_confidence")
    estimate[judged] = find_label_issues(renumbered, shares, n_jobs=1)
    rows = np.flatnonzero(judged & (probabilities.argmax(axis=1) != labels))
    return Suspects(rows[np.argsort(score[rows], kind="stable")], probabilities, judged, estimate)


def folds_of(audit: Audit, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each image, int (N,): classes evenly, and copies and the images of a person in one fold."""
    persons = [group for split in audit.splits.values() for group in split.groups or [""] * len(split)]
    keys = [name or f"/{row}" for row, name in enumerate(persons)]
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    unit = joined(audit.alike, np.stack([np.arange(len(labels)), first[number]], axis=1))
    count = unit.max() + 1
    label = np.zeros(count, dtype=np.int64)
    label[unit] = labels
    order = np.random.default_rng(seed).permutation(count)
    dealt = np.empty(count, dtype=np.int64)
    dealt[order[np.argsort(label[order], kind="stable")]] = np.arange(count) % folds
    return dealt[unit]


def _out_of_fold(
    values: np.ndarray, labels: np.ndarray, classes: int, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, float (N, K), by regressions on the other folds, and which labels these know, bool (N,)."""
    from sklearn.linear_model import LogisticRegression

    probabilities, judged = np.zeros((len(labels), classes)), np.zeros(len(labels), dtype=bool)
    for number in np.unique(fold):
        held, known = fold == number, np.unique(labels[fold != number])
        if len(known) < 2:
            continue
        regression = LogisticRegression(C=_EVIDENCE / (~held).sum(), max_iter=1000)
        regression.fit(values[~held], labels[~held])
        probabilities[np.ix_(held, known)] = regression.predict_proba(values[held])
        judged |= held & np.isin(labels, known)
    return probabilities, judged


def _notes(model: Model, splits: dict[str, Split]) -> list[str]:
    """Return what makes the model a partial judge of these images, a line each."""
    data, config = model.metadata.data, model.metadata.config
    fer2013 = data.get("name") == "fer2013"
    seen = [
        name
        for name, split in splits.items()
        if split.fingerprint == data.get("fingerprint") or (fer2013 and "train" in name and split.names is None)
    ]
    if not seen:
        return []
    notes = [f"{model.name} was trained on {seen[0]}: wrong labels that it has learnt by heart are not found there"]
    if (config.get("data") or {}).get("votes"):
        votes = "it has learnt votes for these images; how many suspects are wrong by the votes says nothing of it"
        notes.append(f"{model.name}: {votes}")
    return notes


def _write(found: Suspects, audit: Audit, out: Path, name: str) -> None:
    classes = next(iter(audit.splits.values())).classes
    rows: list[list[object]] = []
    cells = []
    for rank, k in enumerate(found.rows.tolist(), 1):
        split, row, file, label = audit.describe(k)
        shares = found.probabilities[k]
        suggested, score = classes[shares.argmax()], shares[classes.index(label)]
        rows.append([rank, split, row, file, label, suggested, f"{score:.4f}", *(f"{share:.4f}" for share in shares)])
        if rank <= _DRAWN:
            caption = f"{rank}. {label}\n{suggested} {shares.max():.0%}?\n{split} {row}"
            cells.append((audit.splits[split].images[int(row)], caption))
    header = ["rank", "split", "row", "file", "label", "suggested", "score", *(f"p_{label}" for label in classes)]
    try:
        write_file(out / NAMES[0], csv_text(header, rows))
        with atomic_write(out / NAMES[1]) as part:
            title = f"Labels that {name} contradicts: {len(rows)}, the least probable first"
            plots.sheet([("", cells)] if cells else [], title, part)
    except OSError as error:
        raise DataError(f"cannot write into out={out} ({error.strerror}); choose another folder") from None


def _summary(found: Suspects, audit: Audit) -> Table:
    contradicted = np.zeros(len(found.judged), dtype=bool)
    contradicted[found.rows] = True
    masks = {name: audit.split == name for name in audit.splits} | {"all": np.ones(len(found.judged), dtype=bool)}
    kinds = {
        "labels judged": found.judged,
        "contradicted (suspects)": contradicted,
        "wrong, by the estimate of confident learning": found.estimate,
    }
    rows = [[kind, *(str((where & mask).sum()) for mask in masks.values())] for kind, where in kinds.items()]
    return Table("Labels that out-of-fold predictions contradict", ["", *masks], rows)


def _precision(found: Suspects, audit: Audit) -> list[Table]:
    """Return a table of the shares of labels that differ from the votes, if there are votes."""
    if any(split.majority is None or split.targets is None for split in audit.splits.values()):
        return []
    splits = audit.splits.values()
    labels, majority = (np.concatenate([getattr(split, name) for split in splits]) for name in ("labels", "majority"))
    targets = np.concatenate([split.targets for split in splits])
    outvoted = targets[np.arange(len(labels)), labels] < targets.max(axis=1)

    def row(name: str, rows: np.ndarray) -> list[str]:
        clear = rows[majority[rows] >= 0]
        return [name, _share(majority[clear] != labels[clear]), _share(outvoted[rows])]

    body = [row(f"the first {min(FIRST, len(found.rows))} suspects", found.rows[:FIRST])]
    for name in audit.splits:
        own = found.rows[audit.split[found.rows] == name][:FIRST]
        body.append(row(f"the first {len(own)} of {name}", own))
    body.append(row("all images", np.arange(len(labels))))
    header = ["labels that differ from the votes", "with a clear majority", "all, by the most votes"]
    return [Table("How many are wrong by the votes", header, body)]


def _share(wrong: Sequence[bool] | np.ndarray) -> str:
    if not len(wrong):
        return "–"
    low, high = metrics.interval(np.asarray(wrong))
    return f"{np.mean(wrong):.1%} of {len(wrong)} ({low:.1%} – {high:.1%})"
