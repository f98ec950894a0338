"""Tables of text: on the terminal, in Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import rich.table
from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows with one text for each."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(tables: Sequence[Table]) -> None:
    """Print tables; the first column is text, the others are figures."""
    console = Console()
    for table in tables:
        drawn = rich.table.Table(title=escape(table.title), title_justify="left")
        for k, cell in enumerate(table.header):
            drawn.add_column(escape(cell), justify="left" if k == 0 else "right")
        for row in table.rows:
            drawn.add_row(*map(escape, row))
        console.print(drawn)


def markdown(title: str, tables: Sequence[Table]) -> str:
    """The tables as one Markdown document."""
    text = [f"# {title}"]
    for table in tables:
        dashes = ["---"] + ["---:"] * (len(table.header) - 1)
        text += ["", f"## {table.title}", "", *map(line, (table.header, dashes, *table.rows))]
    return "\n".join(text) + "\n"


def line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
