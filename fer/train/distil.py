"""Distillation (Hinton et al. 2015): a student learns from the probabilities of other artifacts and the labels.

    python -m fer.train.distil teachers=[a.ts,b.ts] out=soft_labels.npz

writes the probabilities of all training images once, for `train.py distillation.teachers=[soft_labels.npz]`.
"""

import functools
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from fer import artifact, config
from fer.artifact import trust
from fer.checks import check_flag, check_path
from fer.data.base import Split, as_batch
from fer.errors import ArtifactError, ConfigError, DataError
from fer.files import expand, write_file
from fer.labels import key

_BATCH = 256
SOFT_LABELS = ".npz"


def paths_of(name: str, value: Any) -> list[str]:
    """Return the value of a config key, a path or list of paths, as a list. Raises `ConfigError` for other values."""
    paths = list(value) if isinstance(value, list | ListConfig) else [] if value is None else [value]
    for path in paths:
        check_path(name, path, optional=False)
    return paths


def teachers(paths: Sequence[str], classes: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """Return the mean of artifacts as a function: uint8 (N, C, H, W) → probabilities float32 (N, K).

    Teachers see exactly the images that the student sees, including augmentation (Beyer et al. 2022, "A good teacher is
    patient and consistent").

    Args:
        paths: Artifacts; "bundled" is the included one.
        classes: The classes of the student.

    Raises:
        ArtifactError: A file is not an artifact.
        ConfigError: A file has other classes, or contains soft labels.
    """
    files = [str(artifact.BUNDLED) if path == "bundled" else path for path in paths]
    for path in files:
        if path.endswith(SOFT_LABELS):
            raise ConfigError(f"{path} knows the original images only; set distillation.images=original")
        theirs = artifact.read_metadata(path).classes
        if list(map(key, theirs)) != list(map(key, classes)):
            raise ConfigError(f"the teacher {path} knows {', '.join(theirs)}; the data has {', '.join(classes)}")

    @functools.cache
    def load(device: torch.device) -> list[artifact.Artifact]:
        return [artifact.load(path, device) for path in files]

    def mean(images: Tensor) -> Tensor:
        return torch.stack([teacher(images) for teacher in load(images.device)]).mean(0).to(images.device)

    return mean


def soft_labels(paths: Sequence[str], split: Split) -> np.ndarray:
    """Return the teachers' mean probabilities of the original images and their mirror images, float32 (N, K).

    Args:
        paths: Artifacts, or files written by `write` for the same split.
        split: The images.

    Raises:
        ArtifactError: A file is neither an artifact nor soft labels.
        ConfigError: A file belongs to other images or classes.
    """
    return np.mean([_read(p, split) if p.endswith(SOFT_LABELS) else _predict(p, split) for p in paths], axis=0)


def _predict(path: str, split: Split) -> np.ndarray:
    teacher = teachers([path], split.classes)
    batches = (as_batch(split.images[start : start + _BATCH]) for start in range(0, len(split), _BATCH))
    return torch.cat([(teacher(batch) + teacher(batch.flip(3))) / 2 for batch in batches]).numpy()


def write(path: str | Path, probabilities: np.ndarray, split: Split) -> None:
    """Write soft labels, float32 (N, K), with the classes and the fingerprint of their images."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=probabilities.astype(np.float16),
        classes=np.array(split.classes),
        fingerprint=np.array(split.fingerprint),
    )
    path = expand(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content.getvalue())


def _read(path: str, split: Split) -> np.ndarray:
    try:
        with np.load(io.BytesIO(expand(path).read_bytes()), allow_pickle=False) as archive:
            probabilities, classes, fingerprint = (archive[n] for n in ("probabilities", "classes", "fingerprint"))
            probabilities = probabilities.astype(np.float32)
    except Exception as error:  # damaged files raise almost anything
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
        raise ArtifactError(f"{path} contains no soft labels ({reason}); make some with fer.train.distil") from error
    theirs = (tuple(classes.tolist()), str(fingerprint), probabilities.shape)
    if theirs != (split.classes, split.fingerprint, (len(split), len(split.classes))):
        raise ConfigError(f"{path} belongs to other images; make new ones with fer.train.distil")
    return probabilities / probabilities.sum(1, keepdims=True)  # rounded to float16 in the file


def mix(split: Split, probabilities: np.ndarray, weight: float, target_distribution: Mapping[str, Any]) -> Split:
    """Return the split with target distributions that contain the soft labels of teachers.

    Args:
        split: The training images.
        probabilities: Soft labels, float32 (N, K).
        weight: Their share, above 0 up to 1.
        target_distribution: `use` and `weight` of target distributions that the split already has. With "auxiliary",
            those of the second head are appended: (N, 2 K).
    """
    targets = np.eye(len(split.classes), dtype=np.float32)[split.labels]
    second_head = split.targets is not None and target_distribution["use"] == "auxiliary"
    if split.targets is not None and not second_head:
        targets += np.float32(target_distribution["weight"]) * (split.targets - targets)
    targets += np.float32(weight) * (probabilities - targets)
    if second_head:
        targets = np.concatenate([targets, split.targets], axis=1)
    return replace(split, targets=targets)


def run(cfg: DictConfig) -> None:
    """Write soft labels for the values of `conf/distil.yaml`. Raises `FerError`."""
    paths, out = paths_of("teachers", cfg.teachers), expand(cfg.out)
    if not paths:
        raise ConfigError("teachers= is empty; set artifacts, as in teachers=[a.ts,b.ts]")
    if out.suffix != SOFT_LABELS:
        raise ConfigError(f"out={cfg.out} must end in {SOFT_LABELS}")
    check_flag("trust", cfg.trust)
    if cfg.trust:
        trust.accept(paths)
    splits = config.reader(cfg.data.reader)()
    if "train" not in splits:
        raise DataError(f"the data has {', '.join(splits)} but no train, whose images soft labels are for; add some")
    split = splits["train"]
    probabilities = soft_labels(paths, split)
    write(out, probabilities, split)
    agree = (probabilities.argmax(1) == split.labels).mean()
    print(f"{cfg.out}: {len(split)} images, {agree:.1%} agree with their labels", file=sys.stderr)


main = config.program("distil", run)

if __name__ == "__main__":
    main()
