"""Release the included models: their figures, cards and tables.

    python benchmarks/models.py release FILE NAME --faces ../shared/faces
                                              evaluate a checkpoint or artifact on FER-2013, by its labels and by the
                                              votes of FER+, and on faces from elsewhere, undamaged and damaged; write
                                              it with all figures in its metadata as fer/weights/NAME.ts
    python benchmarks/models.py onnx NAME --faces ../shared/faces
                                              write fer/weights/NAME.onnx and NAME.int8.onnx from NAME.ts; int8 is
                                              judged on PublicTest, by its labels and by the votes, and on the
                                              undamaged faces from elsewhere
    python benchmarks/models.py cards         write the figures in the cards, fer/weights/*.md
    python benchmarks/models.py table         write the table in README.md and docs/models.md

`cards` and `table` need nothing but the files in fer/weights. The others read FER-2013 from FER2013_ROOT, which also
has fer2013new.csv; `release` alone evaluates on PrivateTest, once for each released file. The folder of `--faces` has
`boxes.csv` and `score.py`, whose functions cut and damage the faces.
"""

import argparse
import csv
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer import artifact, metrics, models
from fer.artifact import Metadata, trust
from fer.artifact import card as parts
from fer.artifact.card import shown
from fer.artifact.export import export
from fer.data import fer2013, votes
from fer.data.base import Split, duplicates
from fer.evaluate import predict, report
from fer.files import write_file
from fer.labels import EMOTIONS
from fer.tables import line
from fer.train.quantize import quantize

WEIGHTS = ROOT / "fer" / "weights"
PAGES = ("README.md", "docs/models.md")
BEGIN, END = "<!-- benchmarks/models.py: begin -->\n", "<!-- benchmarks/models.py: end -->\n"

SETS = {
    "val": "PublicTest, own labels",
    "val_votes": "PublicTest, majority of the votes",
    "test": "PrivateTest, own labels",
    "test_votes": "PrivateTest, majority of the votes",
    "press": "press photos",
    "jaffe": "posed portraits (JAFFE)",
}
"""Name in the metadata → in the cards."""
DAMAGES = {
    "noise": "noise, σ 15 of 255",
    "blur": "blur, σ 2 of 96 pixels",
    "jpeg": "JPEG, quality 20",
    "dark": "four tenths of the light",
    "32": "32 pixels",
    "24": "24 pixels",
}
"""In the order in which score.py draws their random numbers."""
CONFUSIONS = ("val_votes", "press")
MANY = 100
"""Images that a class needs to count in the mean recall of larger classes."""


def released() -> dict[str, Metadata]:
    """The metadata of the included models, smallest first, with the figures and the size of their int8 files."""
    found = {path.stem: artifact.read_metadata(path) for path in WEIGHTS.glob("*.ts")}
    for path in WEIGHTS.glob("*.int8.onnx"):
        name = path.name.removesuffix(".int8.onnx")
        of_int8 = {key: value for key, value in artifact.read_metadata(path).metrics.items() if key.startswith("int8/")}
        of_int8["int8/bytes"] = float(path.stat().st_size)
        found[name] = replace(found[name], metrics=found[name].metrics | of_int8)
    return dict(sorted(found.items(), key=lambda item: item[1].parameters))


def fer_2013() -> dict[str, Split]:
    """The splits of FER-2013, with the votes. Raises `DataError`."""
    path = Path(os.environ.get("FER2013_ROOT", "data/fer2013")) / "fer2013new.csv"
    return votes.attach(fer2013.read(root=None, download=False), votes.read(path), path)


def faces(folder: Path, margin: float, size: int) -> Iterator[tuple[str, Split]]:
    """Yield sets of faces, as infer.py cuts them, under the names `press`, `press_noise` and so on."""
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert spec and spec.loader
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    with (folder / "boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        labels = np.array([EMOTIONS.index(row["class"]) for row in own])
        cut = []
        for row in own:
            image = cv2.imread(str(folder / name / row["class"] / row["file"]))
            box = [float(row[key]) for key in ("x1", "y1", "x2", "y2")]
            cut.append(score.cut(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), box, margin, 96))
        rng = np.random.default_rng(0)
        for damage in (None, *DAMAGES):
            worse = cut if damage is None else [score.damaged(face, damage, rng) for face in cut]
            images = np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in worse])
            yield f"{name}_{damage}" if damage else name, Split(images, labels, EMOTIONS)


