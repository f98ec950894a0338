"""RAF-DB (Li et al. 2017, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in
the Wild") as it is distributed: EmoLabel/list_patition_label.txt beside Image/aligned/*_aligned.jpg, in basic/ or not.
"""

import logging
import os
from pathlib import Path

from fer.errors import DataError

LABELS = dict(zip("1234567", ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), strict=True))
"""The emotion of each label of the basic set."""

_PLACES = ("", "EmoLabel/", "basic/EmoLabel/", "*/EmoLabel/", "*/basic/EmoLabel/")
_LIST = "list_pa*tition_label.txt"  # it is spelt "patition"
_log = logging.getLogger(__name__)


def find(root: Path) -> Path | None:
    """Return the list of labels in one of the places where it is below `root`, or None."""
    return next((path for place in _PLACES for path in sorted(root.glob(place + _LIST)) if path.is_file()), None)


def read(table: Path) -> dict[str, list[tuple[Path, str]]]:
    """Return path and emotion of each aligned image in the list `table`, in its order, for each split: train and test.

    Listed images that are missing are counted in a warning.

    Raises:
        DataError: The list is malformed, or no listed image is there.
    """
    home = table.parent.parent if table.parent.name.lower() == "emolabel" else table.parent
    files = {Path(name).stem: Path(folder, name) for folder, _, names in os.walk(home) for name in names}
    splits: dict[str, list[tuple[Path, str]]] = {}
    missing: list[str] = []
    for number, line in enumerate(table.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        *_, name, label = ("", *line.split())
        split, aligned = name.partition("_")[0], Path(name).stem + "_aligned"
        if label not in LABELS or split not in ("train", "test"):
            expected = "expected train_… or test_… and a label of the basic set, 1 to 7"
            raise DataError(f"{table}, line {number}: {line[:40]!r}; {expected}")
        if aligned in files:
            splits.setdefault(split, []).append((files[aligned], LABELS[label]))
        else:
            missing.append(aligned)
    if not splits:
        raise DataError(f"none of the {len(missing)} images in {table} is below {home}; unpack Image/aligned.zip there")
    if missing:
        what = f"{len(missing)} of its images are missing, such as {missing[0]}"
        _log.warning("%s: %s; unpack the whole Image/aligned.zip", table, what)
    return splits
