"""Predictions of a checkpoint, an artifact, a classifier in memory, or the mean of several models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fer import artifact
from fer.artifact import hub
from fer.artifact.export import from_checkpoint
from fer.artifact.metadata import Metadata
from fer.artifact.network import InferenceModel
from fer.data.base import Split, as_batch, digests
from fer.errors import ArtifactError
from fer.models.classifier import EmotionClassifier

# Name of the mean of several models.
AVERAGE = "average"
BATCH = 256
_GENERIC = ("model", "best", "last", "previous")

# uint8 (N, 1 or 3, H, W) → logits float32 (N, K) on the CPU, up to a constant in each row.
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Model:
    """A model from a file.

    Attributes:
        name: Short, and different from those of the other models.
        path: Its file.
        metadata: As in artifacts.
        network: Returns logits before the temperature, without flip averaging.
        temperature: From the artifact; None for a checkpoint, which needs to be fitted.
        columns: Of the logits, the classes that are evaluated, if not all in their order.
    """

    name: str
    path: Path
    metadata: Metadata
    network: Network
    temperature: float | None
    columns: Sequence[int] | None = None
    _known: dict[tuple[bytes, bool], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def logits(self, images: np.ndarray, flip: bool = False) -> np.ndarray:
        """Return the logits of all classes for `images`, as `logits` does. No image is predicted twice.

        Sets overlap: those of votes are parts of those of labels, and temperatures are fitted on val.
        """
        keys = [(digest, flip) for digest in digests(images)]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = np.array(sorted(new.values()))
            values = logits(self.network, images if len(rows) == len(images) else images[rows], flip)
            self._known.update(zip((keys[row] for row in rows), values, strict=True))
        return np.stack([self._known[key] for key in keys])


@dataclass(frozen=True)
class Predictions:
    """Predictions for N labelled images: logits (N, K) for them and for their mirror images, labels (N,).

    `averages` says whether the model itself averages with the mirror images. `answers`, int64 (N,), are the most
    probable of all classes of a model that knows more than these K, -1 for the others.
    """

    logits: np.ndarray
    mirrored: np.ndarray
    labels: np.ndarray
    temperature: float
    averages: bool = False
    answers: np.ndarray | None = None

    @property
    def raw(self) -> np.ndarray:
        """Probabilities (N, K) before the temperature."""
        return self._averaged(1.0) if self.averages else softmax(self.logits)

    @property
    def calibrated(self) -> np.ndarray:
        """Probabilities (N, K) after the temperature."""
        return self.flip if self.averages else softmax(self.logits / self.temperature)

    @property
    def flip(self) -> np.ndarray:
        """Calibrated probabilities (N, K), averaged with those of the mirror images."""
        return self._averaged(self.temperature)

    def only(self, rows: np.ndarray, labels: np.ndarray) -> "Predictions":
        """Return the predictions where `rows`, bool (N,), is true, for other labels (N,)."""
        answers = None if self.answers is None else self.answers[rows]
        return replace(
            self, logits=self.logits[rows], mirrored=self.mirrored[rows], labels=labels[rows], answers=answers
        )

    def _averaged(self, temperature: float) -> np.ndarray:
        return (softmax(self.logits / temperature) + softmax(self.mirrored / temperature)) / 2

    @property
    def predicted(self) -> np.ndarray:
        """Int64 (N,): the most probable class of each image."""
        return (self.flip if self.averages else self.logits).argmax(1)

    @property
    def correct(self) -> np.ndarray:
        """Bool (N,): which images are classified correctly."""
        return self.predicted == self.labels


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row, float32 (N, K)."""
    return torch.from_numpy(logits).softmax(1).numpy()


