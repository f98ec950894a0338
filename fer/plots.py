"""The pictures of a report, drawn by matplotlib without a screen."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fer.data.base import Split
from fer.labels import colour
from fer.metrics import worst


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def confusion_matrix(matrix: np.ndarray, classes: tuple[str, ...], title: str, path: Path) -> None:
    """Draw counts (K, K), rows true and columns predicted: shares of each row, with the counts beneath."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(5.0, 0.85 * len(classes))
    figure = _figure(side + 1.2, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.55 else "black"
        text = f"{share:.0%}\n{matrix[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=45, ha="right")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.savefig(path, dpi=120)


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, error: float, title: str, path: Path, bins: int = 10
) -> None:
    """Draw accuracy against confidence (Guo et al. 2017, fig. 1) of probabilities (N, K), and how many images
    have each confidence."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    count = np.bincount(where, minlength=bins)
    accuracy = np.bincount(where, correct, minlength=bins) / np.maximum(count, 1)
    figure = _figure(5.5, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres, width = (edges[:-1] + edges[1:]) / 2, 0.94 / bins
    above.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="perfectly calibrated")
    above.bar(centres, accuracy, width, color="#4285de", label=f"model, ECE {error:.3f}")
    above.set(ylabel="accuracy", ylim=(0, 1), title=title)
    above.legend(loc="upper left")
    below.bar(centres, count, width, color="0.6")
    below.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    figure.savefig(path, dpi=120)


def mistakes(split: Split, probabilities: np.ndarray, title: str, path: Path, most: int = 32) -> None:
    """Draw the images whose true class got the lowest probability among the wrongly answered ones."""
    predicted = probabilities.argmax(1)
    wrong = worst(probabilities, split.labels)[:most]
    columns = 8
    rows = max(1, -(-len(wrong) // columns))
    figure = _figure(1.5 * columns, 2.0 * rows + 0.6)
    figure.suptitle(f"{title}, the worst mistakes" if len(wrong) else f"{title}, no mistake")
    for place, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).ravel()):
        axes.axis("off")
        if place < len(wrong):
            row = wrong[place]
            true, said = split.classes[split.labels[row]], split.classes[predicted[row]]
            axes.imshow(split.images[row], cmap="gray", vmin=0, vmax=255)
            tint = np.array(colour(said)) / 255 * 0.75
            axes.set_title(f"{said} {probabilities[row].max():.0%}\nnot {true}", fontsize=8, color=tint)
    figure.savefig(path, dpi=110)


def sheet(parts: list[tuple[str, list[tuple[np.ndarray, str]]]], title: str, path: Path, columns: int = 8) -> None:
    """Draw images, uint8 (H, W) or (H, W, 3), each with a few lines of text, under a heading for each part."""
    heights = [-(-len(cells) // columns) for _, cells in parts]
    figure = _figure(1.6 * columns, 2.1 * sum(heights) + 0.35 * len(parts) + 0.6)
    figure.suptitle(title)
    if not parts:
        figure.text(0.5, 0.4, "nothing found", ha="center")
        figure.savefig(path, dpi=110, format="png")
        return
    frames = np.atleast_1d(np.array(figure.subfigures(len(parts), 1, height_ratios=heights), dtype=object))
    for frame, rows, (heading, cells) in zip(frames, heights, parts, strict=True):
        frame.suptitle(heading, x=0.01, ha="left", fontsize=10, fontweight="bold")
        for place, axes in enumerate(frame.subplots(rows, columns, squeeze=False).ravel()):
            axes.axis("off")
            if place < len(cells):
                axes.imshow(cells[place][0], cmap="gray", vmin=0, vmax=255)
                axes.set_title(cells[place][1], fontsize=7)
    figure.savefig(path, dpi=110, format="png")


def robustness(models: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw, for each corruption, the accuracy of each model without it and at each strength."""
    names = list(next(iter(models.values())))
    figure = _figure(10, 3.2 * -(-len(names) // 3) + 0.6)
    axes = figure.subplots(-(-len(names) // 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        for model, curves in models.items():
            axis.plot(curves[name], marker="o", label=model)
        axis.set(title=name, ylim=(0, 1), xticks=range(len(next(iter(models.values()))[name])))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy")
    figure.supxlabel("strength, 0: none")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)


def curves(rows: list[dict[str, float]], title: str, path: Path) -> None:
    """Draw losses, validation accuracy and learning rate by epoch; `rows` as in `fer.curves.Curves`."""
    figure = _figure(11, 3.4)
    figure.suptitle(title)
    panels = {"loss": ("train/loss", "val/loss"), "accuracy": ("val/accuracy",), "learning rate": ("lr",)}
    for axes, (name, keys) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for key in keys:
            having = [row for row in rows if key in row]
            epochs, values = [row["epoch"] for row in having], [row[key] for row in having]
            axes.plot(epochs, values, marker="o" if len(having) < 30 else None, label=key)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(keys) > 1:
            axes.legend()
    best = max((row for row in rows if "val/accuracy" in row), key=lambda row: row["val/accuracy"], default=None)
    if best:
        figure.axes[1].plot(best["epoch"], best["val/accuracy"], "*", color="#d64541", markersize=12)
        figure.axes[1].set_title(f"accuracy, best {best['val/accuracy']:.1%} in epoch {best['epoch']:.0f}")
    figure.savefig(path, dpi=120)
