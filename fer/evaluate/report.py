"""Figures, tables, pictures and files about predictions: at the end of a run, and of models side by side."""

import itertools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer import metrics, plots, tables
from fer.data.base import Split, duplicates
from fer.evaluate import gradcam, robustness
from fer.evaluate.predict import Predictions, logits, network_of
from fer.files import write_file
from fer.metrics import METRICS, fit_temperature
from fer.models.classifier import EmotionClassifier
from fer.tables import Table

log = logging.getLogger(__name__)

Figures = dict[str, float]
"""Flat, by key. All lie in 0 to 1 but losses, temperature, counts and costs."""

_ROWS = {
    "95 % interval": "{accuracy_low:.2%} – {accuracy_high:.2%}",
    "accuracy without duplicates": "{accuracy_without_duplicates:.2%}",
    "temperature": "{temperature:.3f}",
    "parameters": "{parameters:,.0f}",
}
"""What tables show beside the registered metrics: a title, and a template over figures."""


def figures_of(predictions: Predictions, classes: Sequence[str]) -> Figures:
    """All registered metrics of predictions with their variants, and `support/<class>`, how many images there are."""
    calibrated, raw, flip = (
        metrics.compute(probabilities, predictions.labels, classes)
        for probabilities in (predictions.calibrated, predictions.raw, predictions.flip)
    )
    support = np.bincount(predictions.labels, minlength=len(classes))
    found = calibrated | {f"support/{label}": float(count) for label, count in zip(classes, support, strict=True)}
    for name, metric in METRICS.items():
        if metric.flip:
            found[f"{name}_flip"] = flip[name]
        if metric.before:
            found |= {metric.before: raw[name], metric.after: calibrated[name]}
    return found


def judge(model: EmotionClassifier, splits: dict[str, Split], folder: Path, test: bool) -> Figures:
    """Evaluate a classifier at the end of its run.

    The temperature is fitted on val and used for both splits. The pictures and `mistakes.csv` are of the last split.

    Args:
        model: In eval mode.
        splits: With "train", "val" and "test".
        folder: Where to write.
        test: Evaluate the test split as well.

    Returns:
        `<split>/<key>` for the keys of `figures_of`, `val/temperature`, and `test/accuracy_without_duplicates`: without
        the images that are in train as well.
    """
    result: Figures = {}
    for name in ("val", "test") if test else ("val",):
        split, network = splits[name], network_of(model)
        plain, mirrored = logits(network, split.images), logits(network, split.images, flip=True)
        if name == "val":
            result["val/temperature"] = fit_temperature(plain, split.labels)
        predictions = Predictions(plain, mirrored, split.labels, result["val/temperature"])
        figures = figures_of(predictions, split.classes)
        if name == "test" and (alone := ~duplicates(split, [splits["train"]])).any():
            figures["accuracy_without_duplicates"] = float(predictions.correct[alone].mean())
        result |= {f"{name}/{key}": value for key, value in figures.items()}
    draw(predictions, split, f"{name}: {len(split)} images", folder)
    write_file(folder / "mistakes.csv", mistakes(predictions, split))
    try:
        gradcam.draw(model, splits["val"], result["val/temperature"], folder / "gradcam.png")
    except Exception as error:  # a picture is not worth losing a training, and backbones are of many kinds
        log.warning("no gradcam.png: %s", " ".join(f"{error or type(error).__name__}".split()))
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
    """CSV of the images that are classified wrongly, the worst first.

    A row has the image's row in the split, its file where it has one, the true and the predicted class, and the
    probability of each class.
    """
    probabilities = predictions.calibrated
    rows = [
        [
            int(row),
            "" if split.names is None else split.names[row],
            split.classes[split.labels[row]],
            split.classes[probabilities[row].argmax()],
            *(round(float(value), 4) for value in probabilities[row]),
        ]
        for row in metrics.worst(probabilities, split.labels)
    ]
    return tables.csv_text(["row", "file", "true", "predicted", *split.classes], rows)


def write_metrics(values: Mapping[str, Any], path: Path) -> None:
    """Write metrics as JSON, sorted by key."""
    write_file(path, json.dumps(dict(sorted(values.items())), indent=2) + "\n")


def show(result: Figures, exported: Path) -> None:
    """Print the metrics of a run as tables, and the path of its artifact."""
    splits = {
        name: {key.split("/", 1)[1]: value for key, value in result.items() if key.startswith(f"{name}/")}
        for name in ("val", "test")
    }
    splits = {name: figures for name, figures in splits.items() if figures}
    by_class = [_class_table(f"Classes on {name}", figures) for name, figures in splits.items()]
    tables.show([_table(exported.parent.name, splits), *by_class])
    print(f"{result['train/minutes']:.1f} minutes, {result['train/images_per_second']:.0f} images/s")
    print(exported)


