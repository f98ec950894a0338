"""Several datasets as one: `data=[fer2013,rafdb]`."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer import labels
from fer.checks import check_choice, check_number
from fer.data import similar
from fer.data import votes as fer_plus
from fer.data.base import Split, duplicates
from fer.data.layout import SPLITS
from fer.errors import ConfigError, DataError, FerError

Splits = dict[str, Split]
_log = logging.getLogger(__name__)


def read(
    parts: Mapping[str, Mapping[str, Any]],
    size: int = 48,
    channels: int = 1,
    weights: Mapping[str, float] | None = None,
    classes: str | Sequence[str] = "all",
    votes: str | Path | None = None,
    drop_non_faces: bool = False,
) -> Splits:
    """Read several datasets as one. Each split has the images of that split of all parts, in the order of the parts.

    Images of a part's train that val or test of another part has too, pixel for pixel or as `fer.data.similar` finds
    them, are left out.

    Args:
        parts: By name: its `reader`, a function that returns its splits. Other values are not used.
        size, channels: Of the images, uint8 (N, size, size) or, for 3 channels, (N, size, size, 3).
        weights: How often training draws images of a part, relative to those of others; 1 for parts without a weight.
        classes: "all" classes of the parts, the "shared" ones, or a list of names. Images of others are left out.
        votes: The votes of FER+, for the parts with as many images as votes.
        drop_non_faces: Leave out images of their train that are voted not to be a face.

    Raises:
        ConfigError: An argument is out of range, or names a part or class that is not there.
        DataError: A part cannot be read, or the votes fit no part.
    """
    if not parts:
        raise ConfigError("data.parts names no dataset; give several, as in data=[fer2013,image_folder]")
    _check_weights(weights, parts)
    data = {name: _read(name, part["reader"]) for name, part in parts.items()}
    if votes is not None:
        _add_votes(data, votes, drop_non_faces)
    data = unify(data, size, channels, classes)
    _separate(data)
    for name in (name for name, splits in data.items() if weights and "train" in splits):
        train = data[name]["train"]
        data[name]["train"] = replace(train, weights=np.full(len(train), float((weights or {}).get(name, 1))))
    having = {split: [part[split] for part in data.values() if split in part] for split in SPLITS}
    return {split: _joined(same) for split, same in having.items() if same}


def unify(
    data: Mapping[str, Splits], size: int, channels: int, classes: str | Sequence[str] = "all"
) -> dict[str, Splits]:
    """Return datasets with the same classes, in label order, images of one size, and names below the dataset's.

    Arguments and errors are those of `read`.
    """
    check_number("data.size", size, 8, 4096, whole=True)
    check_choice("data.channels", channels, (1, 3))
    kept = _chosen({name: [k for split in own.values() for k in split.classes] for name, own in data.items()}, classes)
    result: dict[str, Splits] = {}
    left_out = 0
    for part, splits in data.items():
        result[part] = {}
        for name, split in splits.items():
            names = split.names or tuple(f"{name}/{row}" for row in range(len(split)))
            split = replace(split, names=tuple(f"{part}/{own}" for own in names))
            if split.groups is not None:
                split = replace(split, groups=tuple(group and f"{part}/{group}" for group in split.groups))
            own = _relabelled(split, kept)
            left_out += len(split) - len(own)
            result[part][name] = replace(own, images=_resized(own.images, size, channels))
    if left_out:
        _log.warning("%d images are left out, since their classes are not in data.classes=%s", left_out, classes)
    return result


def _check_weights(weights: Mapping[str, float] | None, parts: Mapping[str, Any]) -> None:
    if weights is not None and not isinstance(weights, Mapping):
        raise ConfigError(f"data.weights={weights} must be a number for each part, as in {{{next(iter(parts))}:2}}")
    for name, weight in (weights or {}).items():
        if name not in parts:
            raise ConfigError(f"data.weights.{name} is for no part; the parts are {', '.join(parts)}")
        check_number(f"data.weights.{name}", weight, 0, above=True)


def _read(name: str, reader: Callable[[], Splits]) -> Splits:
    try:
        inspect.signature(reader).bind()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.parts.{name}.reader: {error.__cause__ or error}; see conf/data") from None
    try:
        return dict(reader())
    except FerError as error:
        raise type(error)(f"data.parts.{name}: {error}") from None


def _add_votes(data: dict[str, Splits], path: str | Path, drop_non_faces: bool) -> None:
    counts = fer_plus.read(path)
    rows = {split: len(votes) for split, votes in counts.items()}
    fitting = [name for name, splits in data.items() if {k: len(split) for k, split in splits.items()} == rows]
    if not fitting:
        raise DataError(f"data.votes={path} has {rows['train']} rows of train, no part as many images; leave it out")
    for name in fitting:
        data[name] = fer_plus.attach(data[name], counts, path)
        if drop_non_faces:
            data[name]["train"] = data[name]["train"].only(~fer_plus.non_faces(counts["train"]))


def _chosen(own: Mapping[str, Sequence[str]], classes: str | Sequence[str]) -> tuple[str, ...]:
    """Return the classes to keep, in label order, from those of each dataset."""
    spelling = {labels.key(name): name for name in sorted({name for names in own.values() for name in names})}
    if isinstance(classes, str):
        check_choice("data.classes", classes, ("all", "shared"))
        keys = [{labels.key(name) for name in names} for names in own.values()]
        kept = set(spelling) if classes == "all" else set.intersection(*keys)
    else:
        kept = {labels.key(str(name)) for name in classes}
    there = "the parts have " + "; ".join(f"{part}: {', '.join(labels.order(names))}" for part, names in own.items())
    if unknown := sorted(kept - spelling.keys()):
        raise ConfigError(f"data.classes names {', '.join(unknown)}, but {there}")
    if len(kept) < 2:
        raise ConfigError(f"data.classes={classes} keeps {len(kept)} classes, and {there}; keep two or more")
    return labels.order([spelling[key] for key in kept])


def _relabelled(split: Split, classes: tuple[str, ...]) -> Split:
    """Return the images of `classes`, with labels, targets and majority in their order."""
    keys = [labels.key(name) for name in classes]
    number = np.array([keys.index(key) if (key := labels.key(name)) in keys else -1 for name in split.classes])
    targets, majority = split.targets, split.majority
    if targets is not None:
        heads = targets.reshape(len(split), -1, len(number))
        moved = np.zeros((*heads.shape[:2], len(classes)), dtype=np.float32)
        moved[:, :, number[number >= 0]] = heads[:, :, number >= 0]
        sums = moved.sum(axis=2, keepdims=True)
        own = np.eye(len(classes) + 1, dtype=np.float32)[number[split.labels], None, :-1]
        targets = np.where(sums > 0, moved / np.maximum(sums, 1e-6), own).reshape(len(split), -1)
    if majority is not None:
        majority = np.where(majority >= 0, number[majority], -1)
    kept = number[split.labels] >= 0
    renamed = Split(
        split.images,
        np.maximum(number[split.labels], 0),
        classes,
        targets,
        split.names,
        majority,
        split.groups,
        split.weights,
    )
    return renamed if kept.all() else renamed.only(kept)


def _resized(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    shape = (size, size) if channels == 1 else (size, size, 3)
    if images.shape[1:] == shape:
        return images
    result = np.empty((len(images), *shape), dtype=np.uint8)
    shrinks = min(images.shape[1:3]) > size
    for row, image in enumerate(images):
        if (image.ndim == 2) != (channels == 1):
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB)
        result[row] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return result


def _separate(data: dict[str, Splits]) -> None:
    """Leave out of each train what val or test of another dataset has."""
    notes = []
    for name, splits in data.items():
        others = [own[k] for other, own in data.items() if other != name for k in ("val", "test") if k in own]
        if "train" not in splits or not others:
            continue
        train = splits["train"]
        equal = duplicates(train, others)
        known = equal.copy()
        for other in others:
            known[similar.find(train.images, other.images)[:, 0]] = True
        if known.any():
            splits["train"] = train.only(~known)
            notes.append(f"{known.sum()} of {len(train)} images of {name} ({equal.sum()} of them pixel for pixel)")
    if notes:
        _log.info("not trained on, since val or test of another part has them: %s", "; ".join(notes))


def _joined(splits: Sequence[Split]) -> Split:
    """Return the images of several splits with the same classes as one."""
    first = splits[0]
    if len(splits) == 1:
        return first

    def all_of(name: str, otherwise: Callable[[Split], Any]) -> list[Any] | None:
        values = [getattr(split, name) for split in splits]
        if all(value is None for value in values):
            return None
        return [otherwise(split) if own is None else own for split, own in zip(splits, values, strict=True)]

    own = np.eye(len(first.classes), dtype=np.float32)
    targets = all_of("targets", lambda split: own[split.labels])
    majority = all_of("majority", lambda split: np.full(len(split), -1, dtype=np.int64))
    weights = all_of("weights", lambda split: np.ones(len(split)))
    groups = all_of("groups", lambda split: ("",) * len(split))
    return Split(
        np.concatenate([split.images for split in splits]),
        np.concatenate([split.labels for split in splits]),
        first.classes,
        None if targets is None else np.concatenate(targets),
        tuple(name for split in splits for name in split.names or ()),
        None if majority is None else np.concatenate(majority),
        None if groups is None else tuple(group for own in groups for group in own),
        None if weights is None else np.concatenate(weights),
    )