def figures(model: predict.Model, splits: dict[str, Split], elsewhere: Path | None) -> dict[str, float]:
    """All figures of a model as `<set>/<metric>`, for `CONFUSIONS` with counts as `<set>/confusion/<true>/<answer>`."""
    assert model.temperature is not None
    result: dict[str, float] = {}

    def judge(name: str, answers: predict.Predictions) -> None:
        found = report.figures_of(answers, EMOTIONS)
        if name in CONFUSIONS:
            counts = metrics.confusion(answers.calibrated.argmax(1), answers.labels, len(EMOTIONS))
            pairs = [f"confusion/{true}/{predicted}" for true in EMOTIONS for predicted in EMOTIONS]
            found |= dict(zip(pairs, counts.ravel().astype(float).tolist(), strict=True))
        shown = {key: value for key, value in found.items() if not key.startswith(("precision/", "f1/"))}
        result.update({f"{name}/{key}": value for key, value in shown.items()})

    def answers_for(split: Split) -> predict.Predictions:
        own = predict.predictions_of(model.network, split)
        return replace(own, temperature=model.temperature, averages=model.metadata.flip)

    for name in ("val", "test"):
        split = splits[name]
        answers = answers_for(split)
        judge(name, answers)
        assert split.majority is not None
        judge(f"{name}_votes", answers.only(split.majority >= 0, split.majority))
    result["test/accuracy_without_duplicates"] = float(answers.correct[~duplicates(split, [splits["train"]])].mean())
    if elsewhere:
        for name, split in faces(elsewhere, model.metadata.crop_margin, model.metadata.input_size):
            judge(name, answers_for(split))
    return result


