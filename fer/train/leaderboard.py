"""Configurations side by side, best first: a table on the terminal, `leaderboard.csv` and `leaderboard.md`."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from fer import metrics, tables
from fer.config import name_of
from fer.errors import DataError
from fer.files import without_folders, write_file
from fer.tables import Table

# Column of the CSV → metric and, for the other tables, heading, divisor and format.
COSTS = {
    "parameters": ("model/parameters", "params", 1e6, "{:.2f}M"),
    "macs": ("model/macs", "MACs", 1e6, "{:.1f}M"),
    "images_per_second": ("train/images_per_second", "img/s", 1, "{:.0f}"),
    "minutes": ("train/minutes", "min", 1, "{:.1f}"),
}


@dataclass
class Row:
    """One configuration.

    Attributes:
        overrides: The overrides that make it different from the others.
        metrics: For each seed that finished, the contents of its metrics.json.
        note: A remark, such as why there are no metrics.
    """

    overrides: Sequence[str]
    metrics: list[dict[str, float]] = field(default_factory=list)
    note: str = ""

    def values(self, key: str) -> list[float]:
        """Return the metric of each seed that has it, without NaN and numbers too large to average."""
        return [metrics[key] for metrics in self.metrics if abs(metrics.get(key, math.nan)) < 1e100]

    def mean(self, key: str) -> float | None:
        """Return the mean over the seeds, or None if no seed has the metric."""
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def sd(self, key: str) -> float | None:
        """Return the sample standard deviation over the seeds, or None for fewer than two seeds."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None


def read_metrics(path: Path) -> dict[str, float]:
    """Read the metrics.json of a run. Raises `DataError` if the file is not a JSON object of numbers."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or not all(isinstance(value, int | float) for value in values.values()):
            raise ValueError("not numbers by name")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path} holds no metrics ({why}); delete it, and resume=auto makes it again") from None
    return values


def varying(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return, for each job, the overrides that not all jobs share; for a single job, all of them."""
    shared = set(jobs[0]).intersection(*jobs) if len(jobs) > 1 else set()
    return [[override for override in job if override not in shared] for job in jobs]


def write(
    rows: Sequence[Row], folder: Path, title: str, console: Console | None = None, monitor: str = "val/accuracy"
) -> None:
    """Print the table and write `leaderboard.md` and, last, `leaderboard.csv` into `folder`.

    The best mean of `monitor` comes first, equal means are sorted by name, and failures come last. If it is by the
    votes, all tables are, and the CSV has the figures by the labels as well.
    """
    rows = sorted(rows, key=lambda row: _rank(row, monitor))
    place = "val_votes" if monitor.startswith("val_votes/") else "val"
    scores = [name for name, _ in metrics.columns().values()]
    head = ["configuration", "seeds", *scores, *(cost[1] for cost in COSTS.values())]
    body, notes = [_cells(row, place) for row in rows], [without_folders(row.note) for row in rows]
    _show(Table(title, head, body), rows, notes, console or tables.terminal())
    noted = Table(title, [*head, "note"], [[*cells, note] for cells, note in zip(body, notes, strict=True)])
    write_file(folder / "leaderboard.md", tables.markdown(f"On {place}, mean ± standard deviation over seeds", [noted]))

    keys = [f"{name}/{key}" for name in dict.fromkeys(("val", place)) for key in metrics.columns()]
    header = ["configuration", "seeds", *(f"{key}{end}" for key in keys for end in ("", "_sd")), *COSTS, "note"]
    lines = []
    for row, cells, note in zip(rows, body, notes, strict=True):
        values = [value for key in keys for value in (row.mean(key), row.sd(key))]
        values += [row.mean(cost[0]) for cost in COSTS.values()]
        lines.append([*cells[:2], *("" if value is None else f"{value:.10g}" for value in values), note])
    write_file(folder / "leaderboard.csv", tables.csv_text(header, lines))


def _show(table: Table, rows: Sequence[Row], notes: Sequence[str], console: Console) -> None:
    """Print the columns that fit, then the names of the others, and what no column has room for."""
    names = _first_column(rows, console.width // 2)
    shown = Table(table.title, table.header, [[name, *row[1:]] for name, row in zip(names, table.rows, strict=True)])
    scores = range(3, len(table.header) - len(COSTS))
    filled = [k for k in range(1, len(table.header)) if any(row[k] for row in table.rows)]
    # The accuracy matters most, the other scores least.
    chosen = tables.fitting(shown, sorted(filled, key=lambda k: (k in scores, k != 2)), console)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    header, *body = ([row[k] for k in (0, *sorted(chosen))] for row in (shown.header, *shown.rows))
    tables.show([Table(table.title, header, body)], console)
    if left_out := [table.header[k] for k in filled if k not in chosen]:
        console.print(f"left out: {'; '.join(left_out)} (see leaderboard.csv)", **plain)
    for name, row, note in zip(names, table.rows, notes, strict=True):
        if name.isdecimal() and name != row[0]:
            console.print(f"{name}: {row[0]}", **plain)
        if note:
            console.print(f"{row[0]}: {note}", **plain)


def _first_column(rows: Sequence[Row], width: int) -> list[str]:
    """Return names of the rows with lines of at most `width`: on one line, one override a line, or only numbers."""
    overrides = [[name_of([override]) for override in row.overrides] for row in rows]
    for separator in (" ", "\n"):
        names = [separator.join(job) for job in overrides]
        if all(cell_len(line) <= width for name in names for line in name.split("\n")):
            return names
    return [str(number) for number in range(1, len(rows) + 1)]


def _rank(row: Row, monitor: str) -> tuple[bool, bool, float, str]:
    mean, sign = row.mean(monitor), 1 if metrics.mode_of(monitor) == "min" else -1
    return not row.metrics, mean is None, sign * (mean or 0.0), name_of(row.overrides)


def _cells(row: Row, place: str) -> list[str]:
    cells = [name_of(row.overrides), str(len(row.metrics))]
    for key, (_, metric) in metrics.columns().items():
        mean, sd = row.mean(f"{place}/{key}"), row.sd(f"{place}/{key}")
        cells.append("" if mean is None else metric.text(mean) + ("" if sd is None else f" ±{metric.text(sd)}"))
    for key, _, unit, template in COSTS.values():
        mean = row.mean(key)
        cells.append("" if mean is None else template.format(mean / unit))
    if not row.metrics:
        cells[2] = "failed"
    return cells
