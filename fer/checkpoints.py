"""Checkpoints of runs: loading one, and going on from one."""

import shutil
from pathlib import Path
from typing import Any

import torch

from fer.classifier import EmotionClassifier
from fer.errors import ArtifactError, ConfigError


def load(path: str) -> EmotionClassifier:
    """The classifier of a checkpoint, in eval mode on the CPU. Raises `ArtifactError` where it is not one of ours."""
    try:
        return EmotionClassifier.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    except FileNotFoundError:
        raise ArtifactError(f"no checkpoint {path}; give the path of a run's checkpoints/best.ckpt") from None
    except Exception as error:  # unpickling raises almost anything
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{path} is not a checkpoint of train.py ({first}); give a run's best.ckpt") from None


def check_same_run(path: str, model: EmotionClassifier) -> None:
    """Raises `ConfigError` where the checkpoint at `path` comes from another run than `model` is made for.

    A schedule and an optimiser's state only fit the run that they come from.
    """
    old, new = load(path).hparams, model.hparams
    pairs = [(name, old[name], new[name]) for name in new if name not in ("config", "git_commit")]
    for group, key in (("trainer", "max_epochs"), ("data", "batch_size")):
        pairs.append((f"{group}.{key}", old["config"][group][key], new["config"][group][key]))
    for name, before, now in pairs:
        if before != now:
            raise ConfigError(f"ckpt_path={path} comes from a run with {name}={before}, not {now}; set the same")


def best_of(checkpoint: Any, ckpt_path: str | None) -> str:
    """Path of the best checkpoint of this run or, copied into its folder, of the run that it continues.

    checkpoint: the `ModelCheckpoint` of this run. ckpt_path: what the run was continued from, or None.
    """
    if ckpt_path:
        states = torch.load(ckpt_path, map_location="cpu", weights_only=True)["callbacks"]
        earlier = states.get(checkpoint.state_key, {})
        path, score = Path(earlier.get("best_model_path") or "none"), earlier.get("best_model_score")
        here = Path(checkpoint.dirpath) / "best.ckpt"
        reached = checkpoint.best_model_score
        if score is not None and path.is_file() and (reached is None or score > reached) and path != here:
            shutil.copyfile(path, here)
            return str(here)
    return str(checkpoint.best_model_path)
