"""Which rate each parameter learns with, and how it changes during the training."""

from collections.abc import Callable, Mapping
from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer

from fer import config
from fer.checks import check_choice
from fer.errors import ConfigError


def parameter_groups(backbone: nn.Module, optimizer: Mapping[str, Any], layer_decay: float) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimiser. Biases and norms are not decayed (He et al. 2019, section 3.1).

    Args:
        backbone: The network. timm and our own know which layer is how deep.
        optimizer: Hydra node with `lr` and `weight_decay`.
        layer_decay: The rate of each layer is that of the next one times this.

    Raises:
        ConfigError: There is no rate to scale.
    """
    weight_decay = optimizer.get("weight_decay", 0.0)
    if layer_decay == 1:
        return param_groups_weight_decay(backbone, weight_decay=weight_decay)
    if "lr" not in optimizer:
        raise ConfigError(f"layer_decay={layer_decay} needs a rate to scale; set optimizer.lr")
    groups = param_groups_layer_decay(backbone, weight_decay, layer_decay=layer_decay)
    # The head first, since the rate of the first group is the one in the log.
    return [{**group, "lr": optimizer["lr"] * group["lr_scale"]} for group in reversed(groups)]


def schedule(optimizer: Optimizer, node: Mapping[str, Any], total_steps: Callable[[], int]) -> dict[str, Any]:
    """Build a schedule, as Lightning takes it.

    Args:
        optimizer: With the groups above.
        node: Hydra node with `_target_`, and `interval` and `monitor` for Lightning.
        total_steps: Returns the number of steps of the run, for values "total_steps".

    Raises:
        ConfigError: A value is unknown or refused.
    """
    values = {key: total_steps() if value == "total_steps" else value for key, value in node.items()}
    scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    if "max_lr" in values and set(scales) != {1.0}:  # OneCycleLR would give all groups the same rate
        values["max_lr"] = [values["max_lr"] * scale for scale in scales]
    options = {"interval": values.pop("interval", "step"), "monitor": values.pop("monitor", None)}
    check_choice("scheduler.interval", options["interval"], ("step", "epoch"))
    scheduler = config.build(values, "scheduler", optimizer, _convert_="all")
    # `strict` would end a run whose first validation is later than its first epoch
    return {"scheduler": scheduler, "strict": False, **options}
