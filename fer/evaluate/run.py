"""Evaluate checkpoints and artifacts on any dataset and split, alone or side by side.

    python -m fer.evaluate models=runs/…/checkpoints/best.ckpt split=val
    python -m fer.evaluate models=[a.ts,b.ts] average=true

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
from omegaconf import DictConfig, ListConfig

from fer import config
from fer.artifact import trust
from fer.artifact.ensemble import check_compatible, save_ensemble
from fer.artifact.export import export, from_checkpoint
from fer.checks import check_choice, check_flag, check_number
from fer.data.base import Split, duplicates
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
    _check_seed(models, splits, cfg)
    split, val = _split(splits, cfg.split, cfg.without_duplicates), splits.get("val")
    shared = classes.shared(models, split.classes)
    if note := classes.note(models, split, shared):
        print(note, file=sys.stderr)
    models = [classes.restrict(model, shared) for model in models]
    split = classes.only(split, shared)
    if not len(split):
        raise DataError(f"split={cfg.split} has no images of {', '.join(shared)}; add some")
    if val is not None:
        val = classes.only(val, shared)
        val = val if len(val) else None
    models = _calibrated(models, val, cfg.average)
    predictions = _predict(models, split, val, cfg.average)
    extra: dict[str, dict[str, float]] = {
        model.name: {"parameters": model.metadata.parameters, "macs": model.metadata.macs} for model in models
    }
    if cfg.average:
        extra[AVERAGE] = {key: sum(costs[key] for costs in extra.values()) for key in ("parameters", "macs")}
    if cfg.robustness:
        logits_of = partial(predict.logits_of_all, models, average=cfg.average)
        for name, accuracies in robustness.evaluate(logits_of, split.images, split.labels, cfg.seed).items():
            extra[name] |= accuracies
    result = report.compare(predictions, extra, split.classes)
    about = {"data": cfg.data.name, "split": cfg.split, "images": len(split)}
    result = about | {"without_duplicates": cfg.without_duplicates} | ({"note": note} if note else {}) | result
    out = Path(cfg.out)
    report.write(result, predictions, split, out)
    if cfg.average:
        metrics = {f"{cfg.split}/{key}": value for key, value in result["models"][AVERAGE].items()}
        _export(models, predictions[AVERAGE].temperature, metrics, out / "average.ts")
    return result


def _models(cfg: DictConfig) -> list[Model]:
    """Check all values except those of the data, and load the models."""
    for name in ("without_duplicates", "average", "robustness", "trust"):
        check_flag(name, cfg[name])
    check_number("seed", cfg.seed, 0, 2**32 - 1, whole=True)
    check_number("threads", cfg.threads, 1, 4096, whole=True, optional=True)
    paths = list(cfg.models) if isinstance(cfg.models, ListConfig) else [cfg.models]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError("models= names no model; give a best.ckpt, a model.ts, a list [a.ts,b.ts] or bundled")
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


def _calibrated(models: Sequence[Model], val: Split | None, average: bool) -> list[Model]:
    """Return the models with temperatures: of checkpoints, fitted on val or, without val, those of their runs."""
    if val is not None:
        fitted = {
            model.name: fit_temperature(predict.logits_of_all([model], val.images, False)[model.name], val.labels)
            for model in models
            if model.temperature is None
        }
    else:
        fitted = {m.name: from_checkpoint(m.path, flip=False)[1].temperature for m in models if m.temperature is None}
        if names := [*fitted, *[AVERAGE] * average]:
            print(f"no val to fit the temperature of {', '.join(names)}: that of the run, else 1", file=sys.stderr)
    return [replace(model, temperature=fitted.get(model.name, model.temperature)) for model in models]


def _predict(models: Sequence[Model], split: Split, val: Split | None, average: bool) -> dict[str, Predictions]:
    temperatures = {model.name: model.temperature or 1.0 for model in models} | ({AVERAGE: 1.0} if average else {})
    plain, mirrored = (predict.logits_of_all(models, split.images, average, flip) for flip in (False, True))
    if average and val is not None:
        on_val = plain if split is val else predict.logits_of_all(models, val.images, average)
        temperatures[AVERAGE] = fit_temperature(on_val[AVERAGE], val.labels)
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
