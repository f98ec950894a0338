"""Tables of text: on the terminal, in Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
        text += ["", f"## {table.title}", "", *map(_line, (table.header, dashes, *table.rows))]
    return "\n".join(text) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all. Raises `OSError`."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
