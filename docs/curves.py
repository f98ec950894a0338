"""Draws docs/fer2013_curves.png from docs/fer2013_curves.csv: python docs/curves.py

The rows are those of the runs' metrics.csv: python docs/curves.py <name>=<run folder> … adds or replaces them.
"""

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure

TABLE = Path(__file__).with_name("fer2013_curves.csv")
FIELDS = ("run", "epoch", "train_loss", "val_loss", "val_accuracy")


def rows_of(name: str, run: Path) -> list[dict[str, str]]:
    """One row an epoch, of a run logged with logger=csv."""
    epochs: dict[str, dict[str, str]] = {}
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {k.replace("/", "_"): v for k, v in row.items() if k.replace("/", "_") in FIELDS and v}
            if len(values) > 1 and "epoch" in values:
                epoch = str(int(values["epoch"]) + 1)
                epochs.setdefault(epoch, {"run": name, "epoch": epoch}).update(
                    {k: f"{float(v):.4f}" for k, v in values.items() if k != "epoch"}
                )
    return [row for row in epochs.values() if "val_loss" in row]


table: list[dict[str, str]] = []
if TABLE.exists():
    with TABLE.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
for argument in sys.argv[1:]:
    name, _, run = argument.partition("=")
    table = [row for row in table if row["run"] != name] + rows_of(name, Path(run))
with TABLE.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, FIELDS)
    writer.writeheader()
    writer.writerows(table)

figure = Figure(figsize=(12, 3.8), layout="constrained")
left, right = figure.subplots(1, 2)
for name in dict.fromkeys(row["run"] for row in table):
    mine = [row for row in table if row["run"] == name]
    epochs = [int(row["epoch"]) for row in mine]
    (line,) = left.plot(epochs, [100 * float(row["val_accuracy"]) for row in mine], label=name)
    right.plot(epochs, [float(row["val_loss"]) for row in mine], color=line.get_color())
left.set(title="PublicTest, accuracy in per cent", xlabel="epoch", ylim=(45, None))
right.set(title="PublicTest, loss", xlabel="epoch", ylim=(None, 1.4))
for axes in (left, right):
    axes.grid(alpha=0.3)
figure.legend(loc="outside right center")
figure.savefig(TABLE.with_suffix(".png"), dpi=120)
