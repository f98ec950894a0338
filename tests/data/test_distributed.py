"""Datasets as they are distributed: RAF-DB, FER+, AffectNet, CK+, ExpW and lists, as tiny copies."""

from pathlib import Path

import copies
import pytest
from copies import COPIES
from samples import TINY, config, run_program

from fer.data import audit, folder
from fer.data.base import Split
from fer.errors import DataError
from fer.labels import EMOTIONS
from fer.train import run as experiment

EIGHT = (*EMOTIONS, "contempt")


def counts(splits: dict[str, Split]) -> dict[str, int]:
    return {name: len(split) for name, split in splits.items()}


def classes_fit(splits: dict[str, Split]) -> None:
    """What pictures show is what their labels say."""
    for split in splits.values():
        for image, label in zip(split.images, split.labels, strict=True):
            assert abs(int(image[-1, -1]) - copies.shade(split.classes[label])) < 4


@pytest.mark.parametrize(
    ("make", "dataset", "classes", "sizes"),
    [
        (copies.rafdb, "rafdb", EMOTIONS, {"train": 35, "val": 7, "test": 21}),
        (copies.ferplus, "ferplus", EIGHT, {"train": 24, "val": 24, "test": 24}),
        (copies.affectnet, "affectnet", EIGHT, {"train": 40, "val": 24, "test": 8}),
        (copies.affectnet_annotations, "affectnet", EIGHT, {"train": 40, "val": 24, "test": 8}),
        (copies.affectnet_folders, "affectnet", EIGHT, {"train": 40, "val": 24, "test": 8}),
        (copies.ckplus, "ckplus", (*EMOTIONS[:-1], "contempt"), {"train": 126, "val": 21, "test": 42}),
        (copies.ckplus_release, "ckplus", EIGHT, {"train": 168, "val": 28, "test": 56}),
        (copies.expw, "expw", EMOTIONS, {"train": 56, "val": 12, "test": 12}),
        (copies.listed, "listed", EMOTIONS[3:6], {"train": 12, "val": 6, "test": 6}),
    ],
)
def test_a_copy_is_read_by_its_config_and_recognised(make, dataset, classes, sizes, tmp_path):
    root = make(tmp_path / "copy")
    for read in (lambda: folder.read(root, dataset=dataset), lambda: audit.read(root)):
        splits = read()
        assert all(split.classes == classes for split in splits.values())
        classes_fit(splits)
        if dataset != "expw":  # the sizes of groups differ
            assert counts(splits) == sizes


