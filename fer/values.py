"""What the values of conf/train.yaml may be, so that a wrong one is one line before anything is read or trained."""

import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fer.errors import ConfigError

Check = Callable[[Any], bool]


def number(low: float, high: float = math.inf, whole: bool = False) -> Check:
    """What tells whether a value is a number, or a whole one, from `low` to `high`, and finite."""

    def check(value: Any) -> bool:
        kinds = int if whole else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high and value < math.inf

    return check


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _above_zero(value: Any) -> bool:
    return number(0)(value) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _steps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and number(0, 1)(pair[0]) and _above_zero(pair[1]) for pair in value
    )


def _epochs(value: Any) -> bool:
    return number(-1, whole=True)(value) and value != 0


def _files(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


SIZE = number(8, 4096, whole=True)
"""Of the side of an image in pixels."""
_YES_OR_NO = (_boolean, "true or false")
_FILE_OR_NONE = (_or_null(_text), "a file, or null")
_FROM_0 = (number(0, 1e9), "a number from 0 to a billion, 0 for none")
_TABLE: dict[str, tuple[Check, str]] = {
    "run_dir": (_text, "a folder"),
    "model.name": (_text, "the name of a network, as in conf/model or of timm"),
    "seed": (number(0, 2**32 - 1, whole=True), "a whole number from 0 to 4294967295"),
    "threads": (_or_null(number(1, 4096, whole=True)), "a whole number from 1 to 4096, or null"),
    "trust": _YES_OR_NO,
    "init_from": _FILE_OR_NONE,
    "ckpt_path": _FILE_OR_NONE,
    "checkpoint.every_n_steps": (_or_null(number(1, whole=True)), "a whole number from 1, or null"),
    "input_size": (SIZE, "a whole number from 8 to 4096"),
    "progressive": (_steps, "a list of [share of training done, share of input_size], [] for none"),
    "label_smoothing": (number(0, 1), "a number from 0 to 1"),
    "class_weights": _YES_OR_NO,
    "mixup": _FROM_0,
    "cutmix": _FROM_0,
    "votes.use": (lambda value: value in ("targets", "auxiliary"), "targets or auxiliary"),
    "votes.weight": _FROM_0,
    "teacher": (_files, "a list of files, [a.ts,b.ts], [] for none"),
    "teacher_weight": (number(0, 1), "a number from 0 to 1"),
    "optimizer.lr": (number(0), "a number from 0"),
    "optimizer.weight_decay": _FROM_0,
    "trainer.max_epochs": (_or_null(_epochs), "a whole number from 1, or -1 where +trainer.max_steps ends it"),
    "evaluate.test": _YES_OR_NO,
    "export.flip": _YES_OR_NO,
    "export.crop_margin": (number(-0.4, 2), "a number from -0.4 to 2"),
}


def check_values(cfg: DictConfig) -> None:
    """Raises `ConfigError` for the first value that is of another kind, or out of range. Keys that are not there, as
    with an optimiser that takes other ones, are passed over."""
    values = OmegaConf.to_container(cfg, resolve=True)
    for key, (allowed, words) in _TABLE.items():
        value: Any = values
        for part in key.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT and not allowed(value):
            shown = "null" if value is None else str(value)[:200]
            raise ConfigError(f"{key}={shown} must be {words}")


_ABSENT = object()
