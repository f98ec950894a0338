"""Checks of configuration values. Each value is checked once, by the code that uses it."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fer.errors import ConfigError


def check_number(
    name: str,
    value: Any,
    low: float = 0,
    high: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Check that `value` is a finite number from `low` to `high`.

    Args:
        name: Key of the value in the config, such as "detector.score".
        value: The value from the config. Booleans are not numbers.
        low, high: The range, inclusive.
        whole: Accept integers only.
        above: Exclude `low` itself.
        optional: Accept None as well.

    Raises:
        ConfigError: The value is of another type or out of range. The message names the key and the range.
    """
    if optional and value is None:
        return
    kinds = int if whole else int | float
    good = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high and abs(value) < math.inf
    if good and not (above and value == low):
        return
    kind = "a whole number" if whole else "a number"
    start = "above" if above else "from"
    limits = f"{start} {low:g}" + (f" to {high:g}" if high < math.inf else "" if above else " up")
    shown = "null" if value is None else str(value)[:80]
    raise ConfigError(f"{name}={shown} must be {kind} {limits}" + (", or null" if optional else ""))


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that `value` is one of `choices`.

    Raises:
        ConfigError: It is not. The message names the key and all choices.
    """
    # True == 1, but a flag is not a number
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return
    words = ["null" if c is None else str(c).lower() if isinstance(c, bool) else str(c) for c in choices]
    shown = "null" if value is None else str(value)[:80]
    raise ConfigError(f"{name}={shown} is unknown; choose {', '.join(words[:-1])} or {words[-1]}")


def check_flag(name: str, value: Any) -> None:
    """Check that `value` is true or false. Raises `ConfigError` otherwise."""
    check_choice(name, value, (True, False))


def check_path(name: str, value: Any, optional: bool = True) -> None:
    """Check that `value` is a path, as text or a `Path`, or None if `optional`. Raises `ConfigError` otherwise."""
    if not (isinstance(value, str | Path) and str(value)) and not (optional and value is None):
        shown = "null" if value is None else str(value)[:80]
        raise ConfigError(f"{name}={shown} must be a path" + (", or null" if optional else ""))


def paths_of(name: str, value: Any) -> list[str]:
    """Return the value of a config key, a path or list of paths, as a list. Raises `ConfigError` for other values."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    paths = list(value) if several else [] if value is None else [value]
    for path in paths:
        check_path(name, path, optional=False)
    return paths
