"""Evaluate the released models on FER-2013. The tables of README come from here.

    python benchmarks/fer2013.py table        evaluate each artifact in fer/weights and write README's table
    python benchmarks/fer2013.py exports      time one face and 32 in TorchScript, ONNX and pt2, in milliseconds
    python benchmarks/fer2013.py reproduce    repeat the first epoch of each artifact's training at the recorded commit,
                                              and compare its loss with the recorded one
    python benchmarks/fer2013.py margins      accuracy on faces cropped by YuNet, by the margin around the box
    python benchmarks/fer2013.py seeds 1 2 3  train the cheap recipe with these seeds and average PublicTest
    python benchmarks/fer2013.py release RUN NAME   evaluate a finished run on PrivateTest, once, into fer/weights
    python benchmarks/fer2013.py ensemble MODEL… --scales 1.0 1.09 0.92
                                              the same for the average of several artifacts over these sizes of the face
                                              and their mirror images

FER-2013 is read from FER2013_ROOT. PublicTest selects; PrivateTest is read by `release` and `ensemble`, and once more
by `table`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer import artifact
from fer import metrics as scores
from fer.artifact import trust
from fer.artifact.ensemble import save_ensemble
from fer.artifact.export import from_checkpoint
from fer.data import fer2013
from fer.data.base import Split, duplicates
from fer.evaluate import predict, report
from fer.evaluate.predict import Model, Predictions
from fer.files import atomic_write
from fer.models import checkpoints
from fer.stream.faces.classify import crop_face
from fer.stream.faces.detect import Detector
from fer.stream.types import Frame
from fer.train import run as experiment

WEIGHTS = ROOT / "fer" / "weights"
BEGIN, END = "<!-- benchmarks/fer2013.py: begin -->\n", "<!-- benchmarks/fer2013.py: end -->\n"
THREADS = 2


def released() -> list[Path]:
    """The artifacts in fer/weights, smallest first."""
    return sorted(WEIGHTS.glob("*.ts"), key=lambda path: path.stat().st_size)


def data() -> dict[str, Split]:
    """The three splits of FER-2013. Raises `DataError`."""
    return fer2013.read(root=None, download=False)


def milliseconds(call: Callable[[], Any], repetitions: int = 200) -> float:
    """The median time of a call."""
    for _ in range(10):
        call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def figures(predictions: Predictions, split: Split, train: Split, flip: bool = False) -> dict[str, float]:
    """Accuracy with and without flip averaging, and all other metrics, with flip averaging if `flip`; from 0 to 1."""
    probabilities = predictions.flip if flip else predictions.calibrated
    right = probabilities.argmax(1) == split.labels
    values = scores.compute(probabilities, split.labels, split.classes)
    del values["loss"]  # that of a run is before the temperature
    values["error"] = float(np.sqrt(values["accuracy"] * (1 - values["accuracy"]) / len(split)))
    values["accuracy"] = float((predictions.calibrated.argmax(1) == split.labels).mean())
    values["flip"] = float((predictions.flip.argmax(1) == split.labels).mean())
    values["without_duplicates"] = float(right[~duplicates(split, [train])].mean())
    return values


def predictions_of(candidate: Model, split: Split) -> Predictions:
    """The predictions of an artifact, with its own temperature, for a split and its mirror images."""
    assert candidate.temperature is not None
    plain, mirrored = (predict.logits(candidate.network, split.images, flip) for flip in (False, True))
    return Predictions(plain, mirrored, split.labels, candidate.temperature)


def judged(paths: list[Path], splits: dict[str, Split]) -> dict[str, dict[str, Any]]:
    """Results by name: metrics on val and test, parameters, MACs, milliseconds for one face."""
    face = artifact.golden_batch(1, 48, 1)
    torch.set_num_threads(THREADS)
    result: dict[str, dict[str, Any]] = {}
    for candidate in predict.load_models([str(path) for path in paths], "cpu"):
        loaded = artifact.load(candidate.path)
        result[candidate.name] = {
            "parameters": loaded.metadata.parameters,
            "macs": loaded.metadata.macs,
            "ms": milliseconds(lambda loaded=loaded: loaded(face)),
            "averages_flips": loaded.metadata.flip,
            **{
                n: figures(predictions_of(candidate, splits[n]), splits[n], splits["train"], loaded.metadata.flip)
                for n in ("val", "test")
            },
        }
    return result


def markdown(result: dict[str, dict[str, Any]], classes: tuple[str, ...]) -> str:
    """The two tables in README."""
    head = "artifact parameters MMAC ms PublicTest PrivateTest flip_averaging without_duplicates macro_F1 ECE"
    rows = [f"| {' | '.join(head.split()).replace('_', ' ')} |", "| --- " * 10 + "|"]
    for name, r in result.items():
        val, test = r["val"], r["test"]
        own = "flip" if r["averages_flips"] else "accuracy"
        both = {key: f"{test[key]:.2%}" for key in ("accuracy", "flip")}
        both[own] = f"**{both[own]}** ± {test['error']:.2%}"
        cells = [
            f"`{name}.ts`",
            f"{r['parameters'] / 1e6:.2f} M",
            f"{r['macs'] / 1e6:.0f}",
            f"{r['ms']:.1f}",
            f"{val[own]:.2%}",
            *both.values(),
            *(f"{test[key]:.2%}" for key in ("without_duplicates", "f1_macro")),
            f"{test['ece']:.3f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    rows += ["", "| recall, PrivateTest | " + " | ".join(classes) + " |", "| --- " * (len(classes) + 1) + "|"]
    for name, r in result.items():
        recalls = " | ".join(f"{r['test'][f'recall/{label}']:.1%}" for label in classes)
        rows.append(f"| `{name}.ts` | {recalls} |")
    return "\n".join(rows).replace("%", "") + "\n"


def table() -> None:
    splits = data()
    text = markdown(judged(released(), splits), splits["val"].classes)
    insert(ROOT / "README.md", text)
    print(text)


def insert(page: Path, text: str) -> None:
    """Replace the text between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def card(metadata: artifact.Metadata) -> str:
    """The figures of a model card, all from the metadata."""
    m = metadata.metrics
    if "members" in m:
        views = 2 * len(metadata.config["scales"])
        made = f"the mean of {m['members']:.0f} networks over {views} views of it"
    else:
        made = (
            f"seed {m['train/seed']:.0f}, {m['train/epochs']:.0f} epochs in {m['train/minutes']:.0f} minutes on one of "
            f"two busy cores ({metadata.config['trainer']['precision']})"
        )
    rows = [
        f"{metadata.parameters / 1e6:.2f} million parameters, {metadata.macs / 1e6:.0f} million multiply-accumulates a "
        f"face, {made}. Commit {metadata.git_commit}.",
        "",
        "| per cent | PublicTest | PrivateTest |",
        "| --- | --- | --- |",
    ]
    names = {
        "accuracy": "accuracy",
        "accuracy_flip": f"accuracy with flip averaging ({'on' if metadata.flip else 'off'} in the file)",
        "accuracy_without_duplicates": "accuracy without the 288 duplicates of Training",
        "f1_macro": "macro F1",
        "ece": f"expected calibration error, 15 bins, temperature {metadata.temperature:.3f} fitted on PublicTest",
        "ece_raw": "the same before the temperature",
        **{f"recall/{label}": f"recall of {label}" for label in metadata.classes},
    }
    for key, words in names.items():
        cells = [f"{100 * m[f'{split}/{key}']:.1f}" if f"{split}/{key}" in m else "" for split in ("val", "test")]
        rows.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def exports() -> None:
    torch.set_num_threads(THREADS)
    print(f"| model | faces | {' | '.join(artifact.FORMATS)} |\n| --- | --- | --- | --- | --- |")
    for path in released():
        metadata = artifact.read_metadata(path)
        if "members" in metadata.config:
            continue  # its members' times add up
        with tempfile.TemporaryDirectory() as folder:
            calls: list[Callable[[torch.Tensor], Any]] = []
            for format in artifact.FORMATS.values():
                file = artifact.save(_backbone(path), metadata, Path(folder) / f"m{format.suffix}", format.name)
                calls.append(format.load(file, metadata, torch.device("cpu"), False))
            for faces in (1, 32):
                images = artifact.golden_batch(3, metadata.input_size, faces)
                with torch.no_grad():
                    times = [milliseconds(lambda c=c, i=images: c(i), 200 if faces == 1 else 20) for c in calls]
                print(f"| `{path.name}` | {faces} | {' | '.join(f'{t:.1f}' for t in times)} |", flush=True)


