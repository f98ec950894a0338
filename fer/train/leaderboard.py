"""Configurations side by side, best first: a table on the terminal, `leaderboard.csv` and `leaderboard.md`."""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer import metrics, tables
from fer.config import name_of
from fer.errors import DataError
from fer.files import json_object, read, without_folders, write_file

KEY = "val/accuracy"
"""The metric that configurations are ranked by."""
COSTS = {
    "parameters": ("model/parameters", "params", 1e-6, ".2f", "M"),
    "macs": ("model/macs", "MACs", 1e-6, ".1f", "M"),
    "images_per_second": ("train/images_per_second", "img/s", 1.0, ".0f", ""),
    "minutes": ("train/minutes", "min", 1.0, ".1f", ""),
}
"""By column of the CSV: the metric and, for the other tables, its heading, factor, format and unit."""


@dataclass
class Row:
    """One configuration.

    Attributes:
        overrides: What sets it apart from the others.
        metrics: For each seed that finished, the contents of its metrics.json.
        note: Such as why there are no metrics.
    """

    overrides: Sequence[str]
    metrics: list[dict[str, float]] = field(default_factory=list)
    note: str = ""

    def values(self, key: str) -> list[float]:
        """The metric of each seed that has it, without NaN and numbers too large to average."""
        return [metrics[key] for metrics in self.metrics if abs(metrics.get(key, math.nan)) < 1e100]

    def mean(self, key: str) -> float | None:
        """The mean over the seeds; None where none has the metric."""
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def sd(self, key: str) -> float | None:
        """The standard deviation over the seeds, with n - 1; None for fewer than two."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None


def read_metrics(path: Path) -> dict[str, float]:
    """Read the metrics.json of a run. Raises `DataError` where the file does not hold numbers by name."""
    try:
        values = json_object(read(path))
        for name, value in values.items():
            if not isinstance(value, float) and not (isinstance(value, int) and abs(value) < 2**63):
                raise ValueError(f"{name[:80]} is no number")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path} holds no metrics ({why}); delete it, and resume=auto makes it again") from None
    return values


def varying(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of each job that not all jobs share; all of them for a single job."""
    shared = set(jobs[0]).intersection(*jobs) if len(jobs) > 1 else set()
    return [[override for override in job if override not in shared] for job in jobs]


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows with the best mean first, equal ones by name, and failures last."""
    means = {id(row): row.mean(KEY) for row in rows}
    return sorted(rows, key=lambda row: (means[id(row)] is None, -(means[id(row)] or 0.0), name_of(row.overrides)))


def write(rows: Sequence[Row], folder: Path, title: str, console: Console | None = None) -> None:
    """Print the table and write `leaderboard.md` and, last, `leaderboard.csv` into `folder`."""
    rows, scores = ranked(rows), metrics.columns()
    _show(rows, title, console or Console())
    titles = [name for name, _ in scores.values()] + [cost[1] for cost in COSTS.values()]
    head = ["configuration", "seeds", *titles, "note"]
    body = [[name_of(row.overrides), str(len(row.metrics)), *_cells(row), without_folders(row.note)] for row in rows]
    text = tables.markdown("Mean ± standard deviation over seeds, best first on val", [tables.Table(title, head, body)])
    write_file(folder / "leaderboard.md", text)

    keys = [f"val/{key}" for key in scores]
    header = ["configuration", "seeds", *(f"{key}{end}" for key in keys for end in ("", "_sd")), *COSTS, "note"]
    body = []
    for row in rows:
        values = [value for key in keys for value in (row.mean(key), row.sd(key))]
        values += [row.mean(cost[0]) for cost in COSTS.values()]
        numbers = ["" if value is None else f"{value:.10g}" for value in values]
        body.append([name_of(row.overrides), str(len(row.metrics)), *numbers, without_folders(row.note)])
    write_file(folder / "leaderboard.csv", tables.csv_text(header, body))


def _show(rows: Sequence[Row], title: str, console: Console) -> None:
    scores, costs = [name for name, _ in metrics.columns().values()], [cost[1] for cost in COSTS.values()]
    wide = console.width >= 150
    shown = min(len(scores), max(1, (console.width - 48) // (16 if wide else 8)))  # the others are in the files
    caption = "on val, mean ± standard deviation over seeds"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=escape(title), caption=caption)
    table.add_column("configuration", min_width=16, overflow="fold")
    for head in ("n", *scores[:shown], *costs):
        words = head.split() if wide else [word if len(word) <= 6 else f"{word[:3]}." for word in head.split()]
        table.add_column("\n".join(words), justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        texts = [name_of(row.overrides), str(len(row.metrics)), *cells[:shown], *cells[len(scores) :]]
        if not wide:  # over two lines, or the columns would not fit
            texts = [re.sub(r" ±(?:0(?=\.))?([\d.]+)%?", r"\n±\1", text).replace(" ", "\n") for text in texts]
        table.add_row(*map(escape, texts), style=None if row.metrics else "red")
    console.print(table)
    for row in rows:
        if row.note:
            note = f"{name_of(row.overrides)}: {without_folders(row.note)}"
            console.print(note, markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row) -> list[str]:
    """The texts of all scores and costs."""
    cells = []
    for key, (_, metric) in metrics.columns().items():
        mean, sd = row.mean(f"val/{key}"), row.sd(f"val/{key}")
        cells.append("" if mean is None else metric.text(mean) + ("" if sd is None else f" ±{metric.text(sd)}"))
    for key, _, factor, format, unit in COSTS.values():
        mean = row.mean(key)
        cells.append("" if mean is None else f"{mean * factor:{format}}{unit}")
    if not row.metrics:
        cells[0] = "failed"
    return cells