def compare(
    predictions: dict[str, Predictions], extra: dict[str, Figures], split: Split, about: dict[str, Any]
) -> dict[str, Any]:
    """Put models side by side on the same images.

    Args:
        predictions: By name of the model.
        extra: More figures of each model.
        split: The images.
        about: What else the result should hold.

    Returns:
        `about`, `models` (figures by name) and `mcnemar`: for each pair, how many images only `first` and only
        `second` gets right, and p.
    """
    models, pairs = {}, []
    for name, answers in predictions.items():
        low, high = metrics.interval(answers.correct)
        figures = figures_of(answers, split.classes) | {"accuracy_low": low, "accuracy_high": high}
        figures["temperature"] = answers.temperature
        models[name] = figures | extra[name]
    for (first, one), (second, other) in itertools.combinations(predictions.items(), 2):
        only_first, only_second, p = metrics.mcnemar(one.correct, other.correct)
        pairs.append({"first": first, "second": second, "only_first": only_first, "only_second": only_second, "p": p})
    return about | {"models": models, "mcnemar": pairs}


def write(result: dict[str, Any], predictions: dict[str, Predictions], split: Split, out: Path) -> None:
    """Write the files and pictures of a comparison into the folder `out`, and print its tables. Raises `OSError`."""
    models: dict[str, Figures] = result["models"]
    for number, (name, answers) in enumerate(predictions.items(), 1):
        folder = out if len(predictions) == 1 else out / (f"{number}_" + re.sub(r"[^-.\w]", "_", name)[:80])
        folder.mkdir(exist_ok=True)
        draw(answers, split, f"{name}, {result['split']}", folder)
    if any(key.startswith("robustness/") for figures in models.values() for key in figures):
        curves = {name: robustness.curves(figures) for name, figures in models.items()}
        plots.robustness(curves, out / "robustness.png")
    keys = list(next(iter(models.values())))
    rows = [[name, *(figures[key] for key in keys)] for name, figures in models.items()]
    write_file(out / "models.csv", tables.csv_text(["model", *keys], rows))
    write_file(out / "metrics.json", json.dumps(result, indent=2) + "\n")
    shown = _comparison(result)
    write_file(out / "report.md", tables.markdown("Evaluation", shown))
    tables.show(shown)
    print(out)


def _comparison(result: dict[str, Any]) -> list[Table]:
    models: dict[str, Figures] = result["models"]
    images = f"{result['images']} images" + (" without a duplicate" if result["without_duplicates"] else "")
    shown = [_table(f"{result['data']}, {result['split']}: {images}", models)]
    shown += [_class_table(f"Classes of {name}", figures) for name, figures in models.items()]
    corrupted = [key for key in next(iter(models.values())) if key.startswith("robustness/")]
    if corrupted:
        rows = [
            [" ".join(key.split("/")[1:]).replace("_", " "), *(f"{figures[key]:.2%}" for figures in models.values())]
            for key in corrupted
        ]
        shown.append(Table("Accuracy under corruptions", ["", *models], rows))
    if result["mcnemar"]:
        rows = [
            [f"{p['first']} against {p['second']}", str(p["only_first"]), str(p["only_second"]), f"{p['p']:.3g}"]
            for p in result["mcnemar"]
        ]
        header = ["pair", "only the first right", "only the second right", "p"]
        shown.append(Table("McNemar's exact test", header, rows))
    return shown


def _table(title: str, columns: dict[str, Figures]) -> Table:
    """All figures that are one number, with a column for each model or split."""
    templates = {name: f"{{{key}:{metric.format}}}" for key, (name, metric) in metrics.columns().items()} | _ROWS
    rows = [[name, *(_filled(text, figures) for figures in columns.values())] for name, text in templates.items()]
    return Table(title, ["", *columns], [row for row in rows if any(row[1:])])


def _filled(template: str, figures: Figures) -> str:
    try:
        return template.format_map(figures)
    except KeyError:
        return ""


def _class_table(title: str, figures: Figures) -> Table:
    """The metrics by class, with a row for each class."""
    by_class = [metric for metric in METRICS.values() if metric.per_class]
    start = f"{by_class[0].name}/"
    rows = []
    for label in [key.removeprefix(start) for key in figures if key.startswith(start)]:
        values = [metric.text(figures[f"{metric.name}/{label}"]) for metric in by_class]
        rows.append([label, *values, f"{figures[f'support/{label}']:.0f}"])
    header = ["class", *(metric.title for metric in by_class), "images"]
    return Table(title, header, rows)
