"""The seven emotions: their order, their names, their colours. The only place that knows them."""

import unicodedata
from collections.abc import Sequence

from fer.errors import DataError

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class names in the order of FER-2013's labels 0 to 6."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "angry": (214, 69, 65),
    "disgust": (118, 158, 55),
    "fear": (142, 98, 196),
    "happy": (240, 180, 41),
    "sad": (66, 133, 222),
    "surprise": (235, 119, 52),
    "neutral": (128, 140, 152),
}
"""One RGB colour (0 to 255) for each emotion."""

OTHER_COLOUR = (64, 170, 160)
"""RGB for a class that is none of the seven."""

_ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "calm": "neutral",
    "neutrality": "neutral",
}


def canonical(name: str) -> str | None:
    """The emotion that `name` means ("Happiness" → "happy"), or None where it is none of the seven."""
    word = name.strip().lower()
    word = _ALIASES.get(word, word)
    return word if word in EMOTIONS else None


def is_name(name: str) -> bool:
    """Whether a class may be called so: it can be shown in one line, and written to any file as UTF-8."""
    return bool(name) and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def order(names: Sequence[str]) -> tuple[str, ...]:
    """Class names in label order: the known emotions as in `EMOTIONS`, then all others by name.

    Raises `DataError` for what is no name.
    """
    for name in sorted(set(names)):
        if not is_name(name):
            raise DataError(f"no class can be called {name!r}, with characters that cannot be shown; rename it")
    known = [emotion for emotion in EMOTIONS if emotion in names]
    return tuple(known + sorted(set(names) - set(known)))


def colour(name: str) -> tuple[int, int, int]:
    """RGB (0 to 255) in which a class is drawn."""
    return COLOURS.get(name, OTHER_COLOUR)
