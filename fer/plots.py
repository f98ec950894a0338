"""The pictures of a report. They take arrays and names, and are drawn by matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer.labels import colour
from fer.metrics import worst

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

Cell = tuple[np.ndarray, str] | tuple[np.ndarray, str, tuple[float, ...]]
"""An image, uint8 (H, W) or (H, W, 3), its caption and, if given, the RGB colour of the caption, 0 to 1."""


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw counts (K, K), rows true and columns predicted: the share of each row, and the count below it."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(5.0, 0.85 * len(classes))
    figure = _figure(side + 1.2, side)
    axes = figure.add_subplot()
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true class")
    for (row, column), share in np.ndenumerate(shares):
        text, ink = f"{share:.0%}\n{matrix[row, column]}", "white" if share > 0.55 else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.savefig(path, dpi=120)


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, error: float, title: str, path: Path, bins: int = 10
) -> None:
    """Draw accuracy by confidence (Guo et al. 2017, fig. 1), and how many images have each confidence.

    Args:
        probabilities: Float (N, K).
        labels: Int (N,).
        error: The ECE, for the legend.
        title, path: Of the picture.
        bins: Equal parts of the confidence.
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    accuracy = np.bincount(index, correct, minlength=bins) / np.maximum(count, 1)
    figure = _figure(5.5, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres, width = (np.arange(bins) + 0.5) / bins, 0.94 / bins
    above.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="perfectly calibrated")
    above.bar(centres, accuracy, width, color="#4285de", label=f"model, ECE {error:.3f}")
    above.set(ylabel="accuracy", ylim=(0, 1), title=title)
    above.legend(loc="upper left")
    below.bar(centres, count, width, color="0.6")
    below.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    figure.savefig(path, dpi=120)


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
    path: Path,
    most: int = 32,
) -> None:
    """Draw the wrongly classified images, lowest probability of the true class first.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3).
        labels: Int (N,).
        probabilities: Float (N, K).
        classes: The K names.
        title, path: Of the picture.
        most: How many images to draw.
    """
    cells: list[Cell] = []
    for row in worst(probabilities, labels)[:most]:
        predicted = classes[probabilities[row].argmax()]
        caption = f"{predicted} {probabilities[row].max():.0%}\nnot {classes[labels[row]]}"
        cells.append((images[row], caption, tuple(np.array(colour(predicted)) / 255 * 0.75)))
    if cells:
        sheet([("", cells)], f"{title}, the worst mistakes", path)
    else:
        sheet([], f"{title}, no mistake", path)


def sheet(parts: Sequence[tuple[str, Sequence[Cell]]], title: str, path: Path, columns: int = 8) -> None:
    """Draw images with their captions, under a heading for each part."""
    heights = [-(-len(cells) // columns) for _, cells in parts]
    figure = _figure(1.6 * columns, 2.1 * sum(heights) + 0.35 * len(parts) + 0.6)
    figure.suptitle(title)
    if not parts:
        figure.text(0.5, 0.4, "nothing to show", ha="center")
    frames = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0] if parts else ()
    for frame, rows, (heading, cells) in zip(frames, heights, parts, strict=True):
        frame.suptitle(heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
        for index, axes in enumerate(frame.subplots(rows, columns, squeeze=False).ravel()):
            axes.axis("off")
            if index < len(cells):
                image, caption, *ink = cells[index]
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
                axes.set_title(caption, fontsize=7, color=ink[0] if ink else "black")
    figure.savefig(path, dpi=110, format="png")


def robustness(models: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw, for each corruption, the accuracy of each model without it and at each strength."""
    names = list(next(iter(models.values())))
    rows = -(-len(names) // 3)
    figure = _figure(10, 3.2 * rows + 0.6)
    axes = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        for model, curves in models.items():
            axis.plot(curves[name], marker="o", label=model)
            axis.set(title=name, ylim=(0, 1), xticks=range(len(curves[name])))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy")
    figure.supxlabel("strength, 0: none")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)


def curves(rows: list[dict[str, float]], title: str, path: Path) -> None:
    """Draw losses, validation accuracy and learning rate by epoch.

    Args:
        rows: One for each epoch: `epoch` from 1 and, where there are any, `train/loss`, `val/loss`, `val/accuracy`
            and `lr`.
        title, path: Of the picture.
    """
    figure = _figure(11, 3.4)
    figure.suptitle(title)
    panels = {"loss": ("train/loss", "val/loss"), "accuracy": ("val/accuracy",), "learning rate": ("lr",)}
    for axes, (name, keys) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for key in keys:
            if points := [(row["epoch"], row[key]) for row in rows if key in row]:
                axes.plot(*np.array(points).T, marker="o" if len(points) < 30 else None, label=key)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend()
    best = max((row for row in rows if "val/accuracy" in row), key=lambda row: row["val/accuracy"], default=None)
    if best:
        figure.axes[1].plot(best["epoch"], best["val/accuracy"], "*", color="#d64541", markersize=12)
        figure.axes[1].set_title(f"accuracy, best {best['val/accuracy']:.1%} in epoch {best['epoch']:.0f}")
    figure.savefig(path, dpi=120)
