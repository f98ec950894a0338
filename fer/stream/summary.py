"""What a person sees of a run: a progress bar while it lasts, a table at its end."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fer.labels import colour, order
from fer.stream.outputs import Outputs
from fer.stream.sinks.base import write_whole
from fer.stream.sources import Source
from fer.stream.stats import Stats

_BAR = 24
_MOST_WARNINGS = 5


@contextmanager
def progress(source: Source) -> Iterator[Callable[[], None]]:
    """A bar on standard error, to be advanced once a frame; nothing where that is no terminal or there is one
    frame."""
    console = Console(stderr=True)
    if not console.is_terminal or source.kind == "image":
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(source.name, total=source.total, speed="")

        def advance() -> None:
            bar.advance(task)
            speed = bar.tasks[0].speed
            if speed:
                bar.update(task, speed=f"{speed:.1f} frames/s")

        yield advance


def finish(outputs: Outputs, stats: Stats) -> None:
    """Write the statistics, tell the losses and print the table. Raises `SinkError`."""
    if outputs.stats:
        write_whole(outputs.stats, (json.dumps(stats.as_dict(), indent=2) + "\n").encode())
    _warn(outputs.source.notes)
    _summarise(outputs.source, stats, [path for path in outputs.paths() if path.exists()])


def _warn(notes: Sequence[str]) -> None:
    for note in notes[:_MOST_WARNINGS]:
        print(f"warning: {' '.join(note.split())}", file=sys.stderr)
    if len(notes) > _MOST_WARNINGS:
        print(f"warning: and {len(notes) - _MOST_WARNINGS} more like these", file=sys.stderr)


def _summarise(source: Source, stats: Stats, written: Sequence[Path]) -> None:
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else 200)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("source", escape(source.name))
    unreadable = f", {stats.unreadable} unreadable" if stats.unreadable else ""
    table.add_row("frames", f"{stats.frames}, {stats.frames_with_faces} with faces{unreadable}")
    table.add_row("faces", str(stats.faces))
    full = "#" if console.options.ascii_only else "█"
    for name in order(list(stats.emotions)):
        share = stats.emotions[name] / stats.faces
        bar = f"[rgb({','.join(map(str, colour(name)))})]{full * max(1, round(share * _BAR)):<{_BAR}}[/]"
        table.add_row(escape(name), f"{bar} {share:6.1%}  {stats.emotions[name]}")
    table.add_row("speed", f"{stats.fps:.1f} frames/s over {stats.seconds:.1f} s")
    for i, (name, times) in enumerate(stats.stages().items()):
        p50, p95, p99 = times.values()
        table.add_row("ms" if not i else "", f"{name:<10} p50 {p50:7.2f}   p95 {p95:7.2f}   p99 {p99:7.2f}")
    for i, path in enumerate(written):
        table.add_row("wrote" if not i else "", escape(str(path)))
    if terminal:
        console.print(table)
        return
    with console.capture() as plain:
        console.print(table)
    print("\n".join(line.rstrip() for line in plain.get().splitlines()))
