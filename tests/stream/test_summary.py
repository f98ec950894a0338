import io

import pytest
from rich.console import Console

from fer.stream.stats import Stats
from fer.stream.summary import _table


@pytest.mark.parametrize("width", [40, 60, 80])
def test_names_of_classes_are_whole_in_a_narrow_terminal(width: int) -> None:
    names = ("sehr verärgert", "愤怒的脸", "x" * 50)
    stats = Stats()
    stats.start()
    stats.emotions.update(names)
    stats.faces, stats.unconfirmed = 3, 2
    stats.stop()
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(_table("fake", "fast.ts", stats, names, (), "█"))
    shown = out.getvalue()
    assert "…" not in shown and shown.count("x") == 50
    assert "2 more found in one search only" in " ".join(shown.split())
    assert all(word in shown for word in ("sehr", "verärgert", "愤怒的脸"))
