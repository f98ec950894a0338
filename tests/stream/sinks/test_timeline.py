from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.labels import COLOURS, EMOTIONS, colours
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import results, run
from fer.stream.sinks import Context, open_sinks
from fer.stream.state import TemporalState


def watched(path: Path, blind: range = range(0), until: int | None = None, classes: tuple[str, ...] = EMOTIONS) -> None:
    context, state = Context(FakeSource(100), classes), TemporalState(Tracker(), Smoother())
    stats = context.stats
    detect = FakeDetector((10, 8, 40, 44), blind=frozenset(blind))
    stream = results(context.source, detect, FakeFaceClassifier(classes, 3), state, stats)

    def interrupt() -> None:
        if stats.frames == until:
            raise KeyboardInterrupt

    run(stream, open_sinks({path.stem: str(path)}, context), stats, interrupt)


def coloured(path: Path, name: str) -> np.ndarray:
    """In which columns of the picture, 0 to 1 across, the colour of an emotion fills much of the height."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    near = (np.abs(picture.astype(int) - COLOURS[name]) < 6).all(axis=2)
    return np.flatnonzero(near.mean(axis=0) > 0.2) / picture.shape[1]


def test_the_colour_of_the_emotion_and_a_gap_where_the_face_is_away(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    watched(path, blind=range(40, 60))
    columns = coloured(path, "happy")
    assert len(columns) and columns.min() < 0.15 and columns.max() > 0.9
    gaps = np.diff(columns)
    assert 0.1 < gaps.max() < 0.25 and (gaps > 0.02).sum() == 1
    assert not len(coloured(path, "angry"))
    assert [p.name for p in tmp_path.iterdir()] == ["timeline.png"]


@pytest.mark.usefixtures("bundled_fonts")
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_classes_in_any_script_have_colours_of_their_own(tmp_path: Path, ending: str) -> None:
    classes = ("愤怒", "غاضب جدا", "क्रोध", "гнев", "a$b^$", "_hidden", "x" * 40)
    watched(tmp_path / f"timeline.{ending}", classes=classes)  # a letter without a font would be an error here
    watched(tmp_path / "report.html", classes=classes)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<bdi>гнев</bdi>" in page, "the fake model's favourite, alone in its direction"
    shown = ["#{:02x}{:02x}{:02x}".format(*colours(classes)[name]) for name in classes]
    assert len(set(shown)) == len(classes) and all(tint in page for tint in shown)


def test_ctrl_c_draws_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path / "timeline.png", until=30)
    assert len(coloured(tmp_path / "timeline.png", "happy"))


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_no_face_at_all(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"timeline.{ending}"
    watched(path, blind=range(100))
    assert path.read_bytes().startswith(magic)
