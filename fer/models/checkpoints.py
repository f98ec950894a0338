"""Load checkpoints of train.py. They contain only plain values, so that loading one cannot run code."""

from typing import Any

import torch

from fer.errors import ArtifactError
from fer.files import expand
from fer.models.classifier import EmotionClassifier


def load(path: str) -> EmotionClassifier:
    """Load the classifier of a checkpoint, in eval mode on the CPU.

    Raises:
        ArtifactError: The file does not exist or is not a checkpoint of train.py.
    """
    checkpoint = read(path)
    try:
        values = checkpoint["hyper_parameters"]
        model = EmotionClassifier(**values | {"model": values["model"] | {"pretrained": False}})
        model.load_state_dict(checkpoint["state_dict"])
        return model.eval()
    except Exception as error:  # other dictionaries can raise anything
        raise _not_ours(path, error) from None


def read(path: str) -> dict[str, Any]:
    """Read a checkpoint as a dictionary with tensors on the CPU. Raises `ArtifactError` as `load` does."""
    try:
        return torch.load(expand(path), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"no checkpoint {path}; give the path of a run's checkpoints/best.ckpt") from None
    except Exception as error:  # damaged files raise almost anything
        raise _not_ours(path, error) from None


def _not_ours(path: str, error: Exception) -> ArtifactError:
    reason = getattr(error, "strerror", None) or str(error)
    line = (reason.strip().splitlines() or [type(error).__name__])[0][:200]
    return ArtifactError(f"{path} is not a checkpoint of train.py ({line}); give a run's best.ckpt")
