"""Evaluate checkpoints and artifacts on any dataset and split, alone or side by side.

    python -m fer.evaluate models=runs/…/checkpoints/best.ckpt split=val
    python -m fer.evaluate models=[a.ts,b.ts] average=true
    python -m fer.evaluate models=[fast,accurate] data.votes=fer2013new.csv also=[press,posed]

`python -m fer.evaluate --help` lists every key.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from fer import config
from fer.artifact import trust
from fer.artifact.ensemble import check_compatible, save_ensemble
from fer.artifact.export import export, from_checkpoint
from fer.checks import check_choice, check_flag, check_number, paths_of
from fer.data import votes
from fer.data.base import Split, duplicates
from fer.data.folder import read_each
from fer.errors import ConfigError, DataError
from fer.evaluate import classes, predict, report, robustness
from fer.evaluate.predict import AVERAGE, Model, Predictions
from fer.metrics import fit_temperature


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate as `conf/evaluate.yaml` describes.

    Returns:
        The contents of `metrics.json`: those of `report.compare`, and `data`, `split`, `images`, `without_duplicates`
        and, if models and data differ in classes, `note`.

    Raises:
        FerError: A value, a model or the data cannot be used.
    """
    models = _models(cfg)
    splits = config.reader(cfg.data.reader)()
    if cfg.data.votes is not None:
        splits = votes.attach(splits, votes.read(cfg.data.votes), cfg.data.votes)
    _check_seed(models, splits, cfg)
    sets, notes = _restricted(models, _sets(splits, models, cfg))
    for note in notes:
        print(note, file=sys.stderr)
    split = sets[cfg.split]
    temperatures = _temperatures(models, _for_temperatures(splits, split.classes), cfg.average)
    models = [replace(model, temperature=temperatures[model.name]) for model in models]
    predictions = {
        name: _predict(_on(models, judged), judged, temperatures, cfg.average) for name, judged in sets.items()
    }
    extra: dict[str, dict[str, float]] = {
        model.name: {"parameters": model.metadata.parameters, "macs": model.metadata.macs} for model in models
    }
    if cfg.average:
        extra[AVERAGE] = {key: sum(costs[key] for costs in extra.values()) for key in ("parameters", "macs")}
    if cfg.robustness:
        logits_of = partial(predict.logits_of_all, _on(models, split), average=cfg.average)
        for name, accuracies in robustness.evaluate(logits_of, split.images, split.labels, cfg.seed).items():
            extra[name] |= accuracies
    about = {"data": cfg.data.name, "split": cfg.split, "images": len(split)}
    result: dict[str, Any] = about | {"without_duplicates": cfg.without_duplicates}
    if notes:
        result["note"] = "\n\n".join(notes)
    result |= report.compare(predictions, extra, {name: judged.classes for name, judged in sets.items()})
    out = Path(cfg.out)
    report.write(result, predictions, sets, out)
    if cfg.average:
        metrics = {f"{cfg.split}/{key}": value for key, value in result["models"][AVERAGE].items()}
        _export(models, temperatures[AVERAGE], metrics, out / "average.ts")
    return result


def _models(cfg: DictConfig) -> list[Model]:
    """Check all values except those of the data, and load the models."""
    for name in ("without_duplicates", "average", "robustness", "trust"):
        check_flag(name, cfg[name])
    check_number("seed", cfg.seed, 0, 2**32 - 1, whole=True)
    check_number("threads", cfg.threads, 1, 4096, whole=True, optional=True)
    paths = paths_of("models", cfg.models)
    if not paths:
        raise ConfigError("models= names no model; give a best.ckpt, a model.ts, a list [a.ts,b.ts] or fast")
    if cfg.average and len(paths) < 2:
        raise ConfigError("average=true needs two models or more; give models=[a.ts,b.ts]")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    if cfg.trust:
        trust.accept(paths)
    models = predict.load_models(paths, cfg.device, [AVERAGE] if cfg.average else [])
    if cfg.average:
        check_compatible([(model.path, model.metadata) for model in models])
    return models


def _check_seed(models: Sequence[Model], splits: dict[str, Split], cfg: DictConfig) -> None:
    """Warn if an image folder is split by another seed than in training: training images would be evaluated."""
    for model in models:
        data, seed = model.metadata.data, model.metadata.config.get("seed", cfg.seed)
        folders = cfg.data.name == "image_folder" == data.get("name") and "train" in splits and seed != cfg.seed
        if folders and data.get("fingerprint") != splits["train"].fingerprint:
            text = "set the same seed, or training images are evaluated (unless the folder has split folders)"
            print(f"{model.name} was trained with seed={seed}: {text}", file=sys.stderr)


