"""CK+ (Lucey et al. 2010, "The Extended Cohn-Kanade Dataset"): cohn-kanade-images/S005/001/*.png beside
Emotion/S005/001/*_emotion.txt, or copies of the last frames in class folders, such as CK+48.

Files are called S005_001_00000011.png: person, sequence, frame. Nobody is in two splits. As is usual, the first frame
of the release's sequences is neutral, and the last three show the emotion.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fer.data.listing import Dataset, Row
from fer.errors import DataError

_CLASSES = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
LABELS = {str(number): name for number, name in enumerate(_CLASSES)}
"""The class of each label, 0 to 7."""

_PERSON = re.compile(r"(S\d{3})_\d{3}_\d{8}")
_PEAK = 3


def _find(root: Path) -> Path | None:
    places = ("", "*/") if root.is_dir() else ()
    return next((path for place in places for path in sorted(root.glob(f"{place}Emotion")) if path.is_dir()), None)


def _rows(emotions: Path) -> tuple[Path, Iterator[Row]]:
    home = emotions.parent / "cohn-kanade-images"
    if not home.is_dir():
        raise DataError(f"no {home}; unpack extended-cohn-kanade-images.zip there")
    return home, _sequences(emotions, home)


def _sequences(emotions: Path, home: Path) -> Iterator[Row]:
    for path in sorted(emotions.glob("*/*/*_emotion.txt")):
        person, sequence = path.parts[-3:-1]
        text = path.read_text(errors="replace").strip()
        label = LABELS.get(text.partition(".")[0])
        if label is None:
            raise DataError(f"{path}: the label is {text[:20]!r}; expected 0 (neutral) to 7 (surprise)")
        frames = sorted(each.name for each in (home / person / sequence).glob("*.png"))
        for name in frames[-_PEAK:] or [path.name.replace("_emotion.txt", ".png")]:
            yield Row(str(path), "train", f"{person}/{sequence}/{name}", label, person)
        if len(frames) > _PEAK:
            yield Row(str(path), "train", f"{person}/{sequence}/{frames[0]}", "neutral", person)


def _is_copy(names: set[str], example: Path) -> bool:
    return bool(_PERSON.match(example.stem))


DATASET = Dataset(
    "CK+",
    "cohn-kanade-images and Emotion, or class folders with files such as S005_001_00000011.png",
    _find,
    _rows,
    LABELS,
    _is_copy,
    _PERSON,
    recognised=lambda emotions: any(emotions.glob("*/*/*_emotion.txt")),
)
