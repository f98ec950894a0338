import csv

import numpy as np
import pytest
from samples import SHARED

from fer.data import votes
from fer.data.base import Split
from fer.errors import DataError
from fer.labels import EMOTIONS

HAPPY, FEAR = EMOTIONS.index("happy"), EMOTIONS.index("fear")


def write(path, rows, header=("Usage", "Image name", *votes.COLUMNS)):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def row(usage="Training", **counts):
    return [usage, "fer0.png", *(counts.get(name, 0) for name in votes.COLUMNS)]


def splits(labels=(HAPPY, HAPPY)):
    images = np.zeros((len(labels), 4, 4), dtype=np.uint8)
    return {name: Split(images, np.array(labels), EMOTIONS) for name in ("train", "val", "test")}


def test_rows_keep_their_order_in_each_split(tmp_path):
    path = write(tmp_path / "v.csv", [row(happiness=9, NF=1), row("PrivateTest", fear=10), row(fear=4, neutral=6)])
    counts = votes.read(path)
    assert {name: len(c) for name, c in counts.items()} == {"train": 2, "val": 0, "test": 1}
    assert counts["train"].tolist() == [[0, 9, 0, 0, 0, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 0, 4, 0, 0, 0]]


@pytest.mark.parametrize(
    ("header", "separator", "value"),
    [
        (["usage", "Image name", *(name.upper() for name in votes.COLUMNS)], ",", "9"),
        (
            ["Usage", "neutral", "Happy", "Surprised", "sad", "ANGRY", "Disgusted", "afraid", *votes.COLUMNS[-3:]],
            ";",
            "9",
        ),
        (["", "Usage", *votes.COLUMNS, "note"], "\t", "9.0"),
    ],
)
def test_columns_may_have_other_names_and_spreadsheets_write_them(tmp_path, header, separator, value):
    happy = next(k for k, name in enumerate(header) if name.lower() in ("happiness", "happy"))
    cells = ["PublicTest" if name.lower() == "usage" else value if k == happy else "0" for k, name in enumerate(header)]
    lines = [separator.join(row) for row in (header, cells, [""] * len(header))]
    (tmp_path / "v.csv").write_text("\r\n".join(lines), encoding="utf-16")
    assert votes.read(tmp_path / "v.csv")["val"].tolist() == [[0, 9, 0, 0, 0, 0, 0, 0, 0, 0]]


def test_non_faces_need_more_votes_than_all_else():
    counts = np.zeros((3, 10), dtype=np.int64)
    counts[:, -1] = 5
    counts[1, 0], counts[2, 8] = 4, 5
    assert votes.non_faces(counts).tolist() == [True, True, False]


def test_shares_leave_out_what_is_no_class_and_fall_back_on_the_label():
    counts = np.zeros((2, 10), dtype=np.int64)
    counts[0, votes.COLUMNS.index("happiness")] = 3
    counts[0, votes.COLUMNS.index("fear")] = 1
    counts[:, votes.COLUMNS.index("contempt")] = 6
    shares = votes.shares(counts, np.array([FEAR, FEAR]), EMOTIONS)
    assert shares.dtype == np.float32
    assert shares[0, [HAPPY, FEAR]].tolist() == [0.75, 0.25]
    assert shares[1].tolist() == np.eye(7)[FEAR].tolist()


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([["Training", "x"]], ("Usage", "Image name"), "no column 'neutral'"),
        ([row("Sometimes")], None, "line 2"),
        ([[*row()[:-1], "many"]], None, "line 2"),
        ([row()[:5]], None, "line 2"),
        ([row(fear=-3)], None, "line 2"),
        ([row(fear=10**30)], None, "line 2"),
    ],
)
def test_other_files_are_refused(tmp_path, rows, header, words):
    path = write(tmp_path / "v.csv", rows, *([header] if header else []))
    with pytest.raises(DataError, match=words):
        votes.read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.votes=.*nowhere\.csv \(No such file"):
        votes.read(tmp_path / "nowhere.csv")


def test_votes_of_other_images_are_refused():
    counts = np.zeros((2, 10), dtype=np.int64)
    counts[:, votes.COLUMNS.index("happiness")] = 10
    given = dict.fromkeys(("train", "val", "test"), counts)
    assert votes.attach(splits(), given, "v.csv")["train"].targets[:, HAPPY].tolist() == [1, 1]
    with pytest.raises(DataError, match=r"agrees with only 0%.*Kaggle"):
        votes.attach(splits((FEAR, FEAR)), given, "v.csv")
    with pytest.raises(DataError, match="2 rows of train, the data has 3 images"):
        votes.attach(splits((HAPPY,) * 3), given, "v.csv")
    other = {"train": Split(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]), ("bored", "keen"))}
    with pytest.raises(DataError, match="seven emotions"):
        votes.attach(other, given, "v.csv")


@pytest.mark.shared
def test_the_real_votes():
    counts = votes.read(SHARED / "fer2013" / "fer2013new.csv")
    assert {name: len(c) for name, c in counts.items()} == {"train": 28709, "val": 3589, "test": 3589}
    assert sum(int(votes.non_faces(c).sum()) for c in counts.values()) == 177


def test_majority_needs_five_votes_and_more_than_what_is_no_emotion(tmp_path):
    rows = [row(happiness=6, fear=4), row(fear=4, happiness=3, sadness=3), row(happiness=5, NF=5), row(happiness=5)]
    counts = votes.read(write(tmp_path / "v.csv", [*rows, row(fear=5, contempt=2, unknown=3)]))["train"]
    assert votes.majority(counts, EMOTIONS).tolist() == [HAPPY, -1, -1, HAPPY, FEAR]
    assert votes.majority(counts[:0], EMOTIONS).shape == (0,)


def test_split_by_majority_has_its_labels_and_leaves_out_the_rest():
    images = np.arange(3, dtype=np.uint8).repeat(16).reshape(3, 4, 4)
    split = Split(images, np.array([HAPPY, HAPPY, HAPPY]), EMOTIONS, majority=np.array([FEAR, -1, HAPPY]))
    agreed = split.by_majority()
    assert (agreed.labels.tolist(), agreed.images[:, 0, 0].tolist()) == ([FEAR, HAPPY], [0, 2])
    assert split.only(np.array([False, True, True])).majority.tolist() == [-1, HAPPY]
