import cv2
import numpy as np
import pytest

from fer import plots
from fer.data.base import Split
from fer.labels import EMOTIONS


def split(count: int = 40, colour: bool = False) -> tuple[Split, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (count, 48, 48, 3) if colour else (count, 48, 48)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    return Split(images, np.arange(count) % 7, EMOTIONS), rng.dirichlet(np.ones(7), count)


def ink(path) -> float:
    """Share of pixels that are not white."""
    return float((cv2.imread(str(path)).min(2) < 250).mean())


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_are_drawn(tmp_path, colour):
    data, probabilities = split(colour=colour)
    plots.confusion_matrix(np.arange(49).reshape(7, 7), EMOTIONS, "title", tmp_path / "c.png")
    plots.reliability(probabilities, data.labels, 0.1, "title", tmp_path / "r.png")
    plots.mistakes(data.images, data.labels, probabilities, EMOTIONS, "title", tmp_path / "m.png")
    for name in "crm":
        assert ink(tmp_path / f"{name}.png") > 0.05


@pytest.mark.usefixtures("bundled_fonts")
def test_any_names_can_be_drawn(tmp_path, caplog):
    names = ("愤怒", "غاضب جدا", "क्रोध", "гнев", "👩‍🚀", "a$b^$", "_hidden")
    data, probabilities = split()
    plots.confusion_matrix(np.arange(49).reshape(7, 7), names, "試験 $x$", tmp_path / "c.png")
    plots.mistakes(data.images, data.labels, probabilities, names, "試験 $x$", tmp_path / "m.png")
    plots.reliability(probabilities, data.labels, 0.1, "試験 $x_$", tmp_path / "r.png")
    (message,) = caplog.messages  # warnings of matplotlib would be errors here
    assert all(c in message for c in "愤怒क👩試験")


def test_the_axes_of_a_confusion_matrix_name_every_class(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: shown.append(figure))
    plots.confusion_matrix(np.eye(2, dtype=int), ("Ärger", "غاضب"), "title", tmp_path / "c.png")
    labels = shown[0].axes[0].get_yticklabels()
    assert [label.get_text().strip("\u200e\u2067\u2069") for label in labels] == ["Ärger", "غاضب"]
    assert all(label.get_fontfamily()[0] == "DejaVu Sans" for label in labels)


def test_no_mistakes_and_one_class_unseen(tmp_path):
    data, _ = split(6)
    plots.mistakes(data.images, data.labels, np.eye(7)[data.labels], EMOTIONS, "title", tmp_path / "m.png")
    plots.confusion_matrix(np.zeros((7, 7), int), EMOTIONS, "title", tmp_path / "c.png")
    assert ink(tmp_path / "m.png") > 0


def test_sheet_takes_any_number_of_parts(tmp_path):
    grey, colour = np.zeros((8, 8), dtype=np.uint8), np.zeros((8, 8, 3), dtype=np.uint8)
    for k, parts in enumerate(([], [("one", [(grey, "a")])], [("one", [(grey, "a")] * 9), ("two", [(colour, "b")])])):
        plots.sheet(parts, "title", tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 1000


def test_curves_need_no_validation(tmp_path):
    rows = [{"epoch": 1.0, "train/loss": 2.0, "lr": 0.1}]
    plots.curves(rows, "t", tmp_path / "a.png")
    plots.curves([], "t", tmp_path / "b.png")
    plots.curves([rows[0] | {"val/loss": 1.0, "val/accuracy": 0.5}], "t", tmp_path / "c.png")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("monitor", "panel", "heading"),
    [
        ("val/accuracy", 1, "accuracy, best 60.0% in epoch 1"),
        ("val_votes/accuracy", 1, "accuracy, best 70.0% in epoch 2"),
        ("val_votes/loss", 0, "loss, best 0.900 in epoch 2"),
    ],
)
def test_curves_mark_the_best_epoch_of_what_is_monitored(monitor, panel, heading, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, *_, **__: drawn.append(figure))
    rows = [
        {"epoch": 1.0, "lr": 0.1, "val/accuracy": 0.6, "val_votes/accuracy": 0.5, "val_votes/loss": 1.2},
        {"epoch": 2.0, "lr": 0.1, "val/accuracy": 0.5, "val_votes/accuracy": 0.7, "val_votes/loss": 0.9},
    ]
    plots.curves(rows, "t", tmp_path / "a.png", monitor)
    assert drawn[0].axes[panel].get_title() == heading
    assert [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()] == [
        "val/accuracy",
        "val_votes/accuracy",
    ]
