"""Cutting splits from train in whole groups, so that no model is tested on the neighbour of a training frame."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from fer.errors import DataError

_NUMBERED = re.compile(r"(.*?)[\s_.-]*(\d+)$")
"""A name that ends in a number. Not "face (3)": that is a third copy or download."""
_CAMERA = re.compile(r"[A-Z0-9_]{4}\d{4}|(?i:IMG|DSC|PXL|MVIMG|WA|IMAGE|PHOTO|PIC|SCREENSHOT)([\W\d_].*)?")
"""Photographs as cameras name them (four characters and four digits: CIPA DC-009, DCF), phones and messengers."""
_VIDEO = re.compile(r"frame|clip|video|movie|(^|[\W\d_])(vid|mov|film|scene|take|seq)([\W\d_]|$)", re.IGNORECASE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Image:
    """A labelled image file.

    Attributes:
        path: Of the file.
        label: Name of its class.
        group: The session or person, "" if no folder names one.
    """

    path: Path
    label: str
    group: str = ""


def cut(images: Sequence[Image], missing: dict[str, float], seed: int, source: Path) -> dict[str, list[Image]]:
    """Cut splits from train in groups: folders, or series of frames, or single images if series are too few.

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
    foldered, series = all(image.group for image in images), _series(images)
    alone = [image.group or str(image.path) for image in images]
    grouped = [image.group or name or str(image.path) for image, (name, _) in zip(images, series, strict=True)]
    for kind, keys in [("groups", grouped)] if foldered else [("groups", grouped), ("images", alone)]:
        groups, group = np.unique(keys, return_inverse=True)
        counts = np.zeros((len(groups), len(classes)), dtype=np.int64)
        np.add.at(counts, (group, truth), 1)
        dealt = _deal(counts, shares, np.random.default_rng(seed))
        if dealt is None:
            continue
        kind = "images" if len(groups) == len(images) else kind
        _log.info("%s: %s cut from train by %d %s", source, " and ".join(missing), len(groups), kind)
        part = dealt[group]
        if torn := _torn(images, series, part):
            fix = "give each session or person a folder of its own, or make train, val and test folders"
            what = f"{len(torn)} series of frames, such as {torn[0]}, are on both sides and flatter the scores"
            _log.warning("%s: %s; %s", source, what, fix)
        return {name: [images[row] for row in np.flatnonzero(part == k).tolist()] for k, name in enumerate(names)}
    within = np.count_nonzero(counts, axis=0)
    scarce = f"{str(classes[within.argmin()])!r} is in {within.min()} of them"
    what = f"cannot cut {' and '.join(missing)} from {len(groups)} {kind} with every class in each ({scarce})"
    raise DataError(f"{source}: {what}; add a session or a person, or make train, val and test folders")


def _series(images: Sequence[Image]) -> list[tuple[str, int]]:
    """Return the series and number of each image, such as ("clip", 1) for clip_0001.jpg; ("", 0) for none.

    Numbers of a whole dataset, as in Training_123.jpg, are no series: there, a neighbour's class is chance.
    """
    members: defaultdict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for row, image in enumerate(images):
        match, camera = _NUMBERED.fullmatch(image.path.stem), _CAMERA.fullmatch(image.path.stem)
        if match and match[1] and (not camera or _VIDEO.search(image.path.stem)):
            members[match[1]].append((int(match[2]), image.label, row))
    found = [("", 0)] * len(images)
    for name, frames in members.items():
        frames.sort()
        restarts = len({number for number, *_ in frames}) < len(frames)  # in each folder
        same = sum(a[1] == b[1] for a, b in pairwise(frames))
        if len(frames) > 1 and (restarts or 2 * same >= len(frames) - 1):
            for number, _, row in frames:
                found[row] = name, number
    return found


def _torn(images: Sequence[Image], series: Sequence[tuple[str, int]], part: np.ndarray) -> list[str]:
    """Return the first file of each series whose numbers are regular and which is divided.

    What almost all images of a class are called is no series, unless it speaks of a video.
    """
    sizes = Counter(image.label for image in images)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, (name, _) in enumerate(series):
        if name and not images[row].group:
            members[name].append(row)
    torn = []
    for name, rows in members.items():
        numbers = sorted({series[row][1] for row in rows})
        steps = Counter(b - a for a, b in pairwise(numbers))
        regular = len(numbers) > 2 and 2 * max(steps.values()) >= len(numbers) - 1
        counts = Counter(images[row].label for row in rows)
        usual = any(10 * count >= 9 * sizes[label] for label, count in counts.items())
        if regular and len(set(part[rows].tolist())) > 1 and (_VIDEO.search(name) or not usual):
            torn.append(images[rows[0]].path.name)
    return torn


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
