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
    "fer.train.callbacks",
    "fer.train.curves",
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


def build(node: Any, group: str, *values: Any, **arguments: Any) -> Any:
    """`hydra.utils.instantiate`, for nodes all of whose `_target_` may be built.

    group: where the node stands in the config, such as "optimizer". A target is looked at where it was defined too, so
    that no module hands on what it has imported itself.

    Raises `ConfigError` for any other, for one that does not exist, and for values that a target refuses or does not
    take.
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
        return instantiate(node, *values, **arguments)
    except (InstantiationException, TypeError) as error:  # TypeErrors are of Hydra's own flags
        raise _useless(group, error) from error.__cause__ or error


def reader(node: Any) -> Callable[[], Any]:
    """What gives the splits, of the node `data.reader`.

    Raises `ConfigError` where that is nothing to be called, and for an argument that it does not take, or lacks.
    """
    found = build(node, "data.reader")
    if not callable(found):
        raise ConfigError("data.reader describes nothing that reads data; see conf/data")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:
        raise _useless("data.reader", error) from error
    return found


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


def _useless(group: str, error: Exception) -> ConfigError:
    cause = error.__cause__ or error
    reason = " ".join(str(cause).split()) or type(cause).__name__
    easy = ", or give trainer=auto, which takes what is there" if group == "trainer" else ""
    return ConfigError(f"{group}: {reason}; see conf/{group.split('.')[0]}{easy}")


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