def release(source: Path, name: str, elsewhere: Path | None) -> None:
    """Evaluate a checkpoint or artifact, and write it with its figures, all weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        if source.suffix == ".ckpt":
            source = export(source, Path(folder) / "model.ts", format="torchscript")
        trust.accept([source])
        (model,) = predict.load_models([str(source)], "cpu")
        assert model.metadata.classes == EMOTIONS
        found = figures(model, fer_2013(), elsewhere)
        of_run = {k: v for k, v in model.metadata.metrics.items() if k.startswith(("train/", "val/temperature"))}
        metadata = replace(model.metadata, metrics=of_run | found)
        artifact.write(artifact.torchscript_module(source), metadata, WEIGHTS / f"{name}.ts")
    print(row_of(name, metadata))


def onnx(name: str, elsewhere: Path | None) -> None:
    """Write an included model as ONNX, in float32 and int8."""
    path = WEIGHTS / f"{name}.ts"
    metadata = artifact.read_metadata(path)
    backbone = models.create(
        classes=len(metadata.classes), channels=metadata.channels, **metadata.config["model"] | {"pretrained": False}
    )
    backbone.load_state_dict(artifact.backbone_weights(path))
    exported = artifact.save(backbone, metadata, path.with_suffix(".onnx"), "onnx")
    splits = fer_2013()
    judged = {"val": splits["val"], "val_votes": splits["val"].by_majority()}
    if elsewhere:
        sets = faces(elsewhere, metadata.crop_margin, metadata.input_size)
        judged |= {name: split for name, split in sets if name in SETS}
    figures = quantize(exported, path.with_suffix(".int8.onnx"), splits["train"].images, judged)
    for key, value in figures.items():
        print(f"{key}: {value:.4f}")


def large(m: Mapping[str, float], start: str = "") -> float | None:
    """The mean recall of the classes with `MANY` images or more, of which there are as many in damaged images."""
    kept = [c for c in EMOTIONS if m.get(f"{start}support/{c}", 0) >= MANY]
    return float(np.mean([m[f"{start}recall/{c}"] for c in kept])) if kept else None


def card(metadata: Metadata) -> str:
    """The figures of a card."""
    m, names = metadata.metrics, dict(SETS)
    for name in ("press", "jaffe"):
        names |= {f"{name}_{damage}": f"{SETS[name]}: {words}" for damage, words in DAMAGES.items()}
    columns = {
        "images": parts.COLUMNS["images"],
        "accuracy": parts.figure("accuracy"),
        "with flip": parts.figure("accuracy_flip"),
        "macro recall": parts.figure("recall_macro"),
        "larger": lambda figures: shown("large", large(figures)),
        "ECE": parts.figure("ece"),
    }
    text = [
        parts.summary(metadata),
        "",
        "In per cent, but for ECE, the expected calibration error in 15 bins. *Larger* is the mean recall of classes "
        f"with {MANY} images or more; the last columns are the recall of each class.",
        "",
        *parts.table(metadata, names, columns),
    ]
    if alone := m.get("test/accuracy_without_duplicates"):
        text += ["", f"PrivateTest without its 288 duplicates of Training: {100 * alone:.1f}."]
    if "int8/agreement" in m:
        accuracies = [
            f"{words} {shown('', m[f'int8/{name}/accuracy'])} ({shown('', m[f'int8/{name}/accuracy_float32'])})"
            for name, words in SETS.items()
            if f"int8/{name}/accuracy" in m
        ]
        text += [
            "",
            f"The int8 file is {m['int8/bytes'] / 1e6:.1f} MB. {shown('', m['int8/agreement'])} % of its answers on "
            f"PublicTest are those of float32. Accuracy, in brackets that of float32: {'; '.join(accuracies)}. "
            "The images are those of the table, without flip.",
        ]
    for name in CONFUSIONS:
        if f"{name}/confusion/{EMOTIONS[0]}/{EMOTIONS[0]}" in m:
            text += ["", f"Confusion, {SETS[name]}: images by true class (rows) and answer (columns).", ""]
            text += [line(["", *EMOTIONS]), "| --- " * (1 + len(EMOTIONS)) + "|"]
            text += [line([c, *(f"{m[f'{name}/confusion/{c}/{other}']:.0f}" for other in EMOTIONS)]) for c in EMOTIONS]
    return "\n".join(text) + "\n"


COLUMNS = {
    "model": "`{name}`",
    "million parameters": "{parameters}",
    "MMAC": "{macs}",
    "PublicTest, labels (with flip)": "{val/accuracy} ({val/accuracy_flip})",
    "PrivateTest, labels (with flip)": "{test/accuracy} ({test/accuracy_flip})",
    "PublicTest, votes: accuracy / macro recall": "{val_votes/accuracy} / {val_votes/recall_macro}",
    "PrivateTest, votes": "{test_votes/accuracy} / {test_votes/recall_macro}",
    "press: accuracy / recall of its larger classes": "{press/accuracy} / {press/large}",
    "posed": "{jaffe/accuracy}",
    "press with noise / blur / 24 pixels": "{press_noise/accuracy} / {press_blur/accuracy} / {press_24/accuracy}",
    "ECE, votes / press": "{val_votes/ece} / {press/ece}",
    "int8: same answers": "{int8/agreement}",
    "int8: PublicTest, votes / press": "{int8/val_votes/accuracy} / {int8/press/accuracy}",
}
"""Heading → what fills a cell."""


class _Cells(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "–"


def row_of(name: str, metadata: Metadata) -> str:
    """A row of the table, with dashes for figures that are not in the metadata."""
    cells = _Cells({key: shown(key, value) for key, value in metadata.metrics.items()})
    cells |= {"name": name, "press/large": shown("large", large(metadata.metrics, "press/"))}
    cells |= {"parameters": f"{metadata.parameters / 1e6:.2f}", "macs": f"{metadata.macs / 1e6:.0f}"}
    return line([template.format_map(cells) for template in COLUMNS.values()])


def insert(page: Path, text: str) -> None:
    """Replace the text between the two marks of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    assert begin, f"{page} has no {BEGIN}"
    write_file(page, f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}")


def cards() -> None:
    for name, metadata in released().items():
        insert(WEIGHTS / f"{name}.md", card(metadata))


def table() -> None:
    rows = [line(list(COLUMNS)), "| --- " * len(COLUMNS) + "|", *(row_of(*item) for item in released().items())]
    for page in PAGES:
        insert(ROOT / page, "\n".join(rows) + "\n")
    print("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("release")
    one.add_argument("file", type=Path)
    one.add_argument("name")
    one.add_argument("--faces", type=Path)
    one.set_defaults(run=lambda given: release(given.file, given.name, given.faces))
    two = commands.add_parser("onnx")
    two.add_argument("name")
    two.add_argument("--faces", type=Path)
    two.set_defaults(run=lambda given: onnx(given.name, given.faces))
    for command in (cards, table):
        commands.add_parser(command.__name__).set_defaults(run=lambda _, command=command: command())
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
