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
from fer.checks import check_flag, check_number, paths_of
from fer.data import votes
from fer.data.base import Split
from fer.data.folder import DATASETS
from fer.errors import ConfigError, DataError
from fer.evaluate import classes, compare, predict, robustness, sets
from fer.evaluate.predict import AVERAGE, Model
from fer.metrics import fit_temperature


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate as `conf/evaluate.yaml` describes.

    Returns:
        The contents of `metrics.json`: those of `compare.compare`, and `data`, `split`, `images`, `without_duplicates`
        and, if models and data differ in classes, `note`. With `data=none`, `data` is the first set of `also`.

    Raises:
        FerError: A value, a model or the data cannot be used.
    """
    models = _models(cfg)
    splits = _splits(cfg)
    _check_seed(models, splits, cfg)
    given = sets.of_data(splits, cfg.split, cfg.without_duplicates) if splits else {}
    given |= sets.of_also(cfg.also, models, cfg.crop, cfg.seed, list(given))
    judged, notes = sets.restricted(models, given)
    for note in notes:
        print(note, file=sys.stderr)
    first, split = next(iter(judged.items()))
    temperatures = _temperatures(models, _for_temperatures(splits, split.classes), cfg.average)
    models = [replace(model, temperature=temperatures[model.name]) for model in models]
    predictions = {
        name: predict.predict(_on(models, each), each, temperatures, cfg.average) for name, each in judged.items()
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
    about = {"data": cfg.data.name, "split": cfg.split} if splits else {"data": first, "split": None}
    result: dict[str, Any] = about | {"images": len(split), "without_duplicates": cfg.without_duplicates}
    if notes:
        result["note"] = "\n\n".join(notes)
    result |= compare.compare(predictions, extra, {name: each.classes for name, each in judged.items()})
    out = Path(cfg.out)
    compare.write(result, predictions, judged, out)
    if cfg.average:
        metrics = {f"{first}/{key}": value for key, value in result["models"][AVERAGE].items()}
        _export(models, temperatures[AVERAGE], metrics, out / "average.ts")
    return result


def _splits(cfg: DictConfig) -> dict[str, Split]:
    """Read the data, with its votes; nothing with `data=none`, where `also` says what is judged."""
    if cfg.data.get("reader") is None:
        if not cfg.also:
            raise ConfigError("data=none leaves nothing to judge; give also=[folder], or data=fer2013")
        if cfg.data.votes is not None or cfg.without_duplicates:
            key = "without_duplicates" if cfg.data.votes is None else "data.votes"
            raise ConfigError(f"{key} is for the data, of which there is none; leave it out or choose the data")
        return {}
    try:
        splits = config.reader(cfg.data.reader)()
    except DataError as error:
        if cfg.also:
            raise DataError(f"{error}; or data=none, to judge on the sets of also= alone") from None
        raise
    if cfg.data.votes is not None:
        splits = votes.attach(splits, votes.read(cfg.data.votes), cfg.data.votes)
    return splits


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
    """Warn if data is split by another seed than in training: training images would be evaluated."""
    for model in models:
        data, seed = model.metadata.data, model.metadata.config.get("seed", cfg.seed)
        cut = data.get("name") in ("image_folder", *DATASETS) and data["name"] == cfg.data.get("name")
        differs = cut and seed != cfg.seed and "train" in splits
        if differs and data.get("fingerprint") != splits["train"].fingerprint:
            text = "set the same seed, or training images are evaluated (unless the data has splits of its own)"
            print(f"{model.name} was trained with seed={seed}: {text}", file=sys.stderr)


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


def _export(models: Sequence[Model], temperature: float, metrics: dict[str, float], out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            export(m.path, Path(folder) / f"{n}.ts", format="torchscript", flip=False, temperature=m.temperature)
            if m.path.suffix == ".ckpt"
            else m.path
            for n, m in enumerate(models)
        ]
        save_ensemble(paths, out, temperature, metrics)
