import io

import pytest
from rich.console import Console

from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.summary import _table


@pytest.mark.parametrize("width", [40, 60, 80])
def test_names_of_classes_are_whole_in_a_narrow_terminal(width: int) -> None:
    names = ("sehr verärgert", "愤怒的脸", "x" * 50)
    context = Context(FakeSource(3), names)
    context.stats.start()
    context.stats.emotions.update(names)
    context.stats.faces = 3
    context.stats.stop()
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(_table(context, "█"))
    shown = out.getvalue()
    assert "…" not in shown and shown.count("x") == 50
    assert all(word in shown for word in ("sehr", "verärgert", "愤怒的脸"))