def _backbone(path: Path) -> torch.nn.Module:
    from fer import models

    metadata = artifact.read_metadata(path)
    backbone = models.create(classes=len(metadata.classes), channels=metadata.channels, **metadata.config["model"])
    backbone.load_state_dict(artifact.backbone_weights(path))
    return backbone


def recorded(metadata: artifact.Metadata, folder: str) -> DictConfig:
    """The config of the training that made an artifact, to be run in `folder` and without PrivateTest."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["logger=csv", f"run_dir='{folder}'", "callbacks.progress=null"])
    with open_dict(cfg):
        for name, value in metadata.config.items():
            node = OmegaConf.create(value) if isinstance(value, dict | list) else value
            cfg[name] = OmegaConf.merge(cfg[name], node) if name in ("trainer", "callbacks") else node
        cfg.evaluate.test = False
        if cfg.data.votes:  # recorded without its folder
            cfg.data.votes = str(Path(os.environ["FER2013_ROOT"]) / cfg.data.votes)
    return cfg


class _OneEpoch(L.Callback):
    """Ends a training after its first epoch, with the schedule of the complete training."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


def first_epoch(model: Path) -> float:
    """Repeat the first epoch of the training of an artifact with this checkout, and return its validation loss."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = recorded(artifact.read_metadata(model), folder)
        return experiment.run(cfg, watchers=[_OneEpoch()])["val/loss_epoch_1"]


def reproduce() -> None:
    print("| artifact | recorded | again | difference |\n| --- | --- | --- | --- |")
    fingerprint = data()["train"].fingerprint
    for path in released():
        metadata = artifact.read_metadata(path)
        if "members" in metadata.config:
            continue  # each of them is a training of its own
        if metadata.data["fingerprint"] != fingerprint:
            raise SystemExit(f"{path.name} was trained on other images than those in FER2013_ROOT")
        before = metadata.metrics.get("val/loss_epoch_1")
        if before is None:
            continue  # older than the record
        with tempfile.TemporaryDirectory() as name:
            then = Path(name) / "then"
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "-q", "--detach", str(then), str(metadata.git_commit)], check=True)
            trust.accept(map(str, (then / "teachers").glob("*.ts")))
            try:
                command = [sys.executable, "benchmarks/fer2013.py", "first-epoch", str(path)]
                environment = os.environ | {"FER2013_ROOT": str(Path(os.environ["FER2013_ROOT"]).resolve())}
                answer = subprocess.run(
                    command, cwd=then, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
            finally:
                subprocess.run([*git, "remove", "--force", str(then)], check=True)
        after = float(answer.stdout.split()[-1])
        print(f"| `{path.name}` | {before:.4f} | {after:.4f} | {after - before:+.4f} |", flush=True)


def margins() -> None:
    split = data()["val"]
    detector = Detector()
    found: list[tuple[np.ndarray, np.ndarray, int]] = []
    for image, label in zip(split.images, split.labels, strict=True):
        # Enlarged, and with its border repeated around it, as a face that fills a frame
        large = np.pad(np.kron(image, np.ones((4, 4), np.uint8)), 48, mode="edge")
        frame = Frame(np.repeat(large[..., None], 3, 2), 0, 0.0)
        boxes = detector(frame).boxes
        if len(boxes) == 1:
            found.append((frame.image, boxes[0], int(label)))
    labels = np.array([label for *_, label in found])
    print(f"{len(found)} of {len(split)} images of PublicTest in which YuNet finds one face")
    names = [-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2]
    print("| artifact | " + " | ".join(f"{m:+.2f}" for m in names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for path in released():
        model = artifact.load(path)
        cells = []
        for margin in names:
            crops = np.stack([crop_face(image, box, margin, model.metadata.input_size) for image, box, _ in found])
            answers = [model(torch.from_numpy(part).permute(0, 3, 1, 2)) for part in np.array_split(crops, 20)]
            cells.append(f"{float((torch.cat(answers).argmax(1).numpy() == labels).mean()):.1%}")
        print(f"| `{path.name}` | {' | '.join(cells)} |", flush=True)


def seeds(numbers: list[int]) -> None:
    found: list[dict[str, float]] = []
    for seed in numbers:
        with tempfile.TemporaryDirectory() as folder:
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                overrides = ["experiment=fer2013_cheap", f"seed={seed}", "logger=csv", f"run_dir='{folder}'"]
                cfg = compose("train", [*overrides, "callbacks.progress=null", "evaluate.test=false"])
            found.append(experiment.run(cfg))
            print(seed, {k: round(v, 4) for k, v in found[-1].items() if k.startswith("val/a")}, flush=True)
    for name in ("val/accuracy", "val/accuracy_flip", "val/f1_macro", "val/ece"):
        values = [metrics[name] for metrics in found]
        print(f"{name}: {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} over {len(values)} seeds")


def pack(path: Path) -> Path:
    """Compress the zip archive that a TorchScript file is; `torch.jit.load` reads it as before."""
    with zipfile.ZipFile(path) as plain, atomic_write(path) as part, zipfile.ZipFile(part, "w") as packed:
        for name in plain.namelist():
            packed.writestr(zipfile.ZipInfo(name), plain.read(name), zipfile.ZIP_DEFLATED, 9)
    trust.add(path)  # its digest is another one now
    return path


def release(run: Path, name: str) -> None:
    path = WEIGHTS / f"{name}.ts"
    checkpoint = run / "checkpoints" / "best.ckpt"
    backbone, metadata, _ = from_checkpoint(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        found = report.judge(checkpoints.load(str(checkpoint)), data(), Path(folder), test=True)
    values = {**metadata.__dict__, "metrics": metadata.metrics | found}
    for weight in backbone.parameters():
        weight.data = weight.data.half().float()  # the zeros at the ends of the numbers are what `pack` saves
    pack(artifact.save(backbone, artifact.Metadata(**values), path))
    insert(path.with_suffix(".md"), card(artifact.read_metadata(path)))
    for key in ("accuracy", "accuracy_flip", "accuracy_without_duplicates", "f1_macro", "ece"):
        print(f"{name} test/{key}: {found[f'test/{key}']:.4f}")


def ensemble(paths: list[Path], scales: list[float]) -> None:
    splits = data()
    trust.accept(map(str, paths))
    with tempfile.TemporaryDirectory() as folder:
        draft = save_ensemble(paths, Path(folder) / "draft.ts", flip=True, scales=scales)
        (candidates,) = predict.load_models([str(draft)], "cpu")
        said = {name: predictions_of(candidates, splits[name]) for name in ("val", "test")}
    temperature = scores.fit_temperature(said["val"].logits, splits["val"].labels)
    metrics = {"val/temperature": temperature, "members": float(len(paths))}
    renamed = {"flip": "accuracy_flip", "without_duplicates": "accuracy_without_duplicates", "error": "accuracy_error"}
    for name, draft_predictions in said.items():
        answers = replace(draft_predictions, temperature=temperature)
        found = figures(answers, splits[name], splits["train"], flip=True)
        found["ece_raw"] = scores.ece(answers.raw, splits[name].labels)
        metrics |= {f"{name}/{renamed.get(key, key)}": value for key, value in found.items()}
    out = pack(save_ensemble(paths, WEIGHTS / "ensemble.ts", temperature, metrics, flip=True, scales=scales))
    insert(out.with_suffix(".md"), card(artifact.read_metadata(out)))
    for key in ("accuracy", "accuracy_flip", "accuracy_without_duplicates", "f1_macro", "ece"):
        print(f"ensemble test/{key}: {metrics[f'test/{key}']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (table, exports, reproduce, margins):
        commands.add_parser(command.__name__).set_defaults(run=lambda _, command=command: command())
    several = commands.add_parser("seeds")
    several.add_argument("numbers", type=int, nargs="+")
    several.set_defaults(run=lambda given: seeds(given.numbers))
    again = commands.add_parser("first-epoch")
    again.add_argument("model", type=Path)
    again.set_defaults(run=lambda given: print(first_epoch(given.model)))
    one = commands.add_parser("release")
    one.add_argument("run_folder", type=Path)
    one.add_argument("name")
    one.set_defaults(run=lambda given: release(given.run_folder, given.name))
    mean = commands.add_parser("ensemble")
    mean.add_argument("models", type=Path, nargs="+")
    mean.add_argument("--scales", type=float, nargs="+", default=[1.0])
    mean.set_defaults(run=lambda given: ensemble(given.models, given.scales))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
