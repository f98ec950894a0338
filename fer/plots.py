"""Pictures of a report, drawn from arrays and names by matplotlib, which needs no screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fer import fonts
from fer.labels import colours
from fer.metrics import mode_of, worst

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# An image, uint8 (H, W) or (H, W, 3), its caption and, if given, the colour of the caption as matplotlib takes it.
Cell = tuple[Any, ...]


def _figure(width: float, height: float, title: str | None = None) -> Figure:
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def save(figure: Figure, target: Path | BinaryIO, **options: Any) -> None:
    """Save a figure, with fonts that have the characters of its texts. `options` are those of `savefig`."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    fonts.fit("\n".join(text.get_text() for text in texts))  # one warning for all
    for text in texts:
        drawn, families = fonts.fit(text.get_text())
        text.set(text=drawn, fontfamily=families, parse_math=False)
    figure.savefig(target, **options)


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw counts (K, K), rows true and columns predicted: the share of each row, and the count below it."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    texts = [
        [f"{share:.0%}\n{count}" for share, count in zip(*row, strict=True)] for row in zip(shares, matrix, strict=True)
    ]
    side = max(5.0, 0.85 * len(classes))
    figure = _figure(side + 1.2, side)
    axes = _heat_map(figure, title, shares, texts, (classes, classes), "share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    save(figure, path, dpi=120)


def matrix(
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Draw values (R, C), 0 to 1, as colours, with a text in each cell, and the names of rows and columns."""
    longest = max(map(len, rows))
    figure = _figure(2.5 + 0.08 * longest + 1.5 * len(columns), 1.9 + 0.8 * len(rows))
    axes = _heat_map(figure, title, values, texts, (rows, columns), "accuracy")
    axes.set_aspect("auto")
    save(figure, path, dpi=120)


def _heat_map(
    figure: Figure,
    title: str,
    shares: np.ndarray,
    texts: Sequence[Sequence[str]],
    names: tuple[Sequence[str], Sequence[str]],
    label: str,
) -> Axes:
    """Draw shares (R, C) with a text in each cell, and the names of rows and of columns."""
    axes = figure.add_subplot(title=title)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label=label)
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.55 else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=ink, fontsize=8)
    fonts.fit("\n".join((title, *names[0], *names[1])))  # one warning for all
    rows, columns = ([fonts.fit(name)[0] for name in each] for each in names)  # matplotlib sets texts of ticks anew
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    return axes


def reliability(probabilities: np.ndarray, labels: np.ndarray, ece: float, title: str, path: Path) -> None:
    """Draw accuracy by confidence (Guo et al. 2017, fig. 1), and how many images have each confidence.

    Args:
        probabilities: Float (N, K).
        labels: Int (N,).
        ece: The expected calibration error, for the legend.
        title, path: Of the picture.
    """
    bins, confidence = 10, probabilities.max(1)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    accuracy = np.bincount(index, probabilities.argmax(1) == labels, bins) / np.maximum(count, 1)
    figure = _figure(5.5, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres, width = (np.arange(bins) + 0.5) / bins, 0.94 / bins
    above.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="perfectly calibrated")
    above.bar(centres, accuracy, width, color="#4285de", label=f"model, ECE {ece:.3f}")
    above.set(ylabel="accuracy", ylim=(0, 1), title=title)
    above.legend(loc="upper left")
    below.bar(centres, count, width, color="0.6")
    below.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    save(figure, path, dpi=120)


def mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], title: str, path: Path
) -> None:
    """Draw up to 32 wrongly classified images, lowest probability of the true class first.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3).
        labels: Int (N,).
        probabilities: Float (N, K).
        classes: The K names.
        title, path: Of the picture.
    """
    cells: list[Cell] = []
    tints = colours(classes)
    for row in worst(probabilities, labels)[:32]:
        predicted = classes[probabilities[row].argmax()]
        caption = f"{predicted} {probabilities[row].max():.0%}\nnot {classes[labels[row]]}"
        cells.append((images[row], caption, tuple(np.array(tints[predicted]) / 255 * 0.75)))
    sheet([("", cells)] if cells else [], f"{title}, {'the worst mistakes' if cells else 'no mistake'}", path)


def sheet(parts: Sequence[tuple[str, Sequence[Cell]]], title: str, path: Path) -> None:
    """Draw images with their captions, eight in a row, under a heading for each part."""
    heights = [-(-len(cells) // 8) for _, cells in parts]
    figure = _figure(12.8, 2.1 * sum(heights) + 0.35 * len(parts) + 0.6, title)
    frames = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0] if parts else ()
    for frame, rows, (heading, cells) in zip(frames, heights, parts, strict=True):
        frame.suptitle(heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
        all_axes = frame.subplots(rows, 8, squeeze=False).ravel()
        for axes in all_axes:
            axes.axis("off")
        for axes, (image, caption, *ink) in zip(all_axes, cells, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set_title(caption, fontsize=7, color=(*ink, "black")[0])
    save(figure, path, dpi=110, format="png")


def curves(rows: list[dict[str, float]], title: str, path: Path, monitor: str = "val/accuracy") -> None:
    """Draw losses, validation accuracy and learning rate by epoch, and mark the best epoch.

    Args:
        rows: One for each epoch: `epoch` from 1 and, if known, `lr`, losses, accuracies and `monitor`.
        title, path: Of the picture.
        monitor: The figure that chooses the best epoch.
    """
    figure = _figure(11, 3.4, title)
    best_of = min if mode_of(monitor) == "min" else max
    names = list(dict.fromkeys(key for row in rows for key in row if "/" in key))
    losses = [key for key in names if key.endswith("/loss")]
    panels = {"loss": losses, "accuracy": [key for key in names if key not in losses], "learning rate": ["lr"]}
    for axes, (heading, keys) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.set_title(heading)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for key in keys:
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            axes.plot(*np.reshape(points, (-1, 2)).T, marker="o" if len(points) < 30 else None, label=key)
            if key == monitor:
                epoch, best = best_of(points, key=lambda point: point[1])
                axes.plot(epoch, best, "*", color="#d64541", markersize=12)
                axes.set_title(f"{heading}, best {best:{'.3f' if key in losses else '.1%'}} in epoch {epoch:.0f}")
        if keys:
            axes.legend()
    figure.supxlabel("epoch")
    save(figure, path, dpi=120)
