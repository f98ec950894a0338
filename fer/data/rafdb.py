"""RAF-DB (Li et al. 2017, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in
the Wild"): EmoLabel/list_patition_label.txt beside Image/aligned/*_aligned.jpg, in basic/ or not, or copies of the
aligned images in the folders train/1 … 7 and test/1 … 7.
"""

from collections.abc import Iterator
from pathlib import Path

from fer.data.listing import Dataset, Row, first, lines
from fer.errors import DataError

LABELS = dict(zip("1234567", ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), strict=True))
"""The emotion of each label of the basic set."""

_PLACES = ("", "EmoLabel/", "basic/EmoLabel/", "*/EmoLabel/", "*/basic/EmoLabel/")


def _find(root: Path) -> Path | None:
    return first(root, _PLACES, "list_pa*tition_label.txt")  # it is spelt "patition"


def _rows(table: Path) -> tuple[Path, Iterator[Row]]:
    home = table.parent.parent if table.parent.name.lower() == "emolabel" else table.parent
    return home, _listed(table)


def _listed(table: Path) -> Iterator[Row]:
    for where, line in lines(table):
        *_, name, label = ("", *line.split())
        split = name.partition("_")[0]
        if label not in LABELS or split not in ("train", "test"):
            expected = "expected train_… or test_… and a label of the basic set, 1 to 7"
            raise DataError(f"{where}: {line[:40]!r}; {expected}")
        yield Row(where, split, f"{Path(name).stem}_aligned.jpg", LABELS[label])


def _is_copy(names: set[str], example: Path) -> bool:
    return names == set(LABELS) and example.stem.endswith("_aligned")


DATASET = Dataset(
    "RAF-DB", "EmoLabel/list_patition_label.txt and the unpacked Image/aligned.zip", _find, _rows, LABELS, _is_copy
)
