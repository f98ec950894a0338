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
