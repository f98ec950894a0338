"""The seven emotions: their order, names, aliases and colours. The only module that knows them.

`register` adds more, from here or from a plugin.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from fer.errors import DataError

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

COLOURS: dict[str, Colour] = {}
"""The colour of each registered emotion, in label order."""

_OTHER_COLOURS = (
    "f890f8 f010b8 10c8e8 10d010 c8b0b8 287858 b810f8 986810 d078a8 a098f8 5850f8 "
    "78c890 b83888 d860f8 886070 387098 10a898 b8a060 f84080 a8c010 109010 f89090"
)
"""The 22 colours of all other classes, in hexadecimal: as different from each other and from the emotions' as possible
(in Oklab), with a contrast of at least 2:1 to white and 3:1 to the dark panel."""

_ALIASES: dict[str, str] = {}
"""The emotion of each of its names, as `_folded` returns them."""

_NUMBER = re.compile(r"^\d+[\W_]*|[\W_]*\d+\W*$")
"""The number of "0_angry" or "angry_0"."""

_INVISIBLE = dict.fromkeys((0x200B, 0xFEFF))
_TURKISH = {0x131: "i", 0x307: None}
"""Turkish has an i with and one without a dot in both cases: İ is folded to i and a dot of its own, I to i."""


def register(name: str, colour: Colour, aliases: Iterable[str] = ()) -> None:
    """Add an emotion after those registered before, or replace one.

    Args:
        name: Its class name, in lower case.
        colour: RGB, 0 to 255, in which it is drawn.
        aliases: Other names that datasets give it.
    """
    COLOURS[name] = colour
    _ALIASES.update((_folded(alias), name) for alias in (name, *aliases))


def _text(name: str) -> str:
    """Return `name` in Unicode's form NFKC, without surrounding spaces and dots."""
    return unicodedata.normalize("NFKC", name).translate(_INVISIBLE).strip(" .")


def _folded(name: str) -> str:
    """Return `name` without what makes no difference: case, Unicode form, surrounding spaces and dots."""
    return _text(_text(name).casefold()).translate(_TURKISH)


register("angry", (214, 69, 65), ["anger"])
register("disgust", (118, 158, 55), ["disgusted"])
register("fear", (142, 98, 196), ["afraid", "fearful", "scared"])
register("happy", (240, 180, 41), ["happiness", "joy"])
register("sad", (66, 133, 222), ["sadness"])
register("surprise", (235, 119, 52), ["surprised", "suprise"])
register("neutral", (128, 140, 152), ["calm", "neutrality"])

EMOTIONS: tuple[str, ...] = tuple(COLOURS)
"""Class names in the order of FER-2013's labels 0 to 6."""


def key(name: str) -> str:
    """Return what is equal for two names of one class, whatever their case and Unicode form.

    It is the emotion ("Happiness" → "happy") if the name means one.
    """
    folded = _folded(name)
    return _ALIASES.get(folded, folded)


def canonical(name: str) -> str | None:
    """Return the emotion that `name` means ("Happiness", "3_happy" → "happy"), or None if no registered one."""
    return next((word for word in (key(name), key(_NUMBER.sub("", name.strip()))) if word in COLOURS), None)


def unify(names: Iterable[str]) -> dict[str, str]:
    """Return the class that each of the names in one dataset means.

    An emotion's aliases mean the emotion; other names are one class if they have the same `key`. Of several
    spellings the last in code-point order wins, which prefers small letters: "Straße", not "STRASSE". The numbers of
    names such as "0_angry" are left out, unless two numbers with the same name tell classes apart ("happy_1",
    "happy_2"). The names 0 to 6, if all of them and no others occur, are FER-2013's labels; other bare numbers stay.
    """
    texts = {name: _text(name) for name in names}
    if all(map(str.isdecimal, texts.values())) and set(map(int, texts.values())) == set(range(7)):
        return {name: EMOTIONS[int(text)] for name, text in texts.items()}
    plain = {name: _NUMBER.sub("", text) or text for name, text in texts.items()}
    numbers: defaultdict[str, set[str]] = defaultdict(set)
    for name, text in texts.items():
        numbers[key(plain[name])].update(re.findall(r"\d+", text))
    indexed = any(key(plain[name]) in COLOURS and key(text) not in COLOURS for name, text in texts.items())
    if indexed and all(len(each) < 2 for each in numbers.values()):
        texts = plain
    spellings = {key(text): text for text in sorted(texts.values())}
    return {name: k if (k := key(text)) in COLOURS else spellings[k] for name, text in texts.items()}


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
    """Return the RGB colour (0 to 255) of a class alone; among others that want the same one, see `colours`."""
    return colours([name])[name]


def colours(classes: Iterable[str]) -> dict[str, Colour]:
    """Return the RGB colour (0 to 255) in which each class of a model is drawn.

    Colours depend on the set of names alone. No two classes share one, up to 22 classes that are not emotions.
    """
    names, chosen = frozenset(classes), dict[str, Colour]()
    for name in sorted(names, key=lambda name: (name not in COLOURS, name)):
        emotion = canonical(name)
        if emotion and COLOURS[emotion] not in chosen.values():
            chosen[name] = COLOURS[emotion]
    others = {name: _preferred(name) for name in sorted(names - chosen.keys())}
    for choices in zip(*others.values(), strict=True):  # first choices first, so that few classes lose theirs
        for name, tint in zip(others, choices, strict=True):
            if name not in chosen and tint not in chosen.values():
                chosen[name] = tint
    return {name: preferred[0] for name, preferred in others.items()} | chosen


@lru_cache(maxsize=1024)
def _preferred(name: str) -> list[Colour]:
    """Return the colours of other classes in an order that depends on the name alone, by rendezvous hashing."""
    word = _folded(name)
    ranked = sorted(_OTHER_COLOURS.split(), key=lambda code: hashlib.sha256(f"{code} {word}".encode()).digest())
    return [(int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in ranked]
