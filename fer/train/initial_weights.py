"""Start a training from the weights of a checkpoint or an artifact."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from fer import artifact
from fer.errors import ConfigError
from fer.models.checkpoints import load
from fer.models.classifier import EmotionClassifier

log = logging.getLogger(__name__)


def start_from(model: EmotionClassifier, path: str) -> None:
    """Give `model` the weights of a checkpoint or TorchScript artifact ("bundled": the one included).

    In the head, classes that both know keep their weights and others start anew. Mean and standard deviation are taken
    over too. Raises `ArtifactError` where the file is neither, `ConfigError` where it is of another network.
    """
    path = str(artifact.BUNDLED) if path == "bundled" else path
    if Path(path).suffix == ".ckpt":
        source = load(path)
        weights: dict[str, Tensor] = dict(source.deployable().state_dict())
        theirs, classes = source.hparams["model"], source.classes
        mean, std = source.mean, source.std
    else:
        metadata = artifact.read_metadata(path)
        weights = artifact.backbone_weights(path)
        config = metadata.config.get("members", [metadata.config])[0]
        theirs, classes = config.get("model", {}), metadata.classes
        mean, std = torch.tensor(metadata.mean).view(1, -1, 1, 1), torch.tensor(metadata.std).view(1, -1, 1, 1)
    own, head = model.backbone.state_dict(), model.head_weights()
    fits = {name for name, value in weights.items() if name in own and own[name].shape == value.shape}
    shapes = {name: (len(classes), *own[name].shape[1:]) for name in head}
    other_head = any(name not in weights or weights[name].shape != shape for name, shape in shapes.items())
    if own.keys() - fits - head or other_head or mean.shape != model.mean.shape:
        arguments = " ".join(f"model.{name}={value}" for name, value in theirs.items() if name != "pretrained")
        raise ConfigError(f"init_from={path} is of another network; set {arguments} data.channels={mean.shape[1]}")
    known = [name for name in model.classes if name in classes]
    for name in head:
        values = own[name].clone()
        values[[model.classes.index(k) for k in known]] = weights[name][[classes.index(k) for k in known]]
        weights[name] = values
    fits |= head
    model.backbone.load_state_dict({name: weights[name] for name in fits}, strict=False)
    model.mean, model.std = mean, std
    model.hparams["mean"], model.hparams["std"] = mean.flatten().tolist(), std.flatten().tolist()
    log.info("start from %s, which knows %d of the %d classes", path, len(known), len(model.classes))
