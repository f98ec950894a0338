"""Models side by side: on one set, and on several as a matrix of models × sets, in CSV, Markdown and a picture."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer import metrics, plots, tables
from fer.data.base import Split
from fer.evaluate.predict import Predictions
from fer.evaluate.report import Figures, draw, figures_of, metric_tables, table_of
from fer.files import write_file
from fer.metrics import METRICS
from fer.tables import Table

# Name of a set → name of a model → its figures.
Sets = Mapping[str, Mapping[str, Figures]]

_MATRICES = {"accuracy": "Accuracy", "recall_macro": "Macro recall"}
"""The figures of which the report has a matrix, and their titles."""


def compare(
    predictions: dict[str, dict[str, Predictions]],
    extra: dict[str, Figures],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Compare models on the same images.

    Args:
        predictions: Name of the set, the split first → name of the model → its predictions.
        extra: Name of the model → further figures for the split.
        classes: Name of the set → the K names.

    Returns:
        `models` (name → figures for the split), `sets` (name of each further set → name of the model → figures), and
        `mcnemar` (for each set and pair, the number of images that only `first` and only `second` classifies correctly,
        and p).
    """
    figures: dict[str, dict[str, Figures]] = {}
    pairs = []
    for place, models in predictions.items():
        figures[place] = {}
        for name, own in models.items():
            low, high = metrics.interval(own.correct)
            further = {"accuracy_low": low, "accuracy_high": high, "temperature": own.temperature}
            further |= {"images": len(own.labels)} | _as_answered(own)
            figures[place][name] = figures_of(own, classes[place]) | further
        for (first, one), (second, other) in itertools.combinations(models.items(), 2):
            only_first, only_second, p = metrics.mcnemar(one.correct, other.correct)
            counts = {"only_first": only_first, "only_second": only_second, "p": p}
            pairs.append({"set": place, "first": first, "second": second} | counts)
    first, *others = figures
    of_first = {name: values | extra[name] for name, values in figures[first].items()}
    return {"models": of_first, "sets": {place: figures[place] for place in others}, "mcnemar": pairs}


def _as_answered(predictions: Predictions) -> Figures:
    """Return the figures with answers outside the shared classes as wrong ones, for a model that knows others."""
    answers, labels = predictions.answers, predictions.labels
    if answers is None:
        return {}
    recalls = [float((answers[labels == label] == label).mean()) for label in np.unique(labels)]
    return {
        "accuracy_as_answered": float((answers == labels).mean()),
        "recall_macro_as_answered": float(np.mean(recalls)),
    }


def write(
    result: dict[str, Any], predictions: dict[str, dict[str, Predictions]], sets: dict[str, Split], out: Path
) -> None:
    """Write the files and pictures of a comparison into the folder `out`, and print its tables.

    Args:
        result: As from `compare`, with `data`, `split`, `images` and `without_duplicates`.
        predictions: As in `compare`.
        sets: What was predicted.
        out: Folder; created if it does not exist.

    Raises:
        OSError: It cannot be written.
    """
    models: dict[str, Figures] = result["models"]
    first, *others = sets
    for number, name in enumerate(models, 1):
        folder = out if len(models) == 1 else out / _file_name(f"{number}_{name}")
        for place, split in sets.items():
            inner = folder if place == first else folder / _file_name(place)
            inner.mkdir(parents=True, exist_ok=True)
            draw(predictions[place][name], split, f"{name}, {place}", inner)
    details = _details(result, sets)
    shown = [_tests(result["mcnemar"])] if result["mcnemar"] else []
    if others:
        all_sets = {first: models} | result["sets"]
        shown = [side_by_side(all_sets), matrix(all_sets, "accuracy"), *shown]
        details.insert(0, matrix(all_sets, "recall_macro"))
        _write_matrix(all_sets, result.get("note"), out)
    heading = f"Evaluation\n\n{result['note']}" if "note" in result else "Evaluation"
    write_file(out / "report.md", tables.markdown(heading, [*shown, *details] if others else [*details, *shown]))
    write_file(out / "metrics.json", json.dumps(result, indent=2) + "\n")
    tables.show(shown if others else [*details, *shown])
    print(out)


def _details(result: Mapping[str, Any], sets: Mapping[str, Split]) -> list[Table]:
    """Return the tables of each set: all metrics, those by class and, of the first set, those under corruptions."""
    models: dict[str, Figures] = result["models"]
    name = ", ".join(filter(None, (result["data"], result["split"])))
    left_out = " without a duplicate" if result["without_duplicates"] else ""
    shown = metric_tables(f"{name}: {result['images']} images{left_out}", models)
    keys = list(next(iter(models.values())))
    if "robustness/mean" in keys:
        rows_of = {key[11:].replace("_", " "): f"{{{key}:.2%}}" for key in keys if key.startswith("robustness/")}
        shown.append(table_of("Accuracy under corruptions", models, rows_of))
    for place, others in result["sets"].items():
        columns = {f"{name}, {place}": own for name, own in others.items()}
        shown += metric_tables(f"{place}: {len(sets[place])} images", columns)
    return shown