def logits(network: Network, images: np.ndarray, flip: bool = False) -> np.ndarray:
    """Run a network over images.

    Args:
        network: The network.
        images: uint8 (N, H, W) or (N, H, W, 3), also memory-mapped.
        flip: Mirror the images first.

    Returns:
        Logits, float32 (N, K).
    """
    batches = (as_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
    with torch.inference_mode():
        return torch.cat([network(batch.flip(3) if flip else batch) for batch in batches]).numpy()


def logits_of_all(
    models: Sequence[Model], images: np.ndarray, average: bool, flip: bool = False
) -> dict[str, np.ndarray]:
    """Return the logits of each model by name; with `average`, also of the mean of their calibrated probabilities.

    The models of an average have the same classes, and the same columns.
    """
    result = {model.name: model.logits(images, flip) for model in models}
    if average:
        members = [softmax(result[model.name] / (model.temperature or 1.0)) for model in models]
        result[AVERAGE] = np.log(np.clip(np.mean(members, axis=0, dtype=np.float32), 1e-30, None))
    columns = {AVERAGE: models[0].columns} | {model.name: model.columns for model in models}
    return {name: values if (kept := columns[name]) is None else values[:, kept] for name, values in result.items()}


def predict(
    models: Sequence[Model], split: Split, temperatures: dict[str, float], average: bool
) -> dict[str, Predictions]:
    """Predict a split with models, and with `average` with their mean, each by its name.

    Args:
        models: With the `columns` of the classes of `split`.
        split: What is judged.
        temperatures: By name, also of the mean.
        average: As in `logits_of_all`.
    """
    whole = [replace(model, columns=None) for model in models]
    plain, mirrored = (logits_of_all(whole, split.images, average, flip) for flip in (False, True))
    averaging = {model.name for model in models if model.metadata.flip}
    columns = {AVERAGE: models[0].columns} | {model.name: model.columns for model in models}
    result = {}
    for name, temperature in temperatures.items():
        all_classes = Predictions(plain[name], mirrored[name], split.labels, temperature, name in averaging)
        if (kept := columns[name]) is None:
            result[name] = all_classes
            continue
        numbers = np.full(plain[name].shape[1], -1)
        numbers[kept] = np.arange(len(kept))
        answers = None if (numbers >= 0).all() else numbers[all_classes.predicted]
        views = plain[name][:, kept], mirrored[name][:, kept]
        result[name] = Predictions(*views, split.labels, temperature, name in averaging, answers)
    return result


def predictions_of(network: Network, split: Split) -> Predictions:
    """Predict a split, at temperature 1."""
    plain, mirrored = logits(network, split.images), logits(network, split.images, flip=True)
    return Predictions(plain, mirrored, split.labels, 1.0)


def network_of(model: EmotionClassifier) -> Network:
    """Return the network of a classifier in eval mode, on the classifier's device."""
    return lambda images: model(model.prepare(images.to(model.device))).float().cpu()


def load_models(paths: Sequence[str], device: str, reserved: Sequence[str] = ()) -> list[Model]:
    """Load checkpoints (`.ckpt`) and artifacts.

    Args:
        paths: The files, names of included models, or hf://owner/name/file.
        device: auto, cpu, cuda or cuda:1.
        reserved: Names that none of them may get.

    Raises:
        ArtifactError: A file is missing, or is neither a checkpoint nor an artifact.
        ConfigError: The device is unknown or missing.
    """
    files = [artifact.find(path) for path in paths]
    return [_load(path, name, device) for path, name in zip(files, _names(files, reserved), strict=True)]


def _load(path: Path, name: str, device_name: str) -> Model:
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; give a file in it, such as model.ts or checkpoints/best.ckpt")
    device = artifact.device_of(device_name, path)
    if path.suffix == ".ckpt":
        backbone, metadata, _ = from_checkpoint(path, flip=False, temperature=1.0)
        module: Network = InferenceModel(backbone, metadata).eval().to(device)
        temperature = None
    else:
        module = loaded = artifact.load(path, device, raw=True, threads=torch.get_num_threads())
        metadata = loaded.metadata
        temperature = metadata.temperature

    def network(images: Tensor) -> Tensor:
        return module(images.to(device)).float().cpu().clamp_min(1e-30).log()

    return Model(name, path, metadata, network, temperature)


def _names(paths: Sequence[Path], reserved: Sequence[str]) -> list[str]:
    """Return short, distinct names: `fast`; `resnet_small/2026-01-31_12-00-00` of a run; owner/name of the Hub."""
    names: list[str] = []
    for path in paths:
        name = path.stem
        if name.partition(".")[0] in _GENERIC:
            folders = [part for part in path.resolve().parent.parts[1:] if part != "checkpoints"]
            name = hub.repository_of(path) or "/".join(folders[-2:]) or name
            if name in names:
                name += f"/{path.name}"
        while name in (*names, *reserved):
            name += "'"
        names.append(name)
    return names
