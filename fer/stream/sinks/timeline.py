"""The emotions of each face over time, as a picture."""

import io
from pathlib import Path

from fer.errors import SinkError
from fer.labels import colour
from fer.stream.sinks.base import Sink, write_whole
from fer.stream.sinks.history import History, clock
from fer.stream.types import Array, FrameResult

TIMELINE_ENDINGS = (".png", ".svg", ".pdf")

_PANELS = 8
"""Tracks that are drawn; the rest is said in words."""

_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
"""Seconds between two marks of the time axis."""


class Timeline(Sink):
    """Draws the smoothed probabilities of each track at the end of the run, after Ctrl-C too.

    path: a .png, .svg or .pdf. classes: the K names. Raises `SinkError` where it cannot be written.
    """

    stage = "timeline"

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        self.path = path
        self._history = History(classes)

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        self._history.add(result)

    def close(self, whole: bool) -> None:
        if whole:
            self._history.finish()
            write_whole(self.path, drawn(self._history, self.path.suffix.lower().removeprefix(".")))


def drawn(history: History, kind: str = "png") -> bytes:
    """The timeline as a file of `kind`: png, svg or pdf.

    One panel for each track, areas stacked to 1 in the colours of the classes, empty where the face is away. Raises
    `SinkError` where matplotlib cannot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    tracks: list[int | None] = [*history.longest(_PANELS)] or [None]
    rows = len(tracks)
    figure = Figure(figsize=(11, 1.5 + 1.15 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    start, end = history.start or 0.0, max(history.end, (history.start or 0.0) + history.width)
    for axes, identity in zip(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0], tracks, strict=True):
        axes.set(xlim=(start, end), ylim=(0, 1), yticks=[], facecolor="0.95")
        axes.spines[["top", "right", "left"]].set_visible(False)
        if identity is None:
            axes.text(0.5, 0.5, "no face was followed", transform=axes.transAxes, ha="center", va="center", color="0.4")
            continue
        for edges, means in history.runs(identity):
            upper = means.cumsum(axis=1)
            for k, name in enumerate(history.classes):
                low = upper[:, k] - means[:, k]
                axes.stairs(upper[:, k], edges, baseline=low, fill=True, color=hex_colour(name), linewidth=0)
        total = history.tracks[identity].total
        axes.set_ylabel(f"face {identity}\n{clock(total)}", rotation=0, ha="right", va="center")
    axes.xaxis.set_major_locator(MultipleLocator(tick(end - start)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel(" · ".join(filter(None, ["time", history.rest(_PANELS)])))
    figure.suptitle("Emotions of each face, and how long it was in sight", x=0.01, ha="left", fontsize=11)
    patches = [Patch(color=hex_colour(name), label=name) for name in history.classes]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(7, len(patches)), frameon=False)
    data = io.BytesIO()
    try:
        figure.savefig(data, format=kind, dpi=120)
    except (OSError, ValueError) as error:
        raise SinkError(f"the timeline cannot be drawn: {error}; give timeline=<file>.png") from None
    return data.getvalue()


def hex_colour(name: str) -> str:
    """The colour in which a class is drawn, as matplotlib and CSS take it: "#f0b429"."""
    return "#{:02x}{:02x}{:02x}".format(*colour(name))


def tick(length: float) -> float:
    """Seconds between two marks of a time axis that is so many seconds long."""
    return next((t for t in _TICKS if length / t <= 12), _TICKS[-1] * (1 + length // (12 * _TICKS[-1])))
