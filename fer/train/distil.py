"""Distillation (Hinton et al. 2015): a student learns from the probabilities of other models and from the labels.

    python -m fer.train.distil teachers=[a.ckpt,b.ts] out=soft_labels.npz

writes the probabilities of all training images once, for `train.py distillation.teachers=[soft_labels.npz]`.
"""

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from fer import artifact, config
from fer.artifact import trust
from fer.artifact.export import from_checkpoint
from fer.artifact.network import InferenceModel
from fer.checks import check_flag, paths_of
from fer.data.base import Split, as_batch
from fer.errors import ArtifactError, ConfigError, DataError
from fer.files import expand, write_file
from fer.labels import key

_BATCH = 256
SOFT_LABELS = ".npz"


class Teachers:
    """The mean of networks and artifacts as a function: uint8 (N, C, H, W) → probabilities float32 (N, K).

    It runs on the device of the images, which never leave it, without gradients and in the precision of the training
    step. It is no module: a classifier that holds it neither stores nor moves the teachers, and copies share them.

    Args:
        networks: Modules with this input and output, as in artifacts.
        files: TorchScript and ONNX artifacts. They are loaded for the first images.
        columns: For each network and then for each file, which of its outputs are the K; None for all as they are.
    """

    def __init__(self, networks: Sequence[nn.Module], files: Sequence[str], columns: Sequence[Tensor | None]) -> None:
        self._networks = _Networks(networks).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._files, self._columns = files, columns
        self._artifacts: list[artifact.Artifact] = []
        self._device: torch.device | None = None

    def compile(self, **options: Any) -> None:
        """Compile the networks with these options of `torch.compile`. Artifacts run as they are."""
        self._networks.compile(**options)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device != self._device:
            self._networks.to(images.device)
            device, threads = str(images.device), torch.get_num_threads()
            self._artifacts = [artifact.load(path, device, threads=threads) for path in self._files]
            self._columns = [None if columns is None else columns.to(images.device) for columns in self._columns]
            self._device = images.device
        with torch.no_grad():
            # The mean is outside of what is compiled: the results of a CUDA graph are overwritten by the next one.
            answers = [*self._networks(images), *(one.predict(images).to(images.device) for one in self._artifacts)]
            pairs = zip(answers, self._columns, strict=True)
            return torch.stack([a if columns is None else a[:, columns] for a, columns in pairs]).float().mean(0)

    def __deepcopy__(self, _: Any) -> "Teachers":
        return self


class _Networks(nn.ModuleList):
    """Networks side by side, as one module that is compiled whole."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [network(images) for network in self]


def teachers(paths: Sequence[str], classes: Sequence[str]) -> Teachers:
    """Load teachers, which see exactly the images that the student sees, including augmentation.

    Beyer et al. 2022, "A good teacher is patient and consistent". A checkpoint gives the same probabilities as
    its artifact.

    Args:
        paths: Checkpoints (`.ckpt`) and artifacts, or names of included models.
        classes: The classes of the student. Teachers know the same ones, in any order.

    Raises:
        ArtifactError: A file is neither a checkpoint nor an artifact, or is not trusted.
        ConfigError: A file has other classes, or contains soft labels.
    """
    networks: list[nn.Module] = []
    files: list[str] = []
    columns: list[Tensor | None] = []
    ours = list(map(key, classes))
    for path in sorted(paths, key=lambda path: not path.endswith(".ckpt")):  # networks first, as `columns` has them
        if path.endswith(SOFT_LABELS):
            raise ConfigError(f"{path} knows the original images only; set distillation.images=original")
        if path.endswith(".ckpt"):
            backbone, metadata, _ = from_checkpoint(path)
            networks.append(InferenceModel(backbone, metadata))
        else:
            files.append(path)
            metadata = artifact.load(path).metadata  # a file that cannot be used is refused now, not in a step
        theirs = list(map(key, metadata.classes))
        if sorted(theirs) != sorted(ours):
            known, wanted = ", ".join(metadata.classes), ", ".join(classes)
            raise ConfigError(f"the teacher {path} knows {known}; the data has {wanted}")
        columns.append(None if theirs == ours else torch.tensor([theirs.index(name) for name in ours]))
    return Teachers(networks, files, columns)


def soft_labels(paths: Sequence[str], split: Split, device: str = "auto") -> np.ndarray:
    """Return the teachers' mean probabilities of the original images and their mirror images, float32 (N, K).

    Args:
        paths: Checkpoints, artifacts, or files written by `write` for the same split.
        split: The images.
        device: Where teachers run, as in `fer.artifact.device_of`.

    Raises:
        ArtifactError: A file is neither a checkpoint, nor an artifact, nor soft labels.
        ConfigError: A file belongs to other images or classes, or there is no such device.
    """
    return np.mean([_read(p, split) if p.endswith(SOFT_LABELS) else _predict(p, split, device) for p in paths], axis=0)


def _predict(path: str, split: Split, device_name: str) -> np.ndarray:
    teacher, device = teachers([path], split.classes), artifact.device_of(device_name, path)
    batches = (as_batch(split.images[start : start + _BATCH]).to(device) for start in range(0, len(split), _BATCH))
    return torch.cat([(teacher(batch) + teacher(batch.flip(3))) / 2 for batch in batches]).cpu().numpy()


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
    second_head = split.targets is not None and target_distribution["use"] == "auxiliary"
    targets = split.mixed(0 if second_head else target_distribution["weight"])
    targets += np.float32(weight) * (probabilities - targets)
    if second_head:
        targets = np.concatenate([targets, split.targets], axis=1)
    return replace(split, targets=targets)


def run(cfg: DictConfig) -> None:
    """Write soft labels for the values of `conf/distil.yaml`. Raises `FerError`."""
    paths, out = paths_of("teachers", cfg.teachers), expand(cfg.out)
    if not paths:
        raise ConfigError("teachers= is empty; set checkpoints or artifacts, as in teachers=[a.ckpt,b.ts]")
    if out.suffix != SOFT_LABELS:
        raise ConfigError(f"out={cfg.out} must end in {SOFT_LABELS}")
    check_flag("trust", cfg.trust)
    if cfg.trust:
        trust.accept(paths)
    splits = config.reader(cfg.data.reader)()
    if "train" not in splits:
        raise DataError(f"the data has {', '.join(splits)} but no train, whose images soft labels are for; add some")
    split = splits["train"]
    probabilities = soft_labels(paths, split, cfg.device)
    write(out, probabilities, split)
    agree = (probabilities.argmax(1) == split.labels).mean()
    print(f"{cfg.out}: {len(split)} images, {agree:.1%} agree with their labels", file=sys.stderr)


main = config.program("distil", run)

if __name__ == "__main__":
    main()
