"""What is judged: a checkpoint, an artifact, or the mean of several, all asked in the same way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fer import artifact
from fer.artifact.export import from_checkpoint
from fer.artifact.metadata import Metadata
from fer.artifact.network import InferenceModel
from fer.data.base import Split, as_batch
from fer.errors import ArtifactError
from fer.files import expand
from fer.metrics import fit_temperature

BATCH = 256
_NO_NAMES = ("model", "best", "last", "previous")


@dataclass(frozen=True)
class Model:
    """A model by its short name. `raw(images)`: uint8 tensor (N, 1 or 3, H, W) → probabilities (N, K) before the
    temperature and without the mirrored image. temperature: its own, None where it is yet to be fitted."""

    name: str
    path: Path
    metadata: Metadata
    raw: Callable[[Tensor], Tensor]
    temperature: float | None

    def logits(self, images: np.ndarray, flip: bool = False) -> np.ndarray:
        """float32 (N, K), up to a constant, for images uint8 (N, H, W) or (N, H, W, 3), or their mirror images."""
        answers = []
        for start in range(0, len(images), BATCH):
            batch = as_batch(images[start : start + BATCH])
            answers.append(self.raw(batch.flip(3) if flip else batch))
        return torch.cat(answers).clamp_min(1e-30).log().numpy()


@dataclass(frozen=True)
class Predictions:
    """What a contender says of the N images of a split: logits float32 (N, K) of them and of their mirror images."""

    logits: np.ndarray
    mirrored: np.ndarray
    temperature: float

    @property
    def raw(self) -> np.ndarray:
        """Probabilities (N, K) before the temperature."""
        return softmax(self.logits)

    @property
    def calibrated(self) -> np.ndarray:
        """Probabilities (N, K) after the temperature."""
        return softmax(self.logits / self.temperature)

    @property
    def both(self) -> np.ndarray:
        """Calibrated probabilities (N, K), averaged with those of the mirrored images."""
        return (self.calibrated + softmax(self.mirrored / self.temperature)) / 2


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of rows, float32 (N, K)."""
    return torch.from_numpy(logits).softmax(1).numpy()


def fitted(logits: np.ndarray, split: Split) -> float:
    """The temperature that fits logits (N, K) to the labels of `split`."""
    return fit_temperature(logits, split.labels)


def mean_logits(members: Sequence[np.ndarray]) -> np.ndarray:
    """The logits of the mean of several calibrated probabilities (N, K)."""
    return np.log(np.clip(np.mean(members, axis=0, dtype=np.float32), 1e-30, None))


def load_models(paths: Sequence[str], device: torch.device, taken: Sequence[str] = ()) -> list[Model]:
    """Load what lies at `paths`: `.ckpt` checkpoints, or artifacts ("bundled": the one included).

    taken: names that none of them gets. Raises `ArtifactError` where a file is missing or neither.
    """
    places = [artifact.BUNDLED if path == "bundled" else expand(path) for path in paths]
    return [_load(place, name, device) for place, name in zip(places, _names(places, taken), strict=True)]


def _load(path: Path, name: str, device: torch.device) -> Model:
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; give a file in it, such as model.ts or checkpoints/best.ckpt")
    if path.suffix != ".ckpt":
        loaded = artifact.load(path, device, raw=True)
        return Model(name, path, loaded.metadata, loaded, loaded.metadata.temperature)
    backbone, metadata, _ = from_checkpoint(path, flip=False, temperature=1.0)
    model = InferenceModel(backbone, metadata).eval().to(device)

    def raw(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(images.to(device)).float().cpu()

    return Model(name, path, metadata, raw, None)


def _names(places: Sequence[Path], taken: Sequence[str] = ()) -> list[str]:
    """Short, different names: `fast`, or `resnet_small/2026-01-31_12-00-00` for a file of a run's folder."""
    names: list[str] = []
    for place in places:
        name = place.stem
        if name in _NO_NAMES:
            parts = [part for part in place.resolve().parent.parts[1:] if part != "checkpoints"]
            name = "/".join(parts[-2:]) or name
        while name in (*names, *taken):
            name += "'"
        names.append(name)
    return names
