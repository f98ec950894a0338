"""Several sets beside or without the data, and the matrix of models and sets."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from samples import faces_in

from fer import artifact
from fer.data import synthetic
from fer.data.folder import read_part
from fer.errors import ConfigError, DataError
from fer.evaluate import compare, predict, sets
from fer.labels import EMOTIONS

SIX, EIGHT = EMOTIONS[:6], (*EMOTIONS, "contempt")
ALONE = ["data=none"]


@pytest.fixture
def model(make_model, tmp_path) -> Path:
    return make_model(tmp_path / "m.ts", 0)


def answers(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return what an artifact answers for the images of a folder, their labels, and the classes of the folder."""
    whole = read_part("also", folder, "all", 48, 1)
    images = torch.from_numpy(whole.images.copy())[:, None]
    return artifact.load(path)(images).numpy(), whole.labels, whole.classes


@pytest.mark.usefixtures("no_pictures")
def test_sets_of_six_and_of_eight_classes_are_judged_on_what_they_share(make_model, run, tmp_path, capsys):
    model = make_model(tmp_path / "m.ts", 32)  # it answers neutral for some of the six
    folders = [faces_in(tmp_path / "six", 2, SIX), faces_in(tmp_path / "eight", 2, EIGHT)]
    result = run(f"models='{model}'", f"also={[str(f) for f in folders]}", "robustness=false", "crop=null", data=ALONE)
    assert (result["data"], result["split"], result["images"]) == ("six", None, 12)
    six, eight = result["models"]["m"], result["sets"]["eight"]["m"]
    shares, labels, _ = answers(model, folders[0])
    assert six["accuracy"] == pytest.approx((shares[:, :6].argmax(1) == labels).mean())
    assert six["accuracy_as_answered"] == pytest.approx((shares.argmax(1) == labels).mean())
    recalls = [(shares.argmax(1)[labels == k] == k).mean() for k in range(6)]
    assert six["recall_macro_as_answered"] == pytest.approx(np.mean(recalls))
    assert six["accuracy"] != six["accuracy_as_answered"]
    shares, labels, names = answers(model, folders[1])
    known = labels != names.index("contempt")
    assert eight["accuracy"] == pytest.approx((shares.argmax(1) == labels)[known].mean())
    assert (eight["images"], "accuracy_as_answered" in eight) == (14, False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["six", "eight"]
    assert "probabilities of neutral are removed" in lines[0]
    assert "2 of 16 images are left out, those of contempt" in lines[1]


@pytest.mark.usefixtures("no_pictures")
def test_a_model_that_knows_contempt_is_judged_on_the_seven(make_model, run, tmp_path):
    path, folder = make_model(tmp_path / "m.ts", 20, classes=EIGHT), faces_in(tmp_path / "seven", 2)
    figures = run(f"models='{path}'", f"also='{folder}'", "robustness=false", "crop=null", data=ALONE)["models"]["m"]
    shares, labels, _ = answers(path, folder)
    assert figures["accuracy_as_answered"] == pytest.approx((shares.argmax(1) == labels).mean())
    assert figures["accuracy"] == pytest.approx((shares[:, :7].argmax(1) == labels).mean())
    assert figures["accuracy"] > figures["accuracy_as_answered"]


def test_the_matrix_is_written_as_csv_markdown_and_picture(model, make_model, run, tmp_path, capsys):
    other = make_model(tmp_path / "n.ts", 1)
    folders = [str(faces_in(tmp_path / name, 2, names)) for name, names in (("a", EMOTIONS), ("b", SIX))]
    result = run(f"models=['{model}','{other}']", f"also={folders}", "robustness=false")
    out = tmp_path / "out"
    with (out / "matrix.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["model", "val", "a", "b"]
    for name, *values in rows:
        wanted = [result["models"][name], result["sets"]["a"][name], result["sets"]["b"][name]]
        assert [float(value) for value in values] == pytest.approx([own["accuracy"] for own in wanted], abs=1e-6)
    with (out / "all_sets.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["set"], row["model"]) for row in table] == [(place, name) for place in header[1:] for name in "mn"]
    for row in table[2:4]:
        figures = result["sets"]["a"][row["model"]]
        assert float(row["worst_recall"]) == min(figures[f"recall/{name}"] for name in EMOTIONS)
        assert float(row["worst_recall"]) == figures[f"recall/{row['worst_class']}"]
    assert table[4]["support/neutral"] == ""
    accuracy = f"{result['sets']['b']['n']['accuracy']:.2%}"
    for text in ((out / "matrix.md").read_text(), (out / "report.md").read_text(), printed := capsys.readouterr().out):
        assert accuracy in text
    assert "Macro recall" in (out / "matrix.md").read_text()
    assert "Classes of" not in printed
    picture = cv2.imread(str(out / "matrix.png"))
    assert picture.shape[1] > picture.shape[0] > 100


def test_no_image_is_predicted_twice(model, run, splits, tmp_path, monkeypatch, no_pictures):
    seen: list[int] = []
    logits = predict.logits

    def counted(network, images, flip=False):
        seen.append(len(images))
        return logits(network, images, flip)

    monkeypatch.setattr(predict, "logits", counted)
    folder = tmp_path / "val"
    for k, image in enumerate(splits["val"].images):
        path = folder / EMOTIONS[splits["val"].labels[k]] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    result = run(f"models='{model}'", f"also='{folder}'", "robustness=false", "crop=null")
    assert seen == [21, 21]  # the images and their mirror images
    (copied,) = result["sets"].values()
    assert copied["m"]["accuracy"] == result["models"]["m"]["accuracy"]


def split_folders(folder: Path, *names: str) -> Path:
    for k, name in enumerate(names, 1):
        faces_in(folder / name, k)
    return folder


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("folders", "entry", "images", "name"),
    [
        (("train", "test"), "'{}'", 14, "faces"),
        (("train", "val", "test"), "'{}'", 21, "faces"),
        (("train", "val"), "'{}'", 14, "faces"),
        (("test",), "'{}'", 7, "faces"),
        (("train",), "'{}'", 7, "faces"),
        (("train", "test"), "{{root:'{}',split:all}}", 21, "faces/all"),
        (("train", "test"), "{{root:'{}',split:train}}", 7, "faces/train"),
        (("train", "val", "test"), "{{data:image_folder,root:'{}',split:val}}", 14, "faces/val"),
        (("train", "val", "test"), "{{data:image_folder,root:'{}',split:all,crop:null}}", 42, "faces/all"),
    ],
)
def test_of_split_folders_test_is_judged_or_what_is_asked_for(folders, entry, images, name, model, run, tmp_path):
    root = split_folders(tmp_path / "faces", *folders)
    also = "also=[" + entry.format(root) + "]"
    result = run(f"models='{model}'", also, "robustness=false", "crop=null", data=ALONE)
    assert (result["data"], result["images"]) == (name, images)


def test_the_split_that_is_judged_is_said(tmp_path, caplog):
    root = split_folders(tmp_path / "faces", "train", "test")
    read_part("also", root, None, 48, 1)
    (line,) = caplog.messages
    assert "its split test is judged" in line
    caplog.clear()
    read_part("also", root, "test", 48, 1)
    assert not caplog.messages


def test_names_tell_folders_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = [{"root": "a/test"}, {"root": "b/test"}, {"root": "faces"}, {"root": "faces", "split": "val"}]
    assert sets._names(entries, ["val"]) == ["a/test", "b/test", "faces", "faces/val"]
    assert sets._names([{"root": "x/val"}, {"data": "synthetic"}], ["val"]) == ["x/val", "synthetic"]


@pytest.mark.usefixtures("no_pictures")
def test_a_dataset_with_a_config_is_a_set(model, run, splits, monkeypatch):
    def reader(**_):
        return splits

    reader.__module__ = synthetic.__name__
    monkeypatch.setattr(synthetic, "read", reader)
    result = run(f"models='{model}'", "also=[{data:synthetic}]", "robustness=false", data=ALONE)
    assert (result["data"], result["images"]) == ("synthetic", 21)


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["also=[]"], ConfigError, r"data=none leaves nothing to judge; give also="),
        (["also=[faces]", "data.votes=votes.csv"], ConfigError, r"data\.votes is for the data, .* leave it out"),
        (["also=[faces]", "without_duplicates=true"], ConfigError, "without_duplicates is for the data"),
        (["also=[faces,faces/]"], ConfigError, "also=faces/ is given twice; leave one out"),
        (["also=[{root:faces},faces]"], ConfigError, "is given twice"),
        (["also=[empty]"], DataError, "no images in class folders under empty; expected"),
        (["also=[file.txt]"], DataError, r"no folder file\.txt, which is a file; set also"),
        (["also=[others]"], ConfigError, "but others has bored, keen; fewer than two are known"),
        (["also=[3]"], ConfigError, "also=3 must be a path"),
        (["also=[{split:val}]"], ConfigError, "names neither a root nor a dataset; give"),
        (["also=[{root:faces,split:valid}]"], ConfigError, "split of also=valid is unknown; choose train"),
        (["also=[{root:faces,split:val}]"], DataError, "faces has no split val; choose from train, all"),
        (["also=[{root:faces,sise:9}]"], ConfigError, "sise is not a key; choose from root, data, split, size"),
        (["also=[{data:fer2014}]"], ConfigError, "data of also=fer2014 is unknown; choose"),
        (["also=[{data:none}]"], ConfigError, "data of also=none is unknown; choose"),
        (["also=[{data:synthetic,root:faces}]"], ConfigError, "also=synthetic: root is not a key; choose from"),
        (["also=[faces]", "crop=yes"], ConfigError, "crop=.* is unknown; choose null or auto"),
    ],
)
def test_a_set_that_cannot_be_judged_is_one_line(overrides, error, words, model, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces_in(tmp_path / "faces")
    faces_in(tmp_path / "others", 2, ("bored", "keen"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(error, match=words) as raised:
        run(f"models='{model}'", *overrides, data=ALONE)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_whoever_lacks_the_data_is_told_how_to_do_without(model, run, tmp_path):
    data = ["data=image_folder", f"data.root='{tmp_path}/nowhere'"]
    with pytest.raises(DataError, match=r"no folder .*nowhere; .*; or data=none, to judge on the sets of also= alone"):
        run(f"models='{model}'", f"also='{faces_in(tmp_path / 'faces')}'", data=data)


def test_the_worst_class_is_one_that_occurs():
    figures = {"support/a": 0, "recall/a": 0, "support/b": 2, "recall/b": 0.5, "support/c": 2, "recall/c": 1}
    assert compare.worst_class(figures) == ("b", 0.5)
