"""The release of a model with all its figures, on drawn faces."""

import csv
import dataclasses
import warnings

import cv2
import numpy as np
import pytest
import torch
from samples import benchmark, golden_images, tiny

from fer import artifact
from fer.artifact import Metadata
from fer.data import synthetic
from fer.labels import EMOTIONS
from fer.train import quantize

SCORE = """
import numpy as np
def cut(image, box, margin, size):
    x1, y1, x2, y2 = map(int, box)
    return np.ascontiguousarray(image[y1:y2, x1:x2])
def damaged(face, how, rng):
    return np.zeros_like(face) if how == "dark" else face
"""


@pytest.fixture(scope="module")
def bench():
    with benchmark("models") as module:
        yield module


@pytest.fixture(scope="module")
def splits():
    """Drawn faces; the votes call the first one disgusted and do not agree on the second."""
    majority = {name: split.labels.copy() for name, split in synthetic.read(train=64, val=21, test=28).items()}
    for labels in majority.values():
        labels[:2] = 1, -1
    drawn = synthetic.read(train=64, val=21, test=28)
    return {name: dataclasses.replace(split, majority=majority[name]) for name, split in drawn.items()}


@pytest.fixture(scope="module")
def faces(splits, tmp_path_factory):
    """The faces of val at one corner of a larger picture, and how to cut them."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "score.py").write_text(SCORE)
    rows = []
    for number, (image, label) in enumerate(zip(splits["val"].images, splits["val"].labels, strict=True)):
        path = folder / "press" / EMOTIONS[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.pad(image, ((0, 30), (0, 10)), mode="constant"))
        rows.append(["press", EMOTIONS[label], path.name, 0, 0, 48, 48])
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["set", "class", "file", "x1", "y1", "x2", "y2"], *rows])
    return folder


@pytest.fixture(scope="module")
def released(bench, splits, faces, tmp_path_factory):
    """A folder of two released models, of which the second is the first, and a page to be written."""
    root = tmp_path_factory.mktemp("released")
    patch = pytest.MonkeyPatch()
    patch.setattr(bench, "fer_2013", lambda: splits)
    patch.setattr(bench, "ROOT", root)
    patch.setattr(bench, "WEIGHTS", root)
    patch.setattr(bench, "PAGES", ("README.md",))
    patch.setattr(bench, "MANY", 3)
    tiny(root / "run", "evaluate.test=false")
    bench.release(root / "run" / "checkpoints" / "best.ckpt", "fast", faces)
    bench.release(root / "fast.ts", "accurate", faces)
    yield root
    patch.undo()


def test_figures_are_those_of_the_file_and_a_second_release_repeats_them(released, splits):
    metadata = artifact.read_metadata(released / "fast.ts")
    m, model = metadata.metrics, artifact.load(released / "fast.ts")
    assert artifact.read_metadata(released / "accurate.ts").metrics == pytest.approx(m, abs=1e-6)
    for name in ("val", "test"):
        split = splits[name]
        predicted = model(torch.from_numpy(split.images.copy())[:, None]).argmax(1).numpy()
        assert m[f"{name}/accuracy"] == pytest.approx((predicted == split.labels).mean())
        agreed = split.majority >= 0
        assert m[f"{name}_votes/accuracy"] == pytest.approx((predicted == split.majority)[agreed].mean())
        assert sum(m[f"{name}_votes/support/{c}"] for c in EMOTIONS) == len(split) - 1
    assert m["test/accuracy_without_duplicates"] == m["test/accuracy"]
    assert m["press/nll"] == m["press_noise/nll"] == pytest.approx(m["val/nll"], abs=1e-5)
    assert m["press_dark/nll"] != pytest.approx(m["val/nll"], abs=1e-5)
    assert m["press_dark/accuracy"] == pytest.approx(1 / 7)
    assert m["train/epochs"] >= 1
    counts = {c: sum(m[f"press/confusion/{c}/{other}"] for other in EMOTIONS) for c in EMOTIONS}
    assert counts == {c: m[f"press/support/{c}"] for c in EMOTIONS}


def test_any_program_can_run_the_file(released):
    with warnings.catch_warnings(action="ignore"):
        network = torch.jit.load(released / "fast.ts")
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert network(golden_images(1, 48)).shape == (5, 7)


def test_cards_and_table_are_written_from_the_metadata_alone(bench, released, monkeypatch, capsys):
    monkeypatch.delattr(bench, "fer_2013")
    for page in ("README.md", "fast.md", "accurate.md"):
        (released / page).write_text(f"before\n{bench.BEGIN}old\n{bench.END}after\n")
    bench.cards()
    bench.table()
    m = artifact.read_metadata(released / "fast.ts").metrics
    card, readme = ((released / page).read_text() for page in ("fast.md", "README.md"))
    for page in (card, readme):
        assert page.startswith("before\n<!--") and page.endswith("-->\nafter\n") and "old" not in page
    keys = ("accuracy", "accuracy_flip", "recall_macro")
    cells = " | ".join(f"{100 * m[f'press/{key}']:.1f}" for key in keys)
    assert f"| press photos | 21 | {cells} | {100 * m['press/recall_macro']:.1f} | {m['press/ece']:.3f} |" in card
    assert "| press photos: four tenths of the light | 21 | 14.3 |" in card
    assert f"| happy | {m['press/confusion/happy/angry']:.0f} | " in card
    assert (
        "| `fast` | " in readme and f"{100 * m['press/accuracy']:.1f} / {100 * m['press/recall_macro']:.1f}" in readme
    )
    assert readme.partition(bench.BEGIN)[2].startswith(capsys.readouterr().out)


def test_what_was_not_measured_is_a_dash(bench):
    metadata = Metadata(EMOTIONS, 1, 48, (0.5,), (0.2,), metrics={"val/accuracy": 0.5}, prior=0.75)
    assert bench.row_of("other", metadata).startswith("| `other` | 0.00 | 0 | 50.0 (–) | – (–) | – / – |")
    card = bench.card(metadata)
    assert "| PublicTest, own labels | – | 50.0 | – |" in card and "press photos |" not in card
    assert "prior to the power of 0.75" in card


def test_a_page_without_marks_is_not_written(bench, tmp_path):
    (tmp_path / "page.md").write_text("text")
    with pytest.raises(AssertionError, match="has no"):
        bench.insert(tmp_path / "page.md", "more")
    assert (tmp_path / "page.md").read_text() == "text"


def test_onnx_and_int8_are_written_from_torchscript_and_their_figures_are_in_card_and_table(
    bench, released, faces, monkeypatch, capsys
):
    monkeypatch.setattr(quantize, "AGREEMENT", 0)  # the network is hardly trained
    monkeypatch.setattr(quantize, "LOSS", 1)
    before = artifact.read_metadata(released / "fast.ts")
    assert bench.released()["fast"] == before
    bench.onnx("fast", faces)
    own, onnx, int8 = (artifact.load(released / f"fast{ending}") for ending in (".ts", ".onnx", ".int8.onnx"))
    images = artifact.golden_batch(3, 70)
    assert np.abs(onnx(images) - own(images)).max() < 1e-5
    assert (onnx.metadata, int8.metadata.precision) == (before, "int8")
    m = int8.metadata.metrics
    assert {key.split("/")[1] for key in m if key.endswith("_float32")} == {"val", "val_votes", "press"}
    assert m["int8/press/accuracy_float32"] == pytest.approx(before.metrics["press/accuracy"])
    assert f"int8/press/accuracy: {m['int8/press/accuracy']:.4f}" in capsys.readouterr().out
    metadata = bench.released()["fast"]
    assert metadata.metrics == m | {"int8/bytes": (released / "fast.int8.onnx").stat().st_size}
    pair = f"{100 * m['int8/press/accuracy']:.1f} ({100 * m['int8/press/accuracy_float32']:.1f})"
    assert f"press photos {pair}" in bench.card(metadata)
    votes, press = (f"{100 * m[f'int8/{name}/accuracy']:.1f}" for name in ("val_votes", "press"))
    assert bench.row_of("fast", metadata).endswith(f" | {100 * m['int8/agreement']:.1f} | {votes} / {press} |")
