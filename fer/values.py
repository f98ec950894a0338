"""Checks that the search still uses."""

import math
from collections.abc import Callable
from typing import Any


def number(low: float, high: float = math.inf, whole: bool = False) -> Callable[[Any], bool]:
    """Return what tells whether a value is a finite number, or a whole one, from `low` to `high`."""

    def check(value: Any) -> bool:
        kinds = int if whole else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high and value < math.inf

    return check
