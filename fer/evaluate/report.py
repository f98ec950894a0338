"""The report of an evaluation: models side by side, as tables, files and pictures."""

import json
from pathlib import Path
from typing import Any

from fer import files, tables
from fer import metrics as scores
from fer.data.base import Split
from fer.evaluate.predict import Predictions
from fer.evaluate.robustness import CORRUPTIONS, STRENGTHS
from fer.tables import Table


def _percent(value: float) -> str:
    return f"{value:.2%}"


def tables_of(result: dict[str, Any], classes: tuple[str, ...]) -> list[Table]:
    """The report as tables; `result` as `fer.evaluate.run` returns it."""
    models: dict[str, dict[str, float]] = result["models"]
    rows = {
        "accuracy": lambda m: _percent(m["accuracy"]),
        "95 % interval": lambda m: f"{_percent(m['accuracy_low'])} – {_percent(m['accuracy_high'])}",
        "accuracy, mirrored too": lambda m: _percent(m["accuracy_flip"]),
        "macro F1": lambda m: _percent(m["f1_macro"]),
        "ECE before, after": lambda m: f"{m['ece_raw']:.4f}, {m['ece']:.4f}",
        "NLL before, after": lambda m: f"{m['nll_raw']:.4f}, {m['nll']:.4f}",
        "temperature": lambda m: f"{m['temperature']:.3f}",
        "parameters": lambda m: f"{m['parameters']:,.0f}",
    }
    twice = " of images without a twin" if result["without_duplicates"] else ""
    title = f"{result['data']}, {result['split']}: {result['images']} images{twice}"
    found = [Table(title, ["", *models], [[name, *map(say, models.values())] for name, say in rows.items()])]
    for name, figures in models.items():
        body = [
            [label, *(_percent(figures[f"{m}/{label}"]) for m in ("precision", "recall", "f1")), count]
            for label in classes
            for count in [f"{figures[f'support/{label}']:.0f}"]
        ]
        found.append(Table(f"Classes of {name}", ["class", "precision", "recall", "F1", "support"], body))
    if "robustness/mean" in next(iter(models.values())):
        keys = [key for key in next(iter(models.values())) if key.startswith("robustness/")]
        body = [
            [key.split("/", 1)[1].replace("_", " ").replace("/", " "), *(_percent(m[key]) for m in models.values())]
            for key in keys
        ]
        found.append(Table("Accuracy under corruptions", ["", *models], body))
    if result["mcnemar"]:
        body = [
            [f"{p['first']} against {p['second']}", str(p["only_first"]), str(p["only_second"]), f"{p['p']:.3g}"]
            for p in result["mcnemar"]
        ]
        header = ["pair", "only the first right", "only the second right", "p"]
        found.append(Table("McNemar's exact test", header, body))
    return found


def write(result: dict[str, Any], answers: dict[str, Predictions], split: Split, out: Path) -> None:
    """Write the report, its figures and its pictures into the folder `out`, and print it. Raises `OSError`."""
    from fer import plots  # matplotlib takes a second to import

    models = result["models"]
    found = tables_of(result, split.classes)
    for number, (name, answer) in enumerate(answers.items()):
        folder = out if len(answers) == 1 else out / f"{number + 1}_{name.replace('/', '_')}"
        folder.mkdir(exist_ok=True)
        title = f"{name}, {result['split']}: accuracy {models[name]['accuracy']:.1%}"
        matrix = scores.confusion(answer.calibrated.argmax(1), split.labels, len(split.classes))
        plots.confusion_matrix(matrix, split.classes, title, folder / "confusion_matrix.png")
        plots.reliability(answer.calibrated, split.labels, models[name]["ece"], title, folder / "reliability.png")
        plots.mistakes(split, answer.calibrated, title, folder / "mistakes.png")
    if "robustness/mean" in next(iter(models.values())):
        plots.robustness({name: _curves(figures) for name, figures in models.items()}, out / "robustness.png")
    keys = list(next(iter(models.values())))
    rows = [[name, *(figures[key] for key in keys)] for name, figures in models.items()]
    files.write_file(out / "models.csv", tables.csv_text(["model", *keys], rows))
    files.write_file(out / "report.md", tables.markdown("Evaluation", found))
    files.write_file(out / "metrics.json", json.dumps(result, indent=2) + "\n")
    tables.show(found)
    print(out)


def _curves(figures: dict[str, float]) -> dict[str, list[float]]:
    """Accuracy by corruption, without it and at each strength."""
    return {
        corruption: [figures["accuracy"]]
        + [figures[f"robustness/{corruption.replace(' ', '_')}/{strength}"] for strength in STRENGTHS]
        for corruption in CORRUPTIONS
    }
