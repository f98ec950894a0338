"""Checkpoints of runs: writing them whole, loading one, going on or starting from one."""

import logging

from fer.errors import ArtifactError
from fer.files import expand, regular
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)


def load(path: str) -> EmotionClassifier:
    """The classifier of a checkpoint, in eval mode on the CPU. Raises `ArtifactError` where it is not one of ours."""
    try:
        place = regular(expand(path))
        model = EmotionClassifier.load_from_checkpoint(place, map_location="cpu", weights_only=True).eval()
        _check_config(model.hparams["config"])
        return model
    except FileNotFoundError:
        raise ArtifactError(f"no checkpoint {path}; give the path of a run's checkpoints/best.ckpt") from None
    except Exception as error:  # unpickling raises almost anything
        why = getattr(error, "strerror", None) or str(error)
        first = (why.strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArtifactError(f"{path} is not a checkpoint of train.py ({first}); give a run's best.ckpt") from None


def _check_config(config: object) -> None:
    groups = [config]
    if isinstance(config, dict):
        groups += [config.get(name) for name in ("model", "data", "trainer", "export")]
    if not all(group is None or isinstance(group, dict) for group in groups):
        raise ValueError("its config is no configuration")
