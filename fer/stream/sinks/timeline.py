"""The emotions of each face over time, drawn as a picture."""

import io
from collections.abc import Sequence

from fer.labels import colours
from fer.plots import save
from fer.stream.sinks.history import History, clock

_PANELS = 8
"""Most tracks that are drawn; a sentence counts the others."""

_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
"""Possible distances between two marks of the time axis, in seconds."""


def draw_timeline(history: History, ending: str = ".png") -> bytes:
    """Draw one panel per track: areas in the colours of the classes, stacked to 1, with gaps where the face is away.

    Args:
        history: The history to draw.
        ending: The format, ".png", ".svg" or ".pdf".
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    tracks: list[int | None] = [*history.longest(_PANELS)] or [None]
    rows = len(tracks)
    figure = Figure(figsize=(11, 1.5 + 1.15 * rows), layout="constrained")
    start, end = history.span
    tints = hex_colours(history.classes)
    for axes, identity in zip(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0], tracks, strict=True):
        axes.set(xlim=(start, end), ylim=(0, 1), yticks=[], facecolor="0.95")
        axes.spines[["top", "right", "left"]].set_visible(False)
        if identity is None:
            axes.text(0.5, 0.5, "no face was followed", transform=axes.transAxes, ha="center", va="center", color="0.4")
            continue
        for name, polygon in history.areas(identity):
            axes.fill(*polygon.T, color=tints[name], linewidth=0)
        total = history.tracks[identity].total
        axes.set_ylabel(f"face {identity}\n{clock(total)}", rotation=0, ha="right", va="center")
    axes.xaxis.set_major_locator(MultipleLocator(tick(end - start)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel(" · ".join(filter(None, ["time", history.rest(_PANELS)])))
    figure.suptitle("Emotions of each face, and how long it was in sight", x=0.01, ha="left", fontsize=11)
    columns = max(1, min(7, 120 // (6 + max(map(len, history.classes)))))
    patches = [Patch(color=tints[name], label=name) for name in history.classes]
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)
    data = io.BytesIO()
    save(figure, data, format=ending.lower().removeprefix("."), dpi=120)
    return data.getvalue()


def hex_colours(classes: Sequence[str]) -> dict[str, str]:
    """Return the colour of each class in hexadecimal, such as "#f0b429"."""
    return {name: "#{:02x}{:02x}{:02x}".format(*tint) for name, tint in colours(classes).items()}


def tick(length: float) -> float:
    """Return the distance in seconds between two marks of a time axis of `length` seconds."""
    return next((t for t in _TICKS if length / t <= 12), _TICKS[-1] * (1 + length // (12 * _TICKS[-1])))
