"""Initialise a model with the weights of a checkpoint or an artifact."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fer import artifact
from fer.artifact import hub
from fer.errors import ConfigError
from fer.labels import key
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)

FILES = hub.DEFAULTS[::-1]
"""What a link without a file means here: weights can be read from a model.ts."""


def start_from(model: EmotionClassifier, path: str) -> list[int]:
    """Copy weights, mean and standard deviation from another model into `model`.

    In the head, only the weights of classes that both models know are copied.

    Args:
        model: The classifier to change.
        path: A checkpoint or TorchScript artifact, the name of an included model, or hf://owner/name/file.

    Raises:
        ArtifactError: The file is neither a checkpoint nor a TorchScript artifact.
        ConfigError: The file contains another network.
    """
    weights, arguments, classes, mean, std = _read(path)
    own, head = model.backbone.state_dict(), model.head_weights()
    shapes = {name: (len(classes), *value.shape[1:]) if name in head else value.shape for name, value in own.items()}
    if mean.shape != model.mean.shape or any(n not in weights or weights[n].shape != s for n, s in shapes.items()):
        keys = [f"model.{name}={value}".replace(" ", "") for name, value in arguments.items() if name != "pretrained"]
        hint = " ".join([*keys, f"data.channels={mean.shape[1]}"])
        raise ConfigError(f"init_from={path} contains another network; set {hint}")
    theirs = [key(name) for name in classes]
    known = [name for name in model.classes if key(name) in theirs]
    for name in head:
        values = own[name].clone()
        values[[model.classes.index(k) for k in known]] = weights[name][[theirs.index(key(k)) for k in known]]
        weights[name] = values
    model.backbone.load_state_dict({name: weights[name] for name in own})
    model.mean, model.std = mean, std
    model.hparams["mean"], model.hparams["std"] = mean.flatten().tolist(), std.flatten().tolist()
    log.info("start from %s, which knows %d of the %d classes", path, len(known), len(model.classes))
    return [model.classes.index(name) for name in known]


def _read(path: str) -> tuple[dict[str, Tensor], dict[str, Any], Sequence[str], Tensor, Tensor]:
    """Return the weights, the arguments of the network, the classes, mean and std of a checkpoint or artifact."""
    file = artifact.find(path, FILES)
    if file.suffix == ".ckpt":
        source = checkpoints.load(str(file))
        return source.deployable().state_dict(), source.hparams["model"], source.classes, source.mean, source.std
    metadata = artifact.read_metadata(file)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (metadata.mean, metadata.std))
    return artifact.backbone_weights(file), metadata.config.get("model", {}), metadata.classes, mean, std