@pytest.mark.parametrize("dataset", COPIES)
def test_a_copy_trains_audits_and_is_evaluated(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    COPIES[dataset](tmp_path / "data" / dataset)
    root = f"data.root=data/{dataset}"
    small = [word for word in TINY if "data.reader" not in word and word != "data=synthetic"]
    assert experiment.run(config(*small, f"data={dataset}", root, run_dir=tmp_path / "run"))
    run_program(["fer.data.audit", f"data/{dataset}", "out=audit"], monkeypatch)
    assert Path("audit/audit.md").exists()
    run_program(["fer.evaluate", "models=fast", f"data={dataset}", root, "robustness=false"], monkeypatch)
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(("make", "shared"), [(copies.ckplus, 0), (copies.ckplus_release, 0), (copies.expw, 0)])
def test_nobody_and_no_photo_is_in_two_splits(make, shared, tmp_path):
    splits = folder.read(make(tmp_path / "copy"))
    groups = [set(split.groups) for split in splits.values()]
    assert all(all(each) for each in groups)
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_contempt_is_left_out_if_asked_for_and_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    splits = folder.read(copies.affectnet(tmp_path), dataset="affectnet", leave_out=["Contempt"])
    assert splits["val"].classes == EMOTIONS and counts(splits)["val"] == 21
    classes_fit(splits)
    assert "left out: 9 contempt" in caplog.text
    assert "left out: 2 none, 2 uncertain, 2 no face" in caplog.text


def test_images_without_a_majority_are_counted(tmp_path, caplog):
    folder.read(copies.ferplus(tmp_path))
    assert "left out: 3 without a majority" in caplog.text


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


LIST, ROWS = "EmoLabel/list_patition_label.txt", "label/label.lst"


@pytest.mark.parametrize(
    ("dataset", "spoil", "words"),
    [
        ("rafdb", lambda r: (r / LIST).unlink(), "no RAF-DB in"),
        ("rafdb", lambda r: edit(r / LIST, "00003.jpg 3", "00003.jpg 9"), "line 3: 'train_00003.jpg 9'; expected"),
        ("rafdb", lambda r: (r / LIST).write_text(""), "lists no image; expected EmoLabel"),
        ("ferplus", lambda r: [p.unlink() for p in r.glob("*/label.csv")], "no FER+ in"),
        ("ferplus", lambda r: edit(r / "FER2013Valid/label.csv", ",6,", ",x,"), "line 1: 'fer"),
        ("affectnet", lambda r: edit(r / "training.csv", "5,5,50,50,0,", "5,5,50,50,12,"), "line 2: the label is '12'"),
        ("affectnet", lambda r: edit(r / "training.csv", "expression", "emotion"), "no column 'expression'"),
        ("affectnet", lambda r: edit(r / "training.csv", "5,5,50,50,0", "a,5,50,50,0"), "line 2: the box 'a 5 50 50'"),
        ("expw", lambda r: (r / ROWS).unlink(), "no ExpW in"),
        ("expw", lambda r: edit(r / ROWS, "22.9 1", "22.9 9"), "line 2: "),
        ("expw", lambda r: edit(r / ROWS, "0 0 60 60 22.9", "0 70 60 60 22.9"), "line 1: no box from 70, 0 to 60, 60"),
        ("expw", lambda r: edit(r / ROWS, "0 0 60 60", "0 500 560 60"), "its box, 500, 0 to 560, 60, is outside"),
        ("listed", lambda r: (r / "faces.csv").write_text(""), "no column 'path'"),
        ("listed", lambda r: (r / "faces.csv").unlink(), "no list in"),
        ("listed", lambda r: edit(r / "faces.csv", "label", "etikett"), "data.columns.label=emotion"),
        ("listed", lambda r: edit(r / "faces.csv", "train,10", "tarin,10"), "line 2: the split is 'tarin'"),
        ("listed", lambda r: edit(r / "faces.csv", ",10,0,70,60", ",0.1,0,0.9,1"), "no box from 0.1, 0 to 0.9, 1"),
    ],
)  # fmt: skip
def test_a_bad_copy_is_one_line(dataset, spoil, words, tmp_path):
    root = COPIES[dataset](tmp_path / "copy")
    spoil(root)
    options = {"columns": {"path": "path", "label": "label"}} if dataset == "listed" else {}
    with pytest.raises(DataError) as caught:
        folder.read(root, dataset=dataset, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_rows_without_an_image_and_images_without_a_row_are_counted(tmp_path, caplog):
    root = copies.rafdb(tmp_path)
    aligned = root / "Image" / "aligned"
    (aligned / "train_00002_aligned.jpg").rename(aligned / "extra.jpg")
    folder.read(root, dataset="rafdb")
    assert "images that it lists and that are missing: 1, such as train_00002_aligned.jpg" in caplog.text
    assert "does not list and that are not read: 1, such as Image/aligned/extra.jpg" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("pictures", "C:\\Users\\me\\faces\\pictures").replace("/", "\\"),
        lambda text: text.replace("pictures", "/home/me/faces/pictures"),
        lambda text: text.replace(".png", ".PNG"),
        lambda text: text.replace("pictures", "copy/pictures"),
        lambda text: text.replace(",happy,", ",Joy,"),
    ],
)
def test_lists_of_other_programs_and_computers_are_read(change, tmp_path):
    root = copies.listed(tmp_path / "copy")
    table = root / "faces.csv"
    table.write_text(change(table.read_text()), encoding="utf-8")
    splits = folder.read(table, dataset="listed")
    assert counts(splits) == {"train": 12, "val": 6, "test": 6}
    classes_fit(splits)


def test_a_list_may_have_other_columns_and_numbers(tmp_path):
    root = copies.listed(tmp_path / "copy")
    text = (root / "faces.csv").read_text()
    for number, name in enumerate(("happy", "sad", "surprise"), 1):
        text = text.replace(f",{name},", f",{number},")
    (root / "faces.csv").write_text(text.replace("path,label,split", "file,class,part"))
    columns = {"path": "file", "label": "class", "split": "part", "group": None, "box": None}
    with pytest.raises(DataError, match=r"the labels are numbers; name them, as in data\.names="):
        folder.read(root, dataset="listed", columns=columns)
    names = {1: "happy", 2: "sad", 3: "surprise"}
    splits = folder.read(root, dataset="listed", columns=columns, names=names)
    assert counts(splits) == {"train": 12, "val": 6, "test": 6}
    classes_fit(splits)
    with pytest.raises(DataError, match="line 4: the label is '3'; expected one of 1, 2"):
        folder.read(root, dataset="listed", columns=columns, names={1: "happy", 2: "sad"})
