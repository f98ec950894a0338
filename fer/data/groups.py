"""Cutting splits from train in whole groups, so that no model is tested on the neighbour of a training frame."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer.errors import DataError

_NUMBERED = re.compile(r"(.*?\D)[\s_.-]*\d+")
"""A name that ends in a number. Not "face (3)": that is a third copy or download."""
_VIDEO = re.compile(r"frame|clip|video|movie|film|(^|[\W\d_])(vid|mov|scene|take|seq)([\W\d_]|$)", re.IGNORECASE)
"""Names of series that are frames of a video, and not photographs by one camera."""
_log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True)
class Image:
    """A labelled image file.

    Attributes:
        path: Of the file.
        label: Name of its class.
        group: The session or person, "" if none is known.
        box: Of its face, in pixels of the upright image; None for its central square.
    """

    path: Path
    label: str
    group: str = ""
    box: Box | None = None


def cut(images: Sequence[Image], missing: dict[str, float], seed: int, source: Path) -> dict[str, list[Image]]:
    """Cut splits from train in groups: folders, or series of frames, or single images if series are too few.

    Images of fewer folders than splits are cut one by one, too, and a warning says what this means for the scores.

    Args:
        images: All of train.
        missing: Share of the images for each split to cut.
        seed: Decides which groups are cut.
        source: Where the images are from, for messages.

    Returns:
        The images of train and of each missing split.

    Raises:
        DataError: Too few groups for every class to be in every split.
    """
    names = ["train", *missing]
    classes, truth = np.unique([image.label for image in images], return_inverse=True)
    shares = np.array([1 - sum(missing.values()), *missing.values()])
    foldered, series = all(image.group for image in images), list(map(_series, images))
    few = foldered and len({image.group for image in images}) < len(names)
    alone = [str(image.path) if few or not image.group else image.group for image in images]
    grouped = [image.group or name or own for image, name, own in zip(images, series, alone, strict=True)]
    for kind, keys in [("groups", grouped)] if foldered and not few else [("groups", grouped), ("images", alone)]:
        groups, group = np.unique(keys, return_inverse=True)
        counts = np.zeros((len(groups), len(classes)), dtype=np.int64)
        np.add.at(counts, (group, truth), 1)
        dealt = _deal(counts, shares, np.random.default_rng(seed))
        if dealt is None:
            continue
        kind = "images" if len(groups) == len(images) else kind
        how = f"image by image, of {len(groups)}" if kind == "images" else f"in whole groups, of {len(groups)}"
        _log.info("%s: %s cut from train, %s", source, " and ".join(missing), how)
        part = dealt[group]
        if few:
            what = "too few sessions or persons for splits of their own: the scores are those of faces seen in training"
            _log.warning("%s: %s; record %d or more", source, what, len(names))
        sides = {pair for pair in zip(series, part.tolist(), strict=True) if _VIDEO.search(pair[0])}
        torn = sorted(name for name, count in Counter(name for name, _ in sides).items() if count > 1)
        if torn:
            fix = "give each session or person a folder of its own, or make train, val and test folders"
            what = f"{len(torn)} series of frames, such as {torn[0]}, are on both sides and flatter the scores"
            _log.warning("%s: %s; %s", source, what, fix)
        return {name: [images[row] for row in np.flatnonzero(part == k).tolist()] for k, name in enumerate(names)}
    within = np.count_nonzero(counts, axis=0)
    scarce = f"{str(classes[within.argmin()])!r} is in {within.min()} of them"
    what = f"cannot cut {' and '.join(missing)} from {len(groups)} {kind} with every class in each ({scarce})"
    raise DataError(f"{source}: {what}; add a session or a person, or make train, val and test folders")


def _series(image: Image) -> str:
    """Return the name that an image shares with its neighbours: "clip" of clip_0001.jpg; "" for none."""
    match = None if image.group else _NUMBERED.fullmatch(image.path.stem)
    return match[1] if match else ""


def _deal(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Assign groups to splits so that each split has every class and nearly its share of each.

    The best of many random orders is kept.

    Args:
        counts: (G, K) images of each class in each group.
        shares: (S,) share of each split, train first.
        rng: Gives the orders.

    Returns:
        (G,) the split of each group, or None if no assignment gives every split every class.
    """
    if (np.count_nonzero(counts, axis=0) < len(shares)).any():
        return None
    target = shares[:, None] * counts.sum(axis=0)
    scale = counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(max(1, min(64, 100_000 // len(counts)))):
        dealt, part = np.zeros_like(target), np.empty(len(counts), dtype=np.int64)
        for group in rng.permutation(len(counts)):
            new = ((dealt == 0) & (counts[group] > 0)).sum(axis=1)  # classes that the split would gain
            need = ((target - dealt) * counts[group] / scale).sum(axis=1)
            part[group] = np.lexsort((need, new))[-1]
            dealt[part[group]] += counts[group]
        miss = (((dealt - target) / scale) ** 2).sum()
        if (dealt > 0).all() and miss < least:
            best, least = part, miss
    return best