def _split(splits: dict[str, Split], name: str, without_duplicates: bool) -> Split:
    check_choice("split", name, ("train", "val", "test"))
    if name not in splits:
        raise DataError(f"the data has {', '.join(splits)} but no {name}; set split={next(iter(splits))}")
    split = splits[name]
    if without_duplicates:
        needed = ("val", "test") if name == "train" else ("train",)
        others = [splits[other] for other in needed if other in splits]
        if not others:
            raise DataError(f"the data has no {' or '.join(needed)} to compare with; set without_duplicates=false")
        split = split.only(~duplicates(split, others))
    if not len(split):
        fix = "set without_duplicates=false" if len(splits[name]) else "add some"
        raise DataError(f"split={name} has no images to evaluate; {fix}")
    return split


def _sets(splits: dict[str, Split], models: Sequence[Model], cfg: DictConfig) -> dict[str, Split]:
    """Return what is to be judged: the split, the split by the majority of its votes, and the folders of `also`."""
    sets = {cfg.split: _split(splits, cfg.split, cfg.without_duplicates)}
    if sets[cfg.split].majority is not None and (agreed := sets[cfg.split].by_majority()):
        sets[f"{cfg.split}_votes"] = agreed
    size, channels = (max(getattr(model.metadata, key) for model in models) for key in ("input_size", "channels"))
    return sets | read_each("also", paths_of("also", cfg.also), size, channels, sets)


def _restricted(models: Sequence[Model], sets: dict[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Return the images of the classes that all models know, and sentences on what is left out."""
    result: dict[str, Split] = {}
    notes = []
    known = [(model.path, model.metadata.classes) for model in models]
    for name, split in sets.items():
        shared = classes.shared(known, split.classes, name if result else "the data")
        if note := classes.note(models, split, shared):
            notes.append(f"{name}: {note}" if result else note)
        result[name] = classes.only(split, shared)
        if not result[name]:
            where = f"split={name}" if len(result) == 1 else name
            raise DataError(f"{where} has no images of {', '.join(shared)}; add some")
    return result, notes


def _on(models: Sequence[Model], split: Split) -> list[Model]:
    return [classes.restrict(model, split.classes) for model in models]


def _for_temperatures(splits: dict[str, Split], kept: Sequence[str]) -> dict[str, Split]:
    """Return val by its labels and by the majority of its votes, as far as they are there and have images of `kept`."""
    found = {"val": splits["val"]} if "val" in splits else {}
    if found and found["val"].majority is not None:
        found["val_votes"] = found["val"].by_majority()
    found = {name: classes.only(split, kept) for name, split in found.items()}
    return {name: split for name, split in found.items() if len(split)}


def _temperatures(models: Sequence[Model], fits: dict[str, Split], average: bool) -> dict[str, float]:
    """Return the temperatures of models, and of their average, by name.

    Those of artifacts are their own. Those of checkpoints are fitted as at the end of their run, on val by its labels
    or, if votes were monitored, by their majority. Without these, they are those of the run.
    """
    result: dict[str, float] = {}
    monitored = ""
    for model in models:
        by_votes = model.metadata.config.get("monitor", "").startswith("val_votes/")
        monitored = "val_votes" if by_votes else "val"
        if model.temperature is not None:
            result[model.name] = model.temperature
        elif split := fits.get(monitored):
            (logits,) = predict.logits_of_all(_on([model], split), split.images, False).values()
            result[model.name] = fit_temperature(logits, split.labels)
        else:
            result[model.name] = from_checkpoint(model.path, flip=False)[1].temperature
            print(f"no {monitored} to fit the temperature of {model.name}: that of its run, else 1", file=sys.stderr)
    if average:
        models = [replace(model, temperature=result[model.name]) for model in models]
        result[AVERAGE] = 1.0
        if split := fits.get(monitored, fits.get("val")):
            mean = predict.logits_of_all(_on(models, split), split.images, True)[AVERAGE]
            result[AVERAGE] = fit_temperature(mean, split.labels)
        else:
            print(f"no {monitored} to fit the temperature of {AVERAGE}, which is 1", file=sys.stderr)
    return result


def _predict(
    models: Sequence[Model], split: Split, temperatures: dict[str, float], average: bool
) -> dict[str, Predictions]:
    plain, mirrored = (predict.logits_of_all(models, split.images, average, flip) for flip in (False, True))
    averaging = {model.name for model in models if model.metadata.flip}
    return {n: Predictions(plain[n], mirrored[n], split.labels, t, n in averaging) for n, t in temperatures.items()}


def _export(models: Sequence[Model], temperature: float, metrics: dict[str, float], out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            export(m.path, Path(folder) / f"{n}.ts", format="torchscript", flip=False, temperature=m.temperature)
            if m.path.suffix == ".ckpt"
            else m.path
            for n, m in enumerate(models)
        ]
        save_ensemble(paths, out, temperature, metrics)
