"""Distillation (Hinton et al. 2015): artifacts as teachers, whose probabilities a student learns beside the labels.

    python -m fer.train.distil teacher=[a.ts,b.ts] out=soft_labels.npz

writes what they say of the training images, once, for trainings with `teacher=[soft_labels.npz]`.
"""

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from fer import artifact
from fer import config as targets
from fer.artifact import trust
from fer.data.base import Split, as_batch
from fer.errors import ArtifactError, ConfigError, SinkError
from fer.files import expand, unpacked, write_file
from fer.files import read as contents
from fer.values import check_values

_BATCH = 256
SOFT_LABELS = ".npz"
_LARGEST = 1 << 28
"""Bytes of a file of soft labels and of each array in it: those of FER-2013 have 0.4 million."""
_ROUNDING = 0.02
"""Probabilities written as float16 miss a sum of 1 by far less."""


class Teachers:
    """`teachers(images)`: uint8 (N, C, H, W) → float32 (N, K), the mean of the artifacts' calibrated probabilities.

    They see the very images that the student sees, augmentation and all (Beyer et al. 2022, "A good teacher is
    patient and consistent"). Raises `ArtifactError` for a file that is no artifact, `ConfigError` for one with other
    classes than `classes`.
    """

    def __init__(self, paths: Sequence[str], classes: Sequence[str]) -> None:
        self.paths = [str(artifact.BUNDLED) if path == "bundled" else path for path in paths]
        self._loaded: dict[torch.device, list[artifact.Artifact]] = {}
        for path in self.paths:
            if path.endswith(SOFT_LABELS):
                raise ConfigError(f"teacher={path} knows the original images alone; set teacher_sees=originals")
            theirs = artifact.read_metadata(path).classes
            if tuple(theirs) != tuple(classes):
                raise ConfigError(f"teacher={path} knows {', '.join(theirs)}, but the data has {', '.join(classes)}")

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._loaded:
            self._loaded[images.device] = [artifact.load(path, images.device) for path in self.paths]
        answers = [teacher(images) for teacher in self._loaded[images.device]]
        return torch.stack(answers).mean(0).to(images.device)

    def __deepcopy__(self, _: Any) -> "Teachers":
        return self  # the copy of a model that its moving average keeps needs no teachers of its own


def soft_labels(paths: Sequence[str], split: Split) -> np.ndarray:
    """What teachers say of the original images of a split and of their mirror images: float32 (N, K), the mean.

    paths: artifacts, or files that `write` made of this very split. Raises `ArtifactError` and `ConfigError`.
    """
    return np.mean([_read(p, split) if p.endswith(SOFT_LABELS) else _ask(p, split) for p in paths], axis=0)


def _ask(path: str, split: Split) -> np.ndarray:
    teacher = Teachers([path], split.classes)
    answers = []
    for start in range(0, len(split), _BATCH):
        part = as_batch(split.images[start : start + _BATCH])
        answers.append((teacher(part) + teacher(part.flip(3))) / 2)
    return torch.cat(answers).numpy()


def write(path: str | Path, answers: np.ndarray, split: Split) -> None:
    """Soft labels, float32 (N, K), as a file that also says which images they belong to."""
    whole = io.BytesIO()
    np.savez_compressed(
        whole,
        probabilities=answers.astype(np.float16),
        classes=np.array(split.classes),
        fingerprint=np.array(split.fingerprint),
    )
    try:
        write_file(Path(path), whole.getvalue())
    except OSError as error:
        raise SinkError(f"cannot write out={path} ({error.strerror or error}); choose another") from None


def _read(path: str, split: Split) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(contents(expand(path), _LARGEST))) as archive:
            answers, classes, mark = (_array(archive, name) for name in ("probabilities", "classes", "fingerprint"))
        if answers.dtype.kind != "f" or classes.dtype.kind != "U" or mark.dtype.kind != "U":
            raise ValueError("its arrays are of other kinds")
    except ConfigError:
        raise
    except Exception as error:  # of damaged bytes, zipfile and numpy raise what their parsing happens to end in
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
        raise ArtifactError(
            f"teacher={path} holds no soft labels ({reason}); make some with fer.train.distil"
        ) from error
    wanted = (len(split), len(split.classes))
    if tuple(classes.tolist()) != split.classes or str(mark) != split.fingerprint or answers.shape != wanted:
        raise ConfigError(f"teacher={path} was made of other images than these; make it anew with fer.train.distil")
    sums = answers.sum(1, dtype=np.float64)
    if not (answers >= 0).all() or not np.allclose(sums, 1, rtol=0, atol=_ROUNDING):
        raise ArtifactError(f"teacher={path} holds rows that are no probabilities; make it anew with fer.train.distil")
    answers = answers.astype(np.float32)
    return answers / answers.sum(1, keepdims=True)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(io.BytesIO(unpacked(file, _LARGEST)), allow_pickle=False)


def taught(split: Split, answers: np.ndarray, weight: float, votes: Mapping[str, Any]) -> Split:
    """The split whose `targets`, float32 (N, K), are learnt in place of its labels: the share `weight`, above 0 to 1,
    is `answers`, the soft labels of the teachers.

    That costs one pass over the images, not one in every epoch. `votes`: `use` and `weight` of the targets that the
    split has already; those for a second head ("auxiliary") follow the others, which makes (N, 2 K). Raises
    `ConfigError` where `weight` is out of range.
    """
    if not 0 < weight <= 1:
        raise ConfigError(f"teacher_weight={weight} must lie in 0 … 1, above 0")
    targets = np.eye(len(split.classes), dtype=np.float32)[split.labels]
    second_head = split.targets is not None and votes["use"] == "auxiliary"
    if split.targets is not None and not second_head:
        targets += np.float32(votes["weight"]) * (split.targets - targets)
    targets += np.float32(weight) * (answers - targets)
    if second_head:
        targets = np.concatenate([targets, split.targets], axis=1)
    return replace(split, targets=targets)


def run(cfg: DictConfig) -> None:
    """Write the soft labels as `conf/distil.yaml` says. Raises `FerError`."""
    if not cfg.teacher:
        raise ConfigError("teacher= names no teachers; give artifacts, teacher=[a.ts,b.ts]")
    if not str(cfg.out).endswith(SOFT_LABELS):
        raise ConfigError(f"out={cfg.out} must end in {SOFT_LABELS}")
    out = expand(cfg.out)
    if not out.parent.is_dir() or out.is_dir():
        raise ConfigError(f"out={cfg.out} cannot be a file there; make its folder first, or choose another")
    if isinstance(cfg.teacher, str):
        cfg.teacher = [cfg.teacher]
    check_values(cfg)
    paths = list(cfg.teacher)
    if cfg.trust:
        trust.accept(paths)
    split = targets.reader(cfg.data.reader)()["train"]
    answers = soft_labels(paths, split)
    write(out, answers, split)
    agree = (answers.argmax(1) == split.labels).mean()
    print(f"{cfg.out}: {len(split)} images, {agree:.1%} as their labels say", file=sys.stderr)


main = targets.program("distil", run)

if __name__ == "__main__":
    main()
