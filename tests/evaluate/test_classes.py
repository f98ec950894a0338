"""Data and models that know different classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer import artifact, metrics
from fer.data import synthetic
from fer.data.base import Split
from fer.errors import ConfigError, DataError
from fer.evaluate import classes
from fer.labels import EMOTIONS

SIX = ("angry", "disgust", "fear", "happy", "sad", "surprise")
CONTEMPT = {"neutral": "contempt"}
CAPITALS = {name: name.capitalize() for name in EMOTIONS} | {"sad": "Sadness"}


def renamed(split: Split, names: dict[str, str]) -> Split:
    return replace(split, classes=tuple(names.get(name, name) for name in split.classes))


def reversed_classes(split: Split) -> Split:
    return replace(split, classes=split.classes[::-1], labels=len(split.classes) - 1 - split.labels)


@pytest.fixture
def given(monkeypatch):
    """Let `data=synthetic` give other splits."""

    def give(splits: dict[str, Split]) -> None:
        def reader(**_):
            return splits

        reader.__module__ = synthetic.__name__
        monkeypatch.setattr(synthetic, "read", reader)

    return give


def wanted(path, split: Split, kept: tuple[str, ...]) -> dict[str, float]:
    """Metrics of the images of `kept`, from probabilities of an artifact of which the others are cut off."""
    rows = np.isin(split.labels, [split.classes.index(name) for name in kept])
    model = artifact.load(path)
    columns = [model.metadata.classes.index(name) for name in kept]
    shares = model(torch.from_numpy(split.images[rows].copy())[:, None]).numpy()[:, columns]
    labels = np.array([kept.index(split.classes[label]) for label in split.labels[rows]])
    return metrics.compute(shares / shares.sum(1, keepdims=True), labels, kept)


def test_classes_that_one_side_lacks_are_left_out_of_everything(make_model, run, splits, given, tmp_path, capsys):
    path = make_model(tmp_path / "m.ts", 0)
    given({name: renamed(split, CONTEMPT) for name, split in splits.items()})
    result = run(f"models='{path}'", "split=test")
    figures = result["models"]["m"]
    expected = wanted(path, splits["test"], SIX)
    assert result["images"] == 18
    for name, key in (("accuracy", "accuracy"), ("loss", "nll"), ("ece", "ece"), ("f1/sad", "f1/sad")):
        assert figures[key] == pytest.approx(expected[name], abs=1e-5), name
    assert [key for key in figures if key.startswith("support/")] == [f"support/{name}" for name in SIX]
    assert 0 <= figures["robustness/mean"] <= 1
    (line,) = capsys.readouterr().err.splitlines()
    for words in ("the 6 classes", "3 of 21 images", "contempt", "neutral are removed", "renormalised"):
        assert words in line
    assert line in (tmp_path / "out" / "report.md").read_text()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["note"] == line
    assert (tmp_path / "out" / "confusion_matrix.png").stat().st_size > 1000


@pytest.mark.parametrize("change", [reversed_classes, lambda split: renamed(split, CAPITALS)], ids=["order", "names"])
def test_order_and_spelling_of_classes_make_no_difference(
    change, make_model, run, splits, given, tmp_path, capsys, no_pictures
):
    path = make_model(tmp_path / "m.ts", 0)
    plain = run(f"models='{path}'", "robustness=false")
    given({name: change(split) for name, split in splits.items()})
    other = run(f"models='{path}'", "robustness=false")
    for name in ("accuracy", "accuracy_flip", "f1_macro", "ece", "nll", "temperature"):
        assert other["models"]["m"][name] == pytest.approx(plain["models"]["m"][name]), name
    assert "note" not in plain.keys() | other.keys()
    assert capsys.readouterr().err == ""


def test_a_test_split_alone_is_enough(make_model, run, run_folder, splits, given, tmp_path, capsys, no_pictures):
    given({"test": renamed(splits["test"], {"neutral": "calm and composed"})})
    path = make_model(tmp_path / "m.ts", 0)
    checkpoint = run_folder / "checkpoints" / "best.ckpt"
    models = f"models=['{path}','{checkpoint}']"
    result = run(models, "split=test", "average=true", "robustness=false")
    expected = json.loads((run_folder / "metrics.json").read_text())
    _, own, average = result["models"].values()
    assert own["temperature"] == expected["val/temperature"]
    assert (average["temperature"], result["images"]) == (1, 18)
    assert "no val to fit the temperature of some_run" in capsys.readouterr().err
    assert artifact.read_metadata(tmp_path / "out" / "average.ts").classes == EMOTIONS
    again = run(f"models='{tmp_path}/out/average.ts'", "split=test", "robustness=false", out=tmp_path / "again")
    assert again["models"]["average"]["nll"] == pytest.approx(average["nll"], abs=1e-4)
    with pytest.raises(DataError, match="has test but no val; set split=test"):
        run(models)
    with pytest.raises(DataError, match="no train to compare with; set without_duplicates=false"):
        run(models, "split=test", "without_duplicates=true")


def test_models_are_compared_on_the_classes_that_all_know(make_model, run, splits, given, tmp_path, no_pictures):
    known = {"seven": EMOTIONS, "six": (*SIX[::-1],), "own": ("bored", "Happiness", "sad", "fear")}
    paths = [make_model(tmp_path / f"{name}.ts", k, classes=names) for k, (name, names) in enumerate(known.items())]
    result = run(f"models={[str(path) for path in paths]}", "robustness=false")
    assert (result["images"], len(result["mcnemar"])) == (9, 3)
    for figures in result["models"].values():
        assert [key for key in figures if key.startswith("recall/")] == ["recall/fear", "recall/happy", "recall/sad"]
    expected = wanted(paths[0], splits["val"], ("fear", "happy", "sad"))
    assert result["models"]["seven"]["nll"] == pytest.approx(expected["loss"], abs=1e-5)


def test_fewer_than_two_shared_classes_are_one_line(make_model, run, splits, given, tmp_path):
    path = make_model(tmp_path / "m.ts", 0, classes=("bored", "sad"))
    with pytest.raises(ConfigError, match=r"m\.ts has the classes bored, sad, but the data has angry, .* two"):
        run(f"models='{path}'")
    given({"test": splits["test"].only(splits["test"].labels > 5)})
    with pytest.raises(ConfigError, match="but press has happy, keen; fewer"):
        classes.shared([("fast.ts", EMOTIONS)], ("happy", "keen"), "press")
    other = make_model(tmp_path / "six.ts", 0, classes=SIX)
    with pytest.raises(DataError, match="split=test has no images of angry, disgust"):
        run(f"models='{other}'", "split=test")


def test_images_keep_their_names_and_lose_other_classes():
    images = np.arange(4 * 4, dtype=np.uint8).reshape(4, 2, 2)
    split = Split(images, np.array([0, 1, 2, 1]), ("a", "b", "c"), names=("w", "x", "y", "z"))
    kept = classes.only(split, ("c", "b"))
    assert (kept.classes, kept.labels.tolist(), kept.names) == (("c", "b"), [1, 0, 1], ("x", "y", "z"))
    assert np.array_equal(kept.images, images[1:])
    assert classes.only(split, split.classes) is split