def _tests(pairs: Sequence[Mapping[str, Any]]) -> Table:
    header = ["first against second", "set", "only the first right", "only the second right", "p"]
    templates = "{first} against {second}", "{set}", "{only_first}", "{only_second}", "{p:.3g}"
    rows = [[template.format(**pair) for template in templates] for pair in pairs]
    return Table("McNemar's exact test", header, rows)


def worst_class(figures: Figures) -> tuple[str, float]:
    """Return the class with the lowest recall of those that occur, and the recall, 0 to 1."""
    names = [key.removeprefix("support/") for key, images in figures.items() if key.startswith("support/") and images]
    name = min(names, key=lambda name: figures[f"recall/{name}"])
    return name, figures[f"recall/{name}"]


def side_by_side(sets: Sets) -> Table:
    """Return a table with a row for each set and model: its figures, as far as they are one number."""
    shown = {metric.after or name: metric for name, metric in METRICS.items() if not metric.per_class}
    others = any("accuracy_as_answered" in own for models in sets.values() for own in models.values())
    accuracy = shown.pop("accuracy")
    columns = ["images", accuracy.title, "95 % interval", *(["as answered"] if others else []), "worst class"]
    rows = []
    for place, models in sets.items():
        for name, own in models.items():
            worst, recall = worst_class(own)
            cells = [f"{own['images']:.0f}", accuracy.text(own["accuracy"])]
            cells.append(f"{100 * own['accuracy_low']:.1f} – {100 * own['accuracy_high']:.1f}")
            if others:
                cells.append(accuracy.text(own["accuracy_as_answered"]) if "accuracy_as_answered" in own else "")
            cells.append(f"{worst} {recall:.0%}")
            rows.append([f"{place}, {name}", *cells, *(metric.text(own[key]) for key, metric in shown.items())])
    return Table("All sets", ["", *columns, *(metric.title for metric in shown.values())], rows)


def matrix(sets: Sets, key: str) -> Table:
    """Return a table of one figure, such as "accuracy": a row for each model, a column for each set."""
    names = next(iter(sets.values()))
    rows = [[name, *(METRICS[key].text(models[name][key]) for models in sets.values())] for name in names]
    return Table(_MATRICES[key], ["", *sets], rows)


def _write_matrix(sets: Sets, note: str | None, out: Path) -> None:
    """Write `matrix.csv`, `matrix.md`, `matrix.png` and, with all figures, `all_sets.csv`."""
    names = list(next(iter(sets.values())))
    values = np.array([[models[name]["accuracy"] for models in sets.values()] for name in names])
    rows = [[name, *(f"{value:.6f}" for value in own)] for name, own in zip(names, values, strict=True)]
    write_file(out / "matrix.csv", tables.csv_text(["model", *sets], rows))
    heading = f"Models and sets\n\n{note}" if note else "Models and sets"
    write_file(out / "matrix.md", tables.markdown(heading, [matrix(sets, key) for key in _MATRICES]))
    write_file(out / "all_sets.csv", _all_figures(sets))
    texts = [[_cell(models[name]) for models in sets.values()] for name in names]
    columns = [f"{place}\n{next(iter(models.values()))['images']:.0f} images" for place, models in sets.items()]
    plots.matrix(values, texts, names, columns, "Accuracy, its 95 % interval, and the worst class", out / "matrix.png")


def _cell(figures: Figures) -> str:
    worst, recall = worst_class(figures)
    limits = f"{100 * figures['accuracy_low']:.1f} – {100 * figures['accuracy_high']:.1f}"
    return f"{figures['accuracy']:.1%}\n{limits}\n{worst} {recall:.0%}"


def _all_figures(sets: Sets) -> str:
    """Return a CSV with a row for each set and model; a class that a set lacks is an empty cell."""
    keys = dict.fromkeys(key for models in sets.values() for own in models.values() for key in own)
    rows = []
    for place, models in sets.items():
        for name, own in models.items():
            rows.append([place, name, *worst_class(own), *(own.get(key, "") for key in keys)])
    return tables.csv_text(["set", "model", "worst_class", "worst_recall", *keys], rows)


def _file_name(name: str) -> str:
    return re.sub(r"[^-.\w]", "_", name)[:80]
