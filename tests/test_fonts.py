"""Names in any script, on a machine without fonts and with one that is a stand-in."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from fer import fonts
from fer.stream.draw.text import letters

pytestmark = pytest.mark.usefixtures("bundled_fonts")

SCRIPTS = {
    "Latin": "Ärger",
    "Vietnamese": "tức giận",
    "Greek": "θυμός",
    "Cyrillic": "гнев",
    "Hebrew": "חרדה",
    "Arabic": "غاضب جدا",
    "Chinese": "愤怒",
    "Japanese": "怒り",
    "Korean": "분노",
    "Hindi": "क्रोध",
    "Thai": "โกรธ",
    "emoji": "👩‍🚀🎉",
}
BUNDLED = ("Latin", "Vietnamese", "Greek", "Cyrillic", "Hebrew", "Arabic")


def squares(path: Path, name: str, characters: str) -> str:
    """Make a font in which all these characters are squares."""
    pen = TTGlyphPen(None)
    for move, point in zip((pen.moveTo, *[pen.lineTo] * 3), ((100, 0), (100, 800), (900, 800), (900, 0)), strict=True):
        move(point)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(c): "square" for c in characters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 100)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_any_font_a_name_is_drawn_as_it_is_or_in_latin_letters(script, caplog):
    name = SCRIPTS[script]
    drawn, families = fonts.fit(f"2 {name} 88 %")
    assert families == ["DejaVu Sans"]
    assert (name[0] in drawn) == (script in BUNDLED)
    assert len(caplog.records) == (script not in BUNDLED)
    assert letters(f"2 {name} 88 %", 18).any()


def test_one_warning_names_what_is_missing_and_the_fix(caplog):
    assert fonts.fit(" ".join(["愤怒", "怒り", "क्रोध", "😀"]))[0] == "FenNu Nuri krodh 😀"
    for name in ("愤怒", "怒り", "क्रोध"):
        fonts.fit(name)
    (message,) = caplog.messages
    assert all(c in message for c in "愤怒りक") and "😀" not in message and "\n" not in message
    assert "apt-get install fonts-noto-core fonts-noto-cjk" in message
    fonts.fit("🎉")
    assert "🎉" in caplog.messages[1] and "愤" not in caplog.messages[1]


def test_a_font_that_was_installed_later_is_found(tmp_path, monkeypatch, caplog):
    paths = [squares(tmp_path / "a.ttf", "Some Hanzi", "愤怒"), str(tmp_path / "broken.ttf")]
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    assert fonts.fit("2 愤怒 Ä") == ("2 愤怒 Ä", ["DejaVu Sans", "Some Hanzi"])
    assert not caplog.records
    solid = letters("愤", 40)
    assert (solid > 250).sum() > 500, "the square"


def test_a_deleted_font_is_passed_over(tmp_path, monkeypatch):
    path = squares(tmp_path / "a.ttf", "Noto Sans A", "愤怒")
    font_manager.fontManager.addfont(path)
    Path(path).unlink()
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [squares(tmp_path / "b.ttf", "B", "愤怒")])
    assert fonts.fit("愤怒")[1] == ["DejaVu Sans", "B"]


@pytest.mark.parametrize("name", [".LastResort", "Last Resort High-Efficiency", "Some Color Emoji"])
def test_fonts_without_letters_are_no_choice(name, tmp_path, monkeypatch):
    path = squares(tmp_path / "a.ttf", name, "愤怒🎉")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [path])
    assert fonts.fit("愤怒🎉") == ("FenNu:tada:", ["DejaVu Sans"])
    fonts.fit.cache_clear()
    fonts._search.cache_clear()  # the second time it is in matplotlib's list
    assert fonts.fit("愤怒🎉")[1] == ["DejaVu Sans"]


def test_chinese_characters_are_taken_from_the_font_of_their_region(tmp_path, monkeypatch):
    paths = [squares(tmp_path / f"{k}.ttf", f"Noto Sans CJK {k}", "愤怒り") for k in ("JP", "KR", "SC")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    assert fonts.fit("愤怒")[1] == ["DejaVu Sans", "Noto Sans CJK SC"]
    assert fonts.fit("怒り")[1] == ["DejaVu Sans", "Noto Sans CJK JP"]


def test_arabic_letters_are_joined():
    assert letters("بببب", 40).shape[1] < 0.8 * 4 * letters("ب", 40).shape[1]


@pytest.mark.parametrize("name", ["غاضب", "غاضب جدا", "חרדה", "غاضب (جدا)"])
def test_the_number_stays_behind_a_name_that_is_read_from_right_to_left(name):
    width = letters("88 %", 24).shape[1] // 2
    ends = [letters(text, 24)[:, -width:] for text in (f"2 {name} 88 %", "é 88 %")]
    label, end = (part[part.any(axis=1)].astype(int) for part in ends)
    assert np.abs(label - end).mean() < 3


def test_a_name_of_several_words_is_read_from_right_to_left_as_a_whole():
    words = ("غاضب", "سعيد")
    first, second = (letters(word, 24).shape[1] for word in words)
    assert abs(first - second) > 5
    for between in (" ", " 2 ", "_", " ("):
        whole = letters(between.join(words), 24)
        assert np.array_equal(trimmed(whole[:, -first + 4 :]), trimmed(letters(words[0], 24)[:, 4:])), between


def trimmed(image: np.ndarray) -> np.ndarray:
    return image[image.any(axis=1)]


def test_higher_letters_share_the_base_line():
    plain = letters("é", 20)
    stacked = letters("Ế", 20)
    assert len(plain) == len(letters("e", 20)) <= len(stacked)
    rows = [int(np.flatnonzero(image.any(axis=1))[-1]) - len(image) for image in (plain, stacked, letters("e", 20))]
    assert max(rows) - min(rows) <= 1


def test_ascii_needs_no_search():
    program = "import sys; from fer.stream.draw.text import label; label('2 happy 88 %', (1, 2, 3), 12); " + (
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
