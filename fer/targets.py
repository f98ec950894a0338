"""What a config may build: things of this project and of its chosen parts, and of packages that the user names.

One that somebody handed on could otherwise call anything at all by its `_target_`.
"""

import inspect
import os
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from fer.errors import ConfigError

_KNOWN = (
    "fer.data",
    "fer.checkpoints",
    "fer.curves",
    "lightning.Trainer",
    "lightning.pytorch",
    "lightning.fabric.plugins",
    "torch.optim",
    "timm.optim",
    "timm.scheduler",
    "torchvision.transforms",
    "albumentations",
    "optuna.samplers",
    "optuna.pruners",
    "wandb.Settings",
    "wandb.sdk",
)
OWN = "FER_TARGETS"
"""The environment variable that names more packages, with commas between them."""


def build(node: Any, **arguments: Any) -> Any:
    """`hydra.utils.instantiate`, for nodes all of whose `_target_` may be built.

    A target is looked at where it was defined too, so that no module hands on what it has imported itself. Raises
    `ConfigError` for any other, and for one that does not exist.
    """
    own = tuple(name.strip() for name in os.environ.get(OWN, "").split(",") if name.strip())
    for target in _targets(OmegaConf.to_container(node) if isinstance(node, DictConfig | ListConfig) else node):
        if not _within(target, (*_KNOWN, *own)):
            raise _refused(target, target)
        try:
            found = pkgutil.resolve_name(target)
        except Exception as error:  # importing runs the code of a module
            raise ConfigError(f"_target_={target} does not exist ({' '.join(str(error).split())[:120]})") from error
        home = str(getattr(found, "__module__", None) or target)
        if not _within(home, (*_KNOWN, *own)):
            raise _refused(target, home)
    try:
        return instantiate(node, **arguments)
    except TypeError as error:  # of Hydra's own flags; what a target raises comes as another error
        raise ConfigError(f"this cannot be built: {' '.join(str(error).split())}; see conf") from error


def reader(node: Any) -> Callable[[], Any]:
    """What gives the splits, of the node `data.reader`.

    Raises `ConfigError` where that is nothing to be called, and for an argument that it does not take, or lacks.
    """
    try:
        found = build(node)
        if callable(found):
            inspect.signature(found).bind()
            return found
    except (InstantiationException, TypeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(f"data.reader: {reason}; see conf/data") from error
    raise ConfigError("data.reader describes nothing that reads data; see conf/data")


def check_groups(cfg: DictConfig, *names: str) -> None:
    """Raises `ConfigError` for a group of values that is none any more, as after `callbacks=null`."""
    for name in names:
        group = cfg.get(name)
        if not isinstance(group, DictConfig):
            raise ConfigError(f"{name}={group} cannot work; give its values one by one, as {name}.<key>=<value>")


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _refused(target: str, home: str) -> ConfigError:
    package = home.split(".")[0]
    return ConfigError(f"_target_={target} is nothing that a config may build; if you trust it, set {OWN}={package}")


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
