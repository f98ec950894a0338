"""Terminal output of a run: a progress bar, then a table."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fer.labels import colours, order
from fer.stream.sinks import Context
from fer.stream.stats import Stats

_BAR = 24
_MOST_WARNINGS = 5


@contextmanager
def summarised(context: Context, short: bool = False) -> Iterator[Callable[[], object]]:
    """Show a progress bar, then warnings and, unless the run fails, a table. Call what it yields after each frame.

    short: Print one line instead of the table, as for one film of several.
    """
    console, source = Console(stderr=True), context.source
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = not console.is_terminal or source.kind == "image"
    try:
        try:
            with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
                task = bar.add_task(source.name, total=source.total)
                yield lambda: bar.advance(task)
        finally:
            warn(source.notes)
    except KeyboardInterrupt:
        _finish(context, short)
        raise
    _finish(context, short)


def _finish(context: Context, short: bool) -> None:
    stats, paths = context.stats, [path for path in context.paths.values() if path.exists()]
    if not short:
        show_table(context.source.name, context.model, stats, context.classes, paths)
        return
    shares = [f"{name} {stats.emotions[name] / stats.faces:.0%}" for name in order(list(stats.emotions))]
    skipped = f", {stats.skipped} not searched" if stats.skipped else ""
    counts = f"{context.source.name}: {stats.frames} frames, {stats.frames_with_faces} with faces{skipped}"
    wrote = f"; wrote {', '.join(map(str, paths))}" if paths else ""
    print(f"{', '.join([counts, *shares])}; model {context.model}{wrote}", flush=True)


def warn(notes: list[str]) -> None:
    """Print the first notes to standard error, and how many more there are."""
    more = [f"and {len(notes) - _MOST_WARNINGS} more like these"] if len(notes) > _MOST_WARNINGS else []
    for note in [*notes[:_MOST_WARNINGS], *more]:
        print(f"warning: {' '.join(note.split())}", file=sys.stderr)


def show_table(source: str, model: str, stats: Stats, classes: tuple[str, ...], paths: Iterable[Path]) -> None:
    """Print counts, emotions and times of a run from `source` by `model`, and the paths that it wrote."""
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)
    console.print(_table(source, model, stats, classes, paths, "#" if console.options.ascii_only else "█"))


def _table(source: str, model: str, stats: Stats, classes: tuple[str, ...], paths: Iterable[Path], full: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    table.add_row("source", escape(source))
    table.add_row("model", escape(model))
    unreadable = f", {stats.unreadable} unreadable" if stats.unreadable else ""
    skipped = f", {stats.skipped} not searched as nothing moved" if stats.skipped else ""
    table.add_row("frames", f"{stats.frames}, {stats.frames_with_faces} with faces{unreadable}{skipped}")
    unconfirmed = f", {stats.unconfirmed} more found in one search only" if stats.unconfirmed else ""
    table.add_row("faces", f"{stats.faces}{unconfirmed}")
    tints = colours(classes)
    for name in order(list(stats.emotions)):
        share = stats.emotions[name] / stats.faces
        bar = f"[rgb({','.join(map(str, tints[name]))})]{full * max(1, round(share * _BAR)):<{_BAR}}[/]"
        table.add_row(escape(name), f"{bar} {share:6.1%}  {stats.emotions[name]}")
    table.add_row("speed", f"{stats.fps:.1f} frames/s over {stats.seconds:.1f} s")
    for i, (name, times) in enumerate(stats.stages().items()):
        p50, p95, p99 = times.values()
        table.add_row("ms" if not i else "", f"{name:<10} p50 {p50:7.2f}   p95 {p95:7.2f}   p99 {p99:7.2f}")
    for i, path in enumerate(paths):
        table.add_row("wrote" if not i else "", escape(str(path)))
    return table
