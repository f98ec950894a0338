"""Fonts for names in any script: those that matplotlib brings and those of the system, looked up when needed."""

import contextlib
import logging
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from anyascii import anyascii

_log = logging.getLogger(__name__)

_FIRST = "DejaVu Sans"
"""The font that matplotlib brings: Latin, Greek, Cyrillic, Hebrew, Arabic and more."""

_LETTERS = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+"
_RIGHT_TO_LEFT = re.compile(rf"{_LETTERS}(?:(?:(?!\n)[\W\d_])*{_LETTERS})*[)\]}}»]*")
"""Words of Hebrew or Arabic, with what stands between them."""

_NO_LETTERS = re.compile("Last ?Resort|Color Emoji")
"""Fonts with a box for every character, and fonts of coloured bitmaps, which cannot be drawn in one colour."""

_PACKAGES = "fonts-noto-core fonts-noto-cjk fonts-symbola"
"""Debian's packages of fonts that together have nearly all characters."""

_named: set[str] = set()
"""The missing characters that a warning has named."""


@lru_cache(maxsize=1024)
def fit(text: str) -> tuple[str, list[str]]:
    """Return a text as it can be drawn, and the font families that have its characters, the first one for most.

    Characters that no font has become ASCII (愤怒 → FenNu), and one warning names them. Marks keep the order of what
    stands around right-to-left words, as in "2 غاضب 88 %".
    """
    if text.isascii():
        return text, [_FIRST]
    text = unicodedata.normalize("NFC", text)
    # Format characters and variation selectors have no letters of their own.
    wanted = {c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Zs") and not "\ufe00" <= c <= "\ufe0f"}
    region = " JP" if re.search("[\u3040-\u30ff]", text) else " SC"
    families, missing = _search(frozenset(c for c in wanted if not c.isascii()), region)
    if missing - _named:
        new = sorted(missing - _named)
        fix = f"install a font that has them (on Debian: apt-get install {_PACKAGES})"
        _log.warning("no font has %s, which are drawn in Latin letters; %s", " ".join(new), fix)
        _named.update(new)
    text = "".join(anyascii(c) if c in missing else c for c in text)
    if _RIGHT_TO_LEFT.search(text):  # a mark that all is from left to right, and isolates in which it is not
        text = "\u200e" + _RIGHT_TO_LEFT.sub("\u2067\\g<0>\u2069", text)
    return text, families


@lru_cache(maxsize=1024)
def _search(wanted: frozenset[str], region: str) -> tuple[list[str], frozenset[str]]:
    """Return font families that together have the wanted characters, and the characters that none has.

    Of fonts with the Chinese characters of several regions, those whose name contains `region` come first.
    """
    from matplotlib.ft2font import FT2Font

    families = [_FIRST]
    for entry in _entries(region):
        if not wanted:
            break
        with contextlib.suppress(OSError, RuntimeError):  # deleted since it was listed
            font = FT2Font(entry.fname, face_index=entry.index)
            found = {c for c in wanted if font.get_char_index(ord(c))}
            if found and entry.name not in families:
                families.append(entry.name)
            wanted = wanted - found
    return families, wanted


def _entries(region: str) -> Iterator[Any]:
    """Yield matplotlib's `FontEntry` of each font, the best first."""
    from matplotlib import font_manager

    def order(entry: font_manager.FontEntry) -> tuple[Any, ...]:
        name = entry.name
        kind = not name.startswith("Noto Sans"), "Mono" in name, region not in name, "Sans" not in name
        return name != _FIRST, entry.style != "normal", *kind, abs(int(entry.weight) - 400), name

    listed = font_manager.fontManager.ttflist
    yield from sorted((entry for entry in listed if not _NO_LETTERS.search(entry.name)), key=order)
    known = len(listed)
    for path in set(font_manager.findSystemFonts()) - {entry.fname for entry in listed}:
        with contextlib.suppress(Exception):  # FreeType cannot read or scale it
            font_manager.fontManager.addfont(path)  # installed since matplotlib made its list
    yield from sorted((entry for entry in listed[known:] if not _NO_LETTERS.search(entry.name)), key=order)
