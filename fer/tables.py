"""Tables: on the terminal, in Markdown and as CSV."""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import rich.table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows with one text per column."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def terminal() -> Console:
    """Return a console for standard output, with 200 columns where that is a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else 200)


def show(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print tables. One that is too wide is printed in parts, each with the first column, so that no number is cut."""
    console = console or terminal()
    for table in tables:
        title, rest = table.title, list(range(1, len(table.header)))
        while True:
            columns = fitting(table, rest, console)
            console.print(_drawn(table, columns, title, console.width))
            rest = rest[len(columns) :]
            if not rest:
                break
            title = f"{table.title}, continued"


def fitting(table: Table, columns: Sequence[int], console: Console) -> list[int]:
    """Return the given columns up to the last one that fits beside the table's first column; at least one."""
    unlimited = console.options.update(width=10_000)
    for count in range(len(columns), 1, -1):
        drawn = _drawn(table, columns[:count], table.title, console.width)
        drawn.columns[0].max_width = console.width // 2
        if console.measure(drawn, options=unlimited).minimum <= console.width:
            return list(columns[:count])
    return list(columns[:1])


def _drawn(table: Table, columns: Sequence[int], title: str, width: int) -> rich.table.Table:
    """Return the first column and the given ones. The first one is wrapped only where it exceeds half of `width`."""
    drawn = rich.table.Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.title, drawn.title_justify = escape(title), "left"
    for k in (0, *columns):
        longest = max((cell_len(part) for row in table.rows for part in row[k].split("\n")), default=1)
        justify: Literal["left", "right"] = "right" if k else "left"
        least = longest if k else min(longest, width // 2)
        drawn.add_column(escape(table.header[k]), justify=justify, min_width=least, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(escape(row[k]) for k in (0, *columns)))
    return drawn


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
