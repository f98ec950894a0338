"""Tables: on the terminal, in Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows with one text per column."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables. Text in the first column may be wrapped; the other columns are numbers, which are not."""
    console = console or Console()
    for table in tables:
        drawn = rich.table.Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        drawn.title, drawn.title_justify = escape(table.title), "left"
        for k, head in enumerate(table.header):
            width = max((len(part) for row in table.rows for part in row[k].split("\n")), default=1)
            justify: Literal["left", "right"] = "right" if k else "left"
            drawn.add_column(escape(head), justify=justify, min_width=width if k else min(width, 16), overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(escape, row))
        console.print(drawn)


def markdown(title: str, tables: Sequence[Table]) -> str:
    """Return the tables as one Markdown document."""
    text = [f"# {title}"]
    for table in tables:
        dashes = ["---"] + ["---:"] * (len(table.header) - 1)
        text += ["", f"## {table.title}", "", *map(line, (table.header, dashes, *table.rows))]
    return "\n".join(text) + "\n"


def line(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
