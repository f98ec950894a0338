"""The seven emotions: their order, names, aliases and colours. The only module that knows them.

`register` adds more, from here or from a plugin.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from fer.errors import DataError

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

COLOURS: dict[str, Colour] = {}
"""The colour of each registered emotion, in label order."""

OTHER_COLOUR: Colour = (64, 170, 160)
"""The colour of every class that is not a registered emotion."""

_ALIASES: dict[str, str] = {}


def register(name: str, colour: Colour, aliases: Iterable[str] = ()) -> None:
    """Add an emotion after those registered before, or replace one.

    Args:
        name: Its class name, in lower case.
        colour: RGB, 0 to 255, in which it is drawn.
        aliases: Other names that datasets give it, in lower case.
    """
    COLOURS[name] = colour
    _ALIASES.update(dict.fromkeys(aliases, name))


register("angry", (214, 69, 65), ["anger"])
register("disgust", (118, 158, 55), ["disgusted"])
register("fear", (142, 98, 196), ["afraid", "fearful", "scared"])
register("happy", (240, 180, 41), ["happiness", "joy"])
register("sad", (66, 133, 222), ["sadness"])
register("surprise", (235, 119, 52), ["surprised"])
register("neutral", (128, 140, 152), ["calm", "neutrality"])

EMOTIONS: tuple[str, ...] = tuple(COLOURS)
"""Class names in the order of FER-2013's labels 0 to 6."""


def canonical(name: str) -> str | None:
    """Return the emotion that `name` means ("Happiness" → "happy"), or None if no registered one."""
    word = name.strip().lower()
    word = _ALIASES.get(word, word)
    return word if word in COLOURS else None


def is_name(name: str) -> bool:
    """Whether a class can have this name: one visible line that is valid UTF-8 and can be a folder's name."""
    odd = any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    return bool(name) and not odd and name not in (".", "..")


def order(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names in label order: emotions as registered, then all others by name.

    Raises:
        DataError: A name is not a class name; see `is_name`.
    """
    for name in sorted(set(names)):
        if not is_name(name):
            raise DataError(f"a class cannot be called {name!r}, which cannot be shown or name a folder; rename it")
    known = [emotion for emotion in COLOURS if emotion in names]
    return tuple(known + sorted(set(names) - set(known)))


def colour(name: str) -> Colour:
    """Return the RGB colour (0 to 255) in which a class is drawn."""
    return COLOURS.get(name, OTHER_COLOUR)
