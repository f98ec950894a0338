import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from fer.tables import Table, csv_text, markdown, show

TABLE = Table("Accuracy", ["model", "val"], [["a|b", "1"], ["[red]c", "22"]])


def test_markdown_keeps_its_columns():
    assert markdown("Report", [TABLE]) == (
        "# Report\n\n## Accuracy\n\n| model | val |\n| --- | ---: |\n| a\\|b | 1 |\n| [red]c | 22 |\n"
    )


def test_show_prints_names_as_they_are(capsys):
    show([TABLE])
    printed = capsys.readouterr().out
    assert "Accuracy" in printed
    assert "[red]c" in printed


def test_csv_quotes():
    assert csv_text(["a", "b"], [["x,y", 0.5]]) == 'a,b\n"x,y",0.5\n'


FIVE = [*["72.50%"] * 4, "1234567"]
WIDE = {
    "models": Table(
        "Test", ["", *(f"runs/model_{k}.ts" for k in range(6))], [["accuracy", *["72.50% (71.0–73.9%)"] * 6]]
    ),
    "classes": Table(
        "Classes",
        ["class", "precision", "recall", "F1", "AUC", "images"],
        [["x" * 90, *FIVE], ["愤怒的脸 " * 9, *FIVE]],
    ),
    "pairs": Table("McNemar", ["first against second", "only the first right", "p"], [["a against b", "1001", "0.05"]]),
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("table", WIDE.values(), ids=WIDE)
def test_no_number_is_cut_or_lost_at_any_width(table: Table, width: int):
    out = io.StringIO()
    show([table], Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    for cell in {cell for row in table.rows for cell in row[1:]}:
        wanted = sum(list(row[1:]).count(cell) for row in table.rows)
        assert sum(line.count(cell) for line in lines) == wanted


def test_a_pipe_gets_whole_tables(capsys):
    show([WIDE["models"]])
    assert capsys.readouterr().out.count("accuracy") == 1
