"""Model cards: the README.md of a repository on the Hugging Face Hub, made from the metadata of an artifact.

A card names the data, but has no path of the user. benchmarks/models.py writes those of the included models with the
same parts.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fer import metrics
from fer.artifact.metadata import Metadata
from fer.tables import line

REPOSITORY = "owner/name"
"""What a card has for the name of its repository until it is pushed."""
SETS = {
    "val": "val, by its labels",
    "val_votes": "val, by the majority of its votes",
    "test": "test, by its labels",
    "test_votes": "test, by the majority of its votes",
}
"""Name of a set in the metadata → in the table."""

Column = Callable[[Mapping[str, float]], str]
"""Figures of one set → text of a cell."""


def card(metadata: Metadata) -> str:
    """Return the card of an artifact: Markdown with a YAML header, which leaves the licence to the user."""
    from huggingface_hub import EvalResult, ModelCardData  # these take time to import
    from jinja2 import StrictUndefined, Template

    name, data = str(metadata.config.get("name") or "model"), str(metadata.data.get("name") or "unknown")
    task = "image-classification"
    accuracies = {split: metadata.metrics.get(f"{split}/accuracy") for split in ("val", "test")}
    results = [
        EvalResult(task, data, data, "accuracy", round(value, 4), dataset_split=split)
        for split, value in accuracies.items()
        if value is not None
    ]
    header = ModelCardData(
        model_name=name,
        library_name="fer-lightning",
        pipeline_tag=task,
        tags=["facial-expression-recognition", "emotion", "onnx", "torchscript"],
        eval_results=results or None,
    )
    template = (Path(__file__).parent / "card.md.j2").read_text(encoding="utf-8")
    return Template(template, undefined=StrictUndefined, keep_trailing_newline=True).render(
        header=header.to_yaml(),
        name=name,
        data=data,
        classes=metadata.classes,
        repository=REPOSITORY,
        summary=summary(metadata),
        table="\n".join(table(metadata, SETS)),
    )


def summary(metadata: Metadata) -> str:
    """Return one line about the cost of the network, its calibration and its training."""
    m, trained = metadata.metrics, ""
    if "train/minutes" in m:
        trained = f" The last training: seed {m['train/seed']:.0f}, {m['train/epochs']:.0f} epochs, "
        trained += f"{m['train/minutes']:.0f} minutes."
    prior = f", after division by the class prior to the power of {metadata.prior:g}" if metadata.prior else ""
    return (
        f"{metadata.parameters / 1e6:.2f} million parameters, {metadata.macs / 1e6:.0f} million multiply-accumulates a "
        f"face. Temperature {metadata.temperature:.3f}{prior}. Commit {metadata.git_commit}.{trained}"
    )


def shown(key: str, value: float | None) -> str:
    """Return a figure in per cent, a calibration error as it is, and a dash for None."""
    return "–" if value is None else f"{value:.3f}" if key.endswith("ece") else f"{100 * value:.1f}"


def figure(key: str) -> Column:
    """Return the column of a metric."""
    return lambda figures: shown(key, figures.get(key))


def images(figures: Mapping[str, float]) -> int:
    """Return how many images a set has, 0 if that is not known."""
    return round(sum(value for key, value in figures.items() if key.startswith("support/")))


def _interval(figures: Mapping[str, float]) -> str:
    correct = np.arange(images(figures)) < round(figures["accuracy"] * images(figures))
    return "–" if not len(correct) else " – ".join(shown("", limit) for limit in metrics.interval(correct))


COLUMNS: dict[str, Column] = {
    "images": lambda figures: str(images(figures) or "–"),
    "accuracy": figure("accuracy"),
    "95 % interval": _interval,
    "macro recall": figure("recall_macro"),
    "ECE": figure("ece"),
}
"""Heading → cell."""


def table(metadata: Metadata, sets: Mapping[str, str], columns: Mapping[str, Column] = COLUMNS) -> list[str]:
    """Return the lines of a table with a row for each of `sets` in the metadata, and the recall of each class."""
    header = ["set", *columns, *metadata.classes]
    lines = [line(header), "| --- " * len(header) + "|"]
    for name, title in sets.items():
        of_set = {key[len(name) + 1 :]: value for key, value in metadata.metrics.items() if key.startswith(f"{name}/")}
        if "accuracy" in of_set:
            recalls = [shown("recall", of_set.get(f"recall/{label}")) for label in metadata.classes]
            lines.append(line([title, *(cell(of_set) for cell in columns.values()), *recalls]))
    return lines
