"""Judge models on the classes that they share with the data: a model without contempt on images of eight emotions.

Images of other classes are left out. Probabilities of classes that the data or another model lacks are removed, and the
rest are renormalised. Names are compared as `fer.labels.key` says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from fer import labels
from fer.data.base import Split
from fer.errors import ConfigError
from fer.evaluate.predict import Model


def shared(
    known: Iterable[tuple[object, Sequence[str]]], classes: Sequence[str], data: str = "the data"
) -> tuple[str, ...]:
    """Return those of the classes of `data` that all others know, each given as its name or path and its classes.

    Raises:
        ConfigError: They are fewer than two.
    """
    result = list(classes)
    for owner, own in known:
        keys = {labels.key(name) for name in own}
        result = [name for name in result if labels.key(name) in keys]
        if len(result) < 2:
            both = f"{', '.join(own)}, but {data} has {', '.join(classes)}"
            raise ConfigError(f"{owner} has the classes {both}; fewer than two are known to all")
    return tuple(result)


def restrict(model: Model, classes: Sequence[str]) -> Model:
    """Return the model with logits of `classes` only, in their order."""
    own = [labels.key(name) for name in model.metadata.classes]
    columns = [own.index(labels.key(name)) for name in classes]
    return model if columns == list(range(len(own))) else replace(model, columns=columns)


def only(split: Split, classes: Sequence[str]) -> Split:
    """Return the images of `classes`, with labels in their order."""
    if split.classes == tuple(classes):
        return split
    numbers = np.array([classes.index(name) if name in classes else -1 for name in split.classes])
    kept = replace(split, targets=None, majority=None).only(numbers[split.labels] >= 0)
    return replace(kept, labels=numbers[kept.labels], classes=tuple(classes))


def note(models: Sequence[Model], split: Split, classes: Sequence[str]) -> str:
    """Return a sentence that says what is left out of `split` and of the models' answers, or ""."""
    other = {name: n for name, n in zip(split.classes, split.counts(), strict=True) if name not in classes}
    keys = {labels.key(name) for name in classes}
    unused = dict.fromkeys(n for model in models for n in model.metadata.classes if labels.key(n) not in keys)
    parts = []
    if other:
        count = f"{sum(other.values()):,} of {len(split):,} images"
        parts.append(f"{count} are left out, those of {', '.join(other)}")
    if unused:
        removed = f"probabilities of {', '.join(unused)} are removed and the rest renormalised"
        parts.append(f"{removed}, but for figures as answered, where such answers are wrong")
    return f"judged on the {len(classes)} classes that all share: {'; '.join(parts)}" if parts else ""
