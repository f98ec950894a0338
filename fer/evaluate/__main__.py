"""Judge checkpoints and artifacts on any dataset and split, alone or side by side.

    python -m fer.evaluate models=runs/…/checkpoints/best.ckpt split=val
    python -m fer.evaluate models=[a.ts,b.ts] average=true

`python -m fer.evaluate --help` lists every key.
"""

import itertools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig

from fer import artifact
from fer import config as targets
from fer import metrics as scores
from fer.artifact import trust
from fer.artifact.ensemble import check_compatible, save_ensemble
from fer.artifact.export import from_checkpoint
from fer.data.base import Split, duplicates
from fer.errors import ConfigError, DataError, SinkError
from fer.evaluate import predict
from fer.evaluate import report as comparison
from fer.evaluate.predict import Model, Predictions
from fer.evaluate.robustness import CORRUPTIONS, STRENGTHS, corrupted
from fer.values import check_values

AVERAGE = "average"


def run(cfg: DictConfig) -> dict[str, Any]:
    """Judge as `conf/evaluate.yaml` says; returns what `metrics.json` holds.

    models: by name, the flat figures of each (0 to 1, but losses and temperature). mcnemar: for each pair, how many
    images only `first` and only `second` gets right, and p. data, split, images, without_duplicates: what they were judged on.
    Raises `FerError`.
    """
    check_values(cfg)
    for name in ("without_duplicates", "average", "robustness"):
        if not isinstance(cfg[name], bool):
            raise ConfigError(f"{name}={cfg[name]} must be true or false")
    paths = _paths(cfg)
    device = _device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    if cfg.average and len(paths) < 2:
        raise ConfigError("average=true needs two models or more; give models=[a.ts,b.ts]")
    if cfg.trust:
        trust.accept(paths)
    entered = predict.load_models(paths, device, [AVERAGE] if cfg.average else [])
    if cfg.average:
        check_compatible([(contender.path, contender.metadata) for contender in entered])
    splits = targets.reader(cfg.data.reader)()
    _check_classes(entered, splits["train"])
    split = _split(splits, cfg.split, cfg.without_duplicates)
    _warn_of_seen_images(entered, splits["train"], cfg)

    answers: dict[str, Predictions] = {}
    on_val: dict[str, np.ndarray] = {}
    for contender in entered:
        logits = contender.logits(split.images)
        plain = cfg.split == "val" and not cfg.without_duplicates
        if contender.temperature is None or cfg.average:
            on_val[contender.name] = logits if plain else contender.logits(splits["val"].images)
        temperature = contender.temperature or predict.fitted(on_val[contender.name], splits["val"])
        answers[contender.name] = Predictions(logits, contender.logits(split.images, flip=True), temperature)
    if cfg.average:
        answers[AVERAGE] = _mean(answers, on_val, splits["val"])

    report = {name: _figures(answer, split, cfg) for name, answer in answers.items()}
    for contender in entered:
        report[contender.name] |= {"parameters": contender.metadata.parameters, "macs": contender.metadata.macs}
    if cfg.average:
        report[AVERAGE] |= {k: sum(report[c.name][k] for c in entered) for k in ("parameters", "macs")}
    if cfg.robustness:
        for name, found in _robustness(entered, answers, split, cfg.seed, cfg.average).items():
            report[name] |= found
    right = {name: answer.calibrated.argmax(1) == split.labels for name, answer in answers.items()}
    pairs = [
        {"first": a, "second": b, "only_first": only_a, "only_second": only_b, "p": p}
        for a, b in itertools.combinations(answers, 2)
        for only_a, only_b, p in [scores.mcnemar(right[a], right[b])]
    ]
    about = {
        "data": cfg.data.name,
        "split": cfg.split,
        "images": len(split),
        "without_duplicates": cfg.without_duplicates,
    }
    result = about | {"models": report, "mcnemar": pairs}
    out = Path(cfg.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        comparison.write(result, answers, split, out)
    except OSError as error:
        raise SinkError(f"cannot write into {out} ({error.strerror or error}); set hydra.run.dir") from None
    if cfg.average:
        _export(entered, answers, report[AVERAGE], cfg.split, out / "average.ts")
    return result


def _paths(cfg: DictConfig) -> list[str]:
    paths = list(cfg.models) if isinstance(cfg.models, ListConfig) else [cfg.models]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError("models= names nothing to judge; give a best.ckpt, a model.ts, a list [a.ts,b.ts] or bundled")
    return paths


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={name} is unknown; choose auto, cpu or cuda")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ConfigError("device=cuda, but PyTorch finds no GPU here; set device=cpu")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def _check_classes(entered: list[Model], train: Split) -> None:
    for contender in entered:
        if contender.metadata.classes != train.classes:
            theirs = ", ".join(contender.metadata.classes)
            raise ConfigError(f"{contender.path} knows {theirs}, but the data has {', '.join(train.classes)}")


def _warn_of_seen_images(entered: list[Model], train: Split, cfg: DictConfig) -> None:
    """An image folder is cut by its seed, and with another one the images of training are judged."""
    for contender in entered:
        data, seed = contender.metadata.data, contender.metadata.config.get("seed", cfg.seed)
        same = data.get("fingerprint") == train.fingerprint
        if cfg.data.name == "image_folder" == data.get("name") and not same and seed != cfg.seed:
            print(
                f"{contender.name} was trained with seed={seed}: if this folder has no split folders, set the same, or "
                f"images that it was trained on are judged",
                file=sys.stderr,
            )


def _split(splits: dict[str, Split], name: str, without_duplicates: bool) -> Split:
    if not isinstance(name, str) or name not in splits:
        raise ConfigError(f"split={name} is unknown; choose one of {', '.join(splits)}")
    split = splits[name]
    if without_duplicates:
        others = [splits[other] for other in (("val", "test") if name == "train" else ("train",))]
        split = split.only(~duplicates(split, others))
    if not len(splits["val"]):
        raise DataError("the val split is empty, and temperatures are fitted on it; add images to it")
    if not len(split):
        why = (
            "has no image without a twin; set without_duplicates=false"
            if without_duplicates
            else "is empty; choose another"
        )
        raise DataError(f"split={name} {why}")
    return split


def _mean(answers: dict[str, Predictions], on_val: dict[str, np.ndarray], val: Split) -> Predictions:
    """The mean of the calibrated probabilities, calibrated again."""
    members = answers.values()
    temperatures = [member.temperature for member in members]
    on = [predict.softmax(v / t) for v, t in zip(on_val.values(), temperatures, strict=True)]
    mirrored = [predict.softmax(member.mirrored / member.temperature) for member in members]
    return Predictions(
        predict.mean_logits([member.calibrated for member in members]),
        predict.mean_logits(mirrored),
        predict.fitted(predict.mean_logits(on), val),
    )


def _figures(answer: Predictions, split: Split, cfg: DictConfig) -> dict[str, float]:
    labels, calibrated, raw = split.labels, answer.calibrated, answer.raw
    right = calibrated.argmax(1) == labels
    found = scores.compute(calibrated, labels, split.classes)
    found["accuracy_low"], found["accuracy_high"] = scores.interval(right)
    found["accuracy_flip"] = float((answer.both.argmax(1) == labels).mean())
    found["temperature"] = answer.temperature
    for name, probabilities in (("_raw", raw), ("", calibrated)):
        found[f"ece{name}"] = scores.ece(probabilities, labels)
        found[f"nll{name}"] = scores.nll(probabilities, labels)
    found |= {f"support/{label}": float(n) for label, n in zip(split.classes, split.counts(), strict=True)}
    return found


def _robustness(
    entered: list[Model], answers: dict[str, Predictions], split: Split, seed: int, average: bool
) -> dict[str, dict[str, float]]:
    """Accuracy of every model under every corruption and strength, and the mean of them all."""
    found: dict[str, dict[str, float]] = {name: {} for name in answers}
    for corruption, strength in itertools.product(CORRUPTIONS, STRENGTHS):
        images = corrupted(split.images, corruption, strength, seed)
        said = {c.name: predict.softmax(c.logits(images) / answers[c.name].temperature) for c in entered}
        if average:
            said[AVERAGE] = predict.mean_logits(list(said.values()))
        for name, values in said.items():
            accuracy = float((values.argmax(1) == split.labels).mean())
            found[name][f"robustness/{corruption.replace(' ', '_')}/{strength}"] = accuracy
    for figures in found.values():
        figures["robustness/mean"] = float(np.mean(list(figures.values())))
    return found


def _export(
    entered: list[Model], answers: dict[str, Predictions], figures: dict[str, float], split: str, out: Path
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, contender in enumerate(entered):
            path = contender.path
            if path.suffix == ".ckpt":
                backbone, metadata, _ = from_checkpoint(path, flip=False)
                metadata = replace(metadata, temperature=answers[contender.name].temperature)
                path = artifact.save(backbone, metadata, Path(folder) / f"{number}.ts")
            paths.append(path)
        metrics = {f"{split}/{name}": value for name, value in figures.items()}
        save_ensemble(paths, out, answers[AVERAGE].temperature, metrics)


main = targets.program("evaluate", run)

if __name__ == "__main__":
    main()
