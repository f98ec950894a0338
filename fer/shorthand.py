"""What the command line may say more briefly than Hydra."""

import re

from fer.errors import ConfigError


def written_out(words: list[str]) -> list[str]:
    """Return overrides in which `data=[a,b:c]` is a mixture (conf/data/mixture.yaml) of the datasets a and, as b, c.

    Raises:
        ConfigError: A word begins like one and is none. Hydra would take the last dataset in it, and say nothing.
    """
    return [part for word in words for part in _mixture(word)]


def _mixture(word: str) -> list[str]:
    if not word.startswith("data=["):
        return [word]
    parts = re.fullmatch(r"data=\[\s*([\w:]+(?:\s*,\s*[\w:]+)*)\s*\]", word)
    if parts is None:
        raise ConfigError(f"{word[:80]} is no list of datasets; give names in conf/data, as in data=[fer2013,rafdb]")
    named = [part.strip().partition(":") for part in parts[1].split(",")]
    return ["data=mixture", *(f"+data@data.parts.{name}={dataset or name}" for name, _, dataset in named)]
