"""Figures, tables, pictures and files about predictions, above all at the end of a run."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer import metrics, plots, tables
from fer.data.base import Split, duplicates
from fer.evaluate import gradcam
from fer.evaluate.predict import Predictions, network_of, predictions_of
from fer.files import write_file
from fer.metrics import METRICS, fit_temperature
from fer.models.classifier import EmotionClassifier
from fer.tables import Table

log = logging.getLogger(__name__)

# Key → value. All values are from 0 to 1, except losses, temperature, counts and costs.
Figures = dict[str, float]

# Rows of tables after those of the registered metrics: title → template that figures fill.
_ROWS = {
    "95 % interval": "{accuracy_low:.2%} – {accuracy_high:.2%}",
    "accuracy, as answered": "{accuracy_as_answered:.2%}",
    "macro recall, as answered": "{recall_macro_as_answered:.2%}",
    "accuracy without duplicates": "{accuracy_without_duplicates:.2%}",
    "temperature": "{temperature:.3f}",
    "temperature, flip": "{temperature_flip:.3f}",
    "parameters": "{parameters:,.0f}",
}


def figures_of(predictions: Predictions, classes: Sequence[str]) -> Figures:
    """Compute all registered metrics with their variants, and `support/<class>`, the number of images of a class."""
    calibrated, raw, flip = (
        metrics.compute(probabilities, predictions.labels, classes)
        for probabilities in (predictions.calibrated, predictions.raw, predictions.flip)
    )
    figures = dict(calibrated)
    for name, metric in METRICS.items():
        if metric.flip:
            figures[f"{name}_flip"] = flip[name]
        if metric.before:
            figures |= {metric.before: raw[name], metric.after or name: calibrated[name]}
    counts = np.bincount(predictions.labels, minlength=len(classes))
    return figures | {f"support/{label}": float(n) for label, n in zip(classes, counts, strict=True)}


def judge(
    model: EmotionClassifier, splits: dict[str, Split], folder: Path, test: bool, by_votes: bool = False
) -> Figures:
    """Evaluate a classifier at the end of its run.

    The temperature is fitted on val and used for all splits. The pictures and `mistakes.csv` are of the last split.

    Args:
        model: In eval mode.
        splits: With "train", "val" and, for `test`, "test".
        folder: Where to write.
        test: Also evaluate the test split.
        by_votes: Temperature, pictures and mistakes are by the majority of the votes, where the splits have it, instead
            of by the labels.

    Returns:
        `<split>/<key>` for the keys of `figures_of`, also for `val_votes` and `test_votes` if there is a majority,
        `val/temperature`, `val/temperature_flip` for the mean with mirror images, and
        `test/accuracy_without_duplicates`, which leaves out images that are also in train.
    """
    result: Figures = {}
    for name in ("val", "test") if test else ("val",):
        split = splits[name]
        sets = {name: (predictions_of(network_of(model), split), split)}
        if split.majority is not None and (agreed := split.majority >= 0).any():
            sets[f"{name}_votes"] = sets[name][0].only(agreed, split.majority), split.by_majority()
        drawn = f"{name}_votes" if by_votes and f"{name}_votes" in sets else name
        if name == "val":
            fitted = sets[drawn][0]
            result["val/temperature"] = fit_temperature(fitted.logits, fitted.labels)
            result["val/temperature_flip"] = fit_temperature(fitted.logits, fitted.labels, fitted.mirrored)
        for place, (predictions, judged) in sets.items():
            sets[place] = replace(predictions, temperature=result["val/temperature"]), judged
            result |= {f"{place}/{key}": value for key, value in figures_of(sets[place][0], split.classes).items()}
        if name == "test" and (alone := ~duplicates(split, [splits["train"]])).any():
            result["test/accuracy_without_duplicates"] = float(sets["test"][0].correct[alone].mean())
    predictions, split = sets[drawn]
    draw(predictions, split, f"{drawn}: {len(split)} images", folder)
    write_file(folder / "mistakes.csv", mistakes(predictions, split))
    try:
        gradcam.draw(model, splits["val"], result["val/temperature"], folder / "gradcam.png")
    except Exception as error:  # backbones vary, and a missing picture must not end a run
        log.warning("no gradcam.png: %s", " ".join(f"{str(error) or type(error).__name__}".split()))
    return result


def draw(predictions: Predictions, split: Split, title: str, folder: Path) -> None:
    """Write `confusion_matrix.png`, `reliability.png` and `mistakes.png` into `folder`."""
    probabilities, labels, classes = predictions.calibrated, predictions.labels, split.classes
    title = f"{title}, accuracy {predictions.correct.mean():.1%}"
    matrix = metrics.confusion(probabilities.argmax(1), labels, len(classes))
    plots.confusion_matrix(matrix, classes, title, folder / "confusion_matrix.png")
    plots.reliability(probabilities, labels, metrics.ece(probabilities, labels), title, folder / "reliability.png")
    plots.mistakes(split.images, labels, probabilities, classes, title, folder / "mistakes.png")


def mistakes(predictions: Predictions, split: Split) -> str:
    """Return a CSV of the wrongly classified images, the worst first.

    The columns are the row in the split, the file if there is one, the true and the predicted class, and the
    probability of each class.
    """
    names, classes, rows = split.names or [""] * len(split), split.classes, []
    for row in metrics.worst(predictions.calibrated, split.labels):
        shares = predictions.calibrated[row]
        predicted = classes[shares.argmax()]
        rows.append([row, names[row], classes[split.labels[row]], predicted, *(f"{share:.4f}" for share in shares)])
    return tables.csv_text(["row", "file", "true", "predicted", *classes], rows)


def write_metrics(values: Mapping[str, Any], path: Path) -> None:
    """Write metrics as JSON, sorted by key."""
    write_file(path, json.dumps(dict(sorted(values.items())), indent=2) + "\n")


def show(result: Figures, exported: Path) -> None:
    """Print the metrics of a run as tables, and the path of its artifact."""
    splits: dict[str, Figures] = {}
    for key, value in result.items():
        split, _, name = key.partition("/")
        if split in ("val", "val_votes", "test", "test_votes"):
            splits.setdefault(split, {})[name] = value
    tables.show(metric_tables(exported.parent.name, splits))
    speed, warm_up = result["train/images_per_second"], result["train/warm_up_seconds"]
    first = f" after a warm-up of {warm_up:.0f} s" if warm_up >= 1 else ""
    print(f"{result['train/minutes']:.1f} minutes, {speed:.0f} images/s{first}")
    print(exported)


def metric_tables(title: str, columns: dict[str, Figures]) -> list[Table]:
    """Return a table with a column for each model or split, then for each of them a table of the metrics by class."""
    rows = {name: f"{{{key}:{metric.format}}}" for key, (name, metric) in metrics.columns().items()}
    result = [table_of(title, columns, rows | _ROWS)]
    by_class = [metric for metric in METRICS.values() if metric.per_class]
    for name, figures in columns.items():
        body = []
        for label in [key.removeprefix("support/") for key in figures if key.startswith("support/")]:
            values = [metric.text(figures[f"{metric.name}/{label}"]) for metric in by_class]
            body.append([label, *values, f"{figures[f'support/{label}']:.0f}"])
        result.append(Table(f"Classes of {name}", ["class", *(metric.title for metric in by_class), "images"], body))
    return result


def table_of(title: str, columns: dict[str, Figures], rows: Mapping[str, str]) -> Table:
    """Return a table with a row for each template that the figures of at least one column can fill."""

    def cell(template: str, figures: Figures) -> str:
        try:
            return template.format_map(figures)
        except KeyError:
            return ""

    body = [[name, *(cell(template, figures) for figures in columns.values())] for name, template in rows.items()]
    return Table(title, ["", *columns], [row for row in body if any(row[1:])])
