"""What models are judged on: a split of the data, the same by the majority of its votes, and the sets of `also`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from fer import config
from fer.checks import check_choice, check_path
from fer.data import folder
from fer.data.base import Split, duplicates
from fer.errors import ConfigError, DataError
from fer.evaluate import classes
from fer.evaluate.predict import Model
from fer.files import expand

SPLITS = ("train", "val", "test")
_OFFICIAL = {"fer2013": "val"}
"""The split of a dataset that is judged unless another is asked for, where it is not test."""


def of_data(splits: dict[str, Split], name: str, without_duplicates: bool) -> dict[str, Split]:
    """Return a split by its name and, as `<name>_votes`, the same by the majority of its votes if it has one.

    Args:
        splits: The data.
        name: train, val or test.
        without_duplicates: Leave out images that are also in train, or for train in val or test.

    Raises:
        ConfigError: The name is unknown.
        DataError: There is no such split, or no image is left in it.
    """
    check_choice("split", name, SPLITS)
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
    agreed = None if split.majority is None else split.by_majority()
    return {name: split} | ({f"{name}_votes": agreed} if agreed else {})


def of_also(also: Any, models: Sequence[Model], crop: str | None, seed: int, taken: Sequence[str]) -> dict[str, Split]:
    """Return the sets of `also=` by their names: those of their folders, with as many parents as tell them apart.

    Args:
        also: A folder, or a list of folders, each a path or {root: path, data: name of a dataset in conf/data, split:
            train, val, test or all, and further values of the dataset}. Without a split, it is test, else val, else all
            images; of FER-2013, it is val.
        models: Decide the size of the images and whether they are in colour.
        crop: As in `folder.read`.
        seed: Of the cut, for datasets without official splits.
        taken: Names that no set may get.

    Raises:
        ConfigError: An entry is of the wrong form, or is given twice.
        DataError: A set cannot be read.
    """
    check_choice("crop", crop, (None, "auto"))
    entries = list(also) if isinstance(also, list | ListConfig) else [] if also is None else [also]
    size, channels = (max(getattr(model.metadata, key) for model in models) for key in ("input_size", "channels"))
    common = {"size": size, "channels": channels, "crop": crop}
    given = [_entry(entry) for entry in entries]
    places = [entry | {"root": _place(entry)} for entry in given]
    for k, entry in enumerate(given):
        if places[k] in places[:k]:
            raise ConfigError(f"also={entry.get('root', entry.get('data'))} is given twice; leave one out")
    names = _names(given, taken)
    return {name: _read(entry, common, seed) for name, entry in zip(names, given, strict=True)}


def _entry(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Mapping | DictConfig):
        values = {str(key): value for key, value in entry.items()}
        if not {"root", "data"} & values.keys():
            raise ConfigError(f"also={entry} names neither a root nor a dataset; give {{root: faces}} or {{data: …}}")
    else:
        values = {"root": entry}
    if "root" in values:
        check_path("also", values["root"], optional=False)
    if "split" in values:
        check_choice("split of also", values["split"], (*SPLITS, "all"))
    return values


def _place(entry: Mapping[str, Any]) -> Path:
    return expand(entry["root"]).resolve() if "root" in entry else Path("/", str(entry["data"]))


def _names(entries: Sequence[dict[str, Any]], taken: Sequence[str]) -> list[str]:
    parts = [_place(entry).parts[1:] for entry in entries]
    ends = [f"/{entry['split']}" if "split" in entry else "" for entry in entries]
    names = []
    for own, end in zip(parts, ends, strict=True):
        others = [*(other for other in parts if other != own), *((name,) for name in taken)]
        depth = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names.append("/".join(own[-depth:]) + end)
    for k, name in enumerate(names):
        while names[k] in (*names[:k], *taken):
            names[k] = name = f"{name}'"
    return names


def _read(entry: dict[str, Any], common: dict[str, Any], seed: int) -> Split:
    values = dict(entry)
    split, dataset = values.pop("split", None), values.pop("data", None)
    if dataset is None:
        if unknown := values.keys() - {"root", *common}:
            known = ", ".join(("root", "data", "split", *common))
            raise ConfigError(f"also={entry['root']}: {min(unknown)} is not a key; choose from {known}")
        return folder.read_part("also", values.pop("root"), split, **(common | values))
    splits = _reader(str(dataset), values, common | {"seed": seed})()
    if split == "all":
        each = list(splits.values())
        images, truth = np.concatenate([one.images for one in each]), np.concatenate([one.labels for one in each])
        return Split(images, truth, each[0].classes)
    wanted = split or _OFFICIAL.get(dataset, "test")
    if wanted not in splits:
        raise DataError(f"also={dataset} has {', '.join(splits)} but no {wanted}; give split: {next(iter(splits))}")
    return splits[wanted]


def _reader(dataset: str, values: dict[str, Any], defaults: dict[str, Any]) -> Callable[[], dict[str, Split]]:
    """Return the reader of a config in conf/data, with the values given and, where it has such keys, `defaults`."""
    files = {path.stem: path for path in sorted((config.CONF / "data").glob("*.yaml"))}
    check_choice("data of also", dataset, [name for name in files if name not in ("mixture", "none")])
    data: Any = OmegaConf.load(files[dataset])
    known = [key for key in data if key not in ("name", "reader")]
    if unknown := values.keys() - known:
        raise ConfigError(f"also={dataset}: {min(unknown)} is not a key; choose from {', '.join(('split', *known))}")
    data.update({key: value for key, value in defaults.items() if key in known} | values)
    return config.reader(OmegaConf.create({"data": data, **defaults}).data.reader)


def restricted(models: Sequence[Model], sets: Mapping[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Return the images of the classes that all models know, and sentences on what is left out."""
    result: dict[str, Split] = {}
    notes: dict[str, list[str]] = {}  # the names of the sets for which each holds
    known = [(model.path, model.metadata.classes) for model in models]
    for name, split in sets.items():
        shared = classes.shared(known, split.classes, "the data" if name in SPLITS else name)
        if note := classes.note(models, split, shared):
            notes.setdefault(note, []).append(name)
        result[name] = classes.only(split, shared)
        if not result[name]:
            where = f"split={name}" if name in SPLITS else name
            raise DataError(f"{where} has no images of {', '.join(shared)}; add some")
    return result, [f"{', '.join(names)}: {note}" for note, names in notes.items()]
