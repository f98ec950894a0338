"""Configurations side by side, best first: a table on the terminal, `leaderboard.csv` and `leaderboard.md`."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer import tables
from fer.config import name_of
from fer.errors import DataError
from fer.files import json_object, read, without_folders, write_file

KEY = "val/accuracy"
SCORES = (KEY, "val/accuracy_flip", "val/f1_macro", "val/ece")
COSTS = {
    "parameters": "model/parameters",
    "macs": "model/macs",
    "images_per_second": "train/images_per_second",
    "minutes": "train/minutes",
}
"""Column, and the metric that it shows."""


@dataclass
class Row:
    """One configuration. metrics: one flat dict per seed, as in metrics.json. note: such as why there are none."""

    overrides: Sequence[str]
    metrics: list[dict[str, float]] = field(default_factory=list)
    note: str = ""

    def values(self, name: str) -> list[float]:
        """Of the seeds; what is no number, or one that cannot be reckoned with, is left out."""
        return [metrics[name] for metrics in self.metrics if abs(metrics.get(name, math.nan)) < 1e100]

    def mean(self, name: str) -> float | None:
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def sd(self, name: str) -> float | None:
        """The standard deviation over seeds, with n - 1; None for fewer than two."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else None


def read_metrics(path: Path) -> dict[str, float]:
    """What a run came to, from its metrics.json. Raises `DataError` where the file does not hold that any more."""
    try:
        found = json_object(read(path))
    except (OSError, ValueError) as error:
        raise _no_metrics(path, str(getattr(error, "strerror", None) or error)) from None
    for name, value in found.items():
        if not isinstance(value, float) and not (isinstance(value, int) and abs(value) < 2**63):
            raise _no_metrics(path, f"{name[:80]} is no number")
    return found


def _no_metrics(path: Path, why: str) -> DataError:
    return DataError(f"{path} holds no metrics of a run ({why}); delete it, and resume=auto judges that run again")


def varying(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of each job that not all of them share; all of them where that leaves nothing to tell."""
    shared = set(jobs[0]).intersection(*jobs) if len(jobs) > 1 else set()
    return [[override for override in job if override not in shared] for job in jobs]


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Best first; equal ones by name, so that the order does not hang on which job ended first; failures last."""

    def place(row: Row) -> tuple[bool, float, str]:
        mean = row.mean(KEY)
        return mean is None, -(mean or 0.0), name_of(row.overrides)

    return sorted(rows, key=place)


def write(rows: Sequence[Row], folder: Path, title: str, console: Console | None = None) -> None:
    """Print the table and write `leaderboard.md` and `leaderboard.csv` into `folder`, the latter last and whole.

    Scores are 0 to 1, mean and standard deviation over seeds.
    """
    rows = ranked(rows)
    _show(rows, title, console or Console())
    head = ["configuration", "seeds", *SCORES, *COSTS, *(["note"] if any(row.note for row in rows) else [])]
    cells = [_cells(row)[: len(head)] for row in rows]
    lines = [f"# {title}", "", "Mean ± standard deviation over seeds, best first on val.", ""]
    lines += map(tables.line, (head, ["---"] * len(head), *cells))
    write_file(folder / "leaderboard.md", "\n".join([*lines, ""]))

    header = ["configuration", "seeds", *(f"{name}{end}" for name in SCORES for end in ("", "_sd")), *COSTS, "note"]
    values = []
    for row in rows:
        scores = [value for name in SCORES for value in (row.mean(name), row.sd(name))]
        costs = [row.mean(name) for name in COSTS.values()]
        numbers = ["" if value is None else f"{value:.6g}" for value in scores]
        numbers += ["" if value is None else f"{value:.10g}" for value in costs]
        values.append([name_of(row.overrides), len(row.metrics), *numbers, without_folders(row.note)])
    write_file(folder / "leaderboard.csv", tables.csv_text(header, values))


def _show(rows: Sequence[Row], title: str, console: Console) -> None:
    wide = console.width >= 150
    caption = "on val, mean ± standard deviation over seeds"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=escape(title), caption=caption)
    table.add_column("configuration", min_width=16, overflow="fold")
    for head in ("n", "acc", "flip", "F1", "ECE", "params", "MACs", "img/s", "min"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        name, *cells, _ = _cells(row)
        if not wide:  # over two lines, or the columns would not fit
            name, cells = name.replace(" ", "\n"), [cell.replace(" ± 0.", "\n±.") for cell in cells]
        table.add_row(escape(name), *cells, style=None if row.metrics else "red")
    console.print(table)
    for row in rows:
        if row.note:
            line = f"{name_of(row.overrides)}: {without_folders(row.note)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row) -> list[str]:
    scores = []
    for name in SCORES:
        mean, sd = row.mean(name), row.sd(name)
        scores.append("" if mean is None else f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}")
    parameters, macs, speed, minutes = (row.mean(name) for name in COSTS.values())
    costs = [
        "" if parameters is None else f"{parameters / 1e6:.2f}M",
        "" if macs is None else f"{macs / 1e6:.1f}M",
        "" if speed is None else f"{speed:.0f}",
        "" if minutes is None else f"{minutes:.1f}",
    ]
    if not row.metrics:
        scores[0] = "failed"
    return [name_of(row.overrides), str(len(row.metrics)), *scores, *costs, without_folders(row.note)]
