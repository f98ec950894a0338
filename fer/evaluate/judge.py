"""The report at the end of a run: accuracy, F1, recall, calibration, flip TTA, duplicates, plots."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from fer import plots  # here and not where they are used: sources may be edited while a training runs
from fer.data.base import Split, as_batch, duplicates
from fer.evaluate import gradcam
from fer.files import write_file
from fer.metrics import compute, confusion, ece, fit_temperature, nll, worst
from fer.models.classifier import EmotionClassifier
from fer.tables import csv_text

log = logging.getLogger(__name__)


def logits_of(model: EmotionClassifier, split: Split, flip: bool = False, batch_size: int = 256) -> Tensor:
    """Logits float32 (N, K) on the CPU of a model in eval mode for a split, or for its mirror images."""
    device = model.device
    answers = []
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            images = as_batch(split.images[start : start + batch_size])
            images = images.flip(3) if flip else images
            answers.append(model(model.prepare(images.to(device))).float().cpu())
    return torch.cat(answers)


def judge(model: EmotionClassifier, splits: dict[str, Split], folder: Path, test: bool) -> dict[str, float]:
    """Judge a model on val, and on test where asked, and draw the plots of the last split judged into `folder`.

    The temperature is fitted on val and used for both. Returns flat metrics, all 0 to 1 but the losses and the
    temperature: `<split>/accuracy, accuracy_flip, f1_macro, ece, ece_raw, loss, recall/<class>`, and for test
    `accuracy_without_duplicates`: without the images that stand pixel for pixel in train as well.
    """
    metrics: dict[str, float] = {}
    temperature = 1.0
    for name in ("val", "test") if test else ("val",):
        split = splits[name]
        labels = split.labels
        logits = logits_of(model, split)
        mirrored = logits_of(model, split, flip=True)
        if name == "val":
            temperature = metrics["val/temperature"] = fit_temperature(logits.numpy(), labels)
        probabilities = (logits / temperature).softmax(1).numpy()
        both = (probabilities + (mirrored / temperature).softmax(1).numpy()) / 2
        predicted = probabilities.argmax(1)
        matrix = confusion(predicted, labels, len(split.classes))
        found = compute(probabilities, labels, split.classes)
        found["accuracy_flip"] = float((both.argmax(1) == labels).mean())
        raw = logits.softmax(1).numpy()
        found |= {"loss": nll(raw, labels), "ece_raw": ece(raw, labels)}
        if name == "test":
            alone = ~duplicates(split, [splits["train"]])
            if alone.any():
                found["accuracy_without_duplicates"] = float((predicted == labels)[alone].mean())
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    title = f"{name}: {len(split)} images, accuracy {found['accuracy']:.1%}"
    plots.confusion_matrix(matrix, split.classes, title, folder / "confusion_matrix.png")
    plots.reliability(probabilities, labels, found["ece"], title, folder / "reliability.png")
    plots.mistakes(split, probabilities, title, folder / "mistakes.png")
    header, rows = mistakes(split, probabilities)
    write_file(folder / "mistakes.csv", csv_text(header, rows))
    try:
        gradcam.draw(model, splits["val"], temperature, folder / "gradcam.png")
    except Exception as error:  # a picture is no reason to lose a training, and backbones are of many kinds
        log.warning("no gradcam.png: %s", " ".join(f"{error or type(error).__name__}".split()))
    return metrics


def mistakes(split: Split, probabilities: np.ndarray) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of `mistakes.csv`: every image answered wrongly, the worst first.

    probabilities: (N, K). A row has the image's row in the split, its file where it has one, the true and the predicted
    class, and the probability of each class.
    """
    rows = [
        [
            int(row),
            "" if split.names is None else split.names[row],
            split.classes[split.labels[row]],
            split.classes[probabilities[row].argmax()],
            *(round(float(value), 4) for value in probabilities[row]),
        ]
        for row in worst(probabilities, split.labels)
    ]
    return ["row", "file", "true", "predicted", *split.classes], rows


def write_metrics(metrics: dict[str, float], path: Path) -> None:
    """Write metrics as flat JSON, whole or not at all."""
    write_file(path, json.dumps({key: metrics[key] for key in sorted(metrics)}, indent=2) + "\n")


def show(metrics: dict[str, float], exported: Path) -> None:
    """Print the metrics of `judge` as a table, and where the artifact lies."""
    splits = [split for split in ("val", "test") if f"{split}/accuracy" in metrics]
    table = Table("", *splits, title=escape(exported.parent.name))
    for name in ("accuracy", "accuracy_flip", "accuracy_without_duplicates", "f1_macro", "ece", "loss"):
        values = [metrics.get(f"{split}/{name}") for split in splits]
        if any(value is not None for value in values):
            table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    recalls = [key.split("/", 1)[1] for key in metrics if key.startswith("val/recall/")]
    for name in recalls:
        table.add_row(escape(name), *(f"{metrics[f'{split}/{name}']:.4f}" for split in splits))
    console = Console()
    console.print(table)
    console.print(f"{metrics['train/minutes']:.1f} minutes, {metrics['train/images_per_second']:.0f} images/s")
    console.print(str(exported), soft_wrap=True, highlight=False, markup=False)
