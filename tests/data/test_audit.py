import csv
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from samples import SHARED, fer_rows, write_csv, write_votes

from fer.data import audit, fer2013
from fer.data.base import Split
from fer.labels import EMOTIONS

FACE = [np.random.default_rng(k).integers(0, 256, (8, 8), dtype=np.uint8) for k in range(8)]
FLAT = np.full((8, 8), 7, dtype=np.uint8)


def split(*pairs):
    return Split(np.stack([image for image, _ in pairs]), np.array([k for _, k in pairs]), ("calm", "keen"))


@pytest.fixture
def splits():
    return {
        "train": split((FACE[0], 0), (FACE[1], 0), (FACE[1], 1), (FACE[2], 1), (FACE[2], 1), (FACE[3], 0)),
        "val": split((FACE[0], 0), (FACE[4], 1), (FLAT, 1)),
        "test": split((FACE[0], 0), (FACE[0], 1), (FACE[4], 1), (FACE[5], 0)),
    }


@pytest.fixture
def command(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fer.data.audit", *map(str, arguments)])
        try:
            audit.main()
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


def test_every_problem_is_found(splits):
    result = audit.examine(splits)
    # train 0-5, val 6-8, test 9-12
    assert {name: np.flatnonzero(where).tolist() for name, where in result.problems.items()} == {
        "duplicate in another split": [0, 6, 7, 9, 10, 11],
        "near-duplicate in another split": [],
        "conflicting label": [0, 1, 2, 6, 9, 10],
        "repeated": [0, 1, 2, 3, 4, 6, 7, 9, 10, 11],
        "constant": [8],
    }
    pairs = [("test", "train"), ("train", "test"), ("test", "val")]
    assert [result.duplicates(*pair) for pair in pairs] == [2, 1, 3]
    totals = [count for _, count in audit.report(result)[0].rows]
    assert totals == ["13", "4", "2", "6", "0"]


def test_what_is_written_says_the_same(splits, tmp_path):
    named = {n: replace(s, names=tuple(f"{n}/{k}.png" for k in range(len(s)))) for n, s in splits.items()}
    result = audit.examine(named)
    audit.write(result, tmp_path / "out", "Audit of a | b")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(audit.NAMES)
    with (tmp_path / "out" / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(int(where.sum()) for where in result.problems.values())
    assert {
        "split": "val",
        "row": "2",
        "file": "val/2.png",
        "class": "keen",
        "problem": "constant",
        "group": "5",
    } in rows
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "| conflicting groups | 2 |" in text
    assert "| test | 2 | 3 |  |" in text
    assert "| keen | 3 (50.0%) | 2 (66.7%) | 2 (50.0%) |" in text
    assert (tmp_path / "out" / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_an_example_names_all_copies_of_an_image(splits):
    parts = dict(audit.examples(audit.examine(splits), most=2))
    image, text = parts["conflicting label: 6"][0]
    assert np.array_equal(image, FACE[0])
    assert text == "train 0 calm\nval 0 calm\ntest 0 calm\nand 1 more"


def face(seed: int) -> np.ndarray:
    """A picture in which something can be recognised: blurred noise."""
    small = np.random.default_rng(seed).integers(0, 256, (10, 10), dtype=np.uint8)
    return cv2.resize(small, (48, 48), interpolation=cv2.INTER_CUBIC)


def test_copies_in_other_splits_are_found_and_share_a_group():
    faces = [face(k) for k in range(6)]
    lighter = (faces[0] * 0.8 + 30).astype(np.uint8)
    whole = {"train": split((faces[0], 0), (faces[1], 1)), "val": split((lighter, 0), (faces[2], 1), (faces[1], 1))}
    result = audit.examine(whole)
    assert np.flatnonzero(result.problems[audit.NEAR]).tolist() == [0, 2]
    assert (result.near("train", "val"), result.near("val", "train"), result.duplicates("val", "train")) == (1, 1, 1)
    first, second = (row for row in audit.rows(result) if row[4] == audit.NEAR)
    assert (first[:2], second[:2], first[5] == second[5]) == (["train", "0"], ["val", "0"], True)
    assert dict(audit.examples(result))["near-duplicate in another split: 2"][0][1] == "train 0 calm\nval 0 calm"


def test_several_datasets_are_compared(command, tmp_path):
    for home, labels in (("a", ("Happiness", "own")), ("b", ("happy", "sad"))):
        for k in range(8):
            path = tmp_path / home / ("train", "test")[k % 2] / labels[k // 2 % 2] / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = face(k + (20 if home == "b" else 0))
            if (home, k) == ("b", 4):  # train
                image = cv2.resize(face(1), (100, 100))  # test of a
            cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (tmp_path / "b" / "train" / "sad" / "bad.jpg").write_bytes(b"")
    roots = f"root=[{tmp_path / 'a'},{tmp_path / 'b'}]"
    assert command(roots, f"out={tmp_path / 'out'}", "size=40")[0] == 0
    text, rows = ((tmp_path / "out" / f"audit.{kind}").read_text() for kind in ("md", "csv"))
    assert "| b/train |  |" not in text and "| near-duplicate in another split |" in text
    assert {line.split(",")[2] for line in rows.splitlines() if audit.NEAR in line} == {
        "a/test/Happiness/1.jpg",
        "b/train/happy/4.jpg",
    }
    assert "b/train/sad/bad.jpg" in text
    assert "votes= is for one dataset" in command(roots, "votes=v.csv", f"out={tmp_path / 'x'}")[1]


def test_a_clean_set_has_a_report_too(tmp_path):
    clean = {name: split((FACE[2 * k], 0), (FACE[2 * k + 1], 1)) for k, name in enumerate(("train", "val", "test"))}
    result = audit.examine(clean)
    assert audit.rows(result) == []
    audit.write(result, tmp_path, "clean")
    assert (tmp_path / "audit.png").stat().st_size > 0


def test_votes_tell_what_is_no_face(tmp_path):
    rows = fer_rows()
    data = fer2013.read(write_csv(tmp_path / "fer2013.csv", rows))
    result = audit.examine(data, write_votes(tmp_path / "votes.csv", rows, no_faces=[3]))
    (only,) = np.flatnonzero(result.problems["no face (votes)"])
    assert np.array_equal(data[result.split[only]].images[result.row[only]], rows[3][1])


def test_program_on_folders_names_the_files(command, tmp_path):
    for name, image in (("calm/a.png", FACE[0]), ("calm/b.png", FACE[1]), ("keen/c.png", FACE[1])):
        for part in ("train", "val", "test"):
            path = tmp_path / "faces" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image if part == "train" else image.T)
    assert command(tmp_path / "faces", f"out={tmp_path / 'out'}", "size=8") == (0, "")
    assert "train/keen/c.png" in (tmp_path / "out" / "audit.csv").read_text()


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "test"), ("Test",)])
def test_unreadable_files_are_listed_in_a_report(command, tmp_path, parts):
    """Also where splits are missing, and where nothing is left."""
    for part in parts:
        for k, name in enumerate(("lazy/a.png", "lazy/b.png", "keen/c.png", "keen/d.png")):
            path = tmp_path / "faces" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), FACE[k])
    data = (tmp_path / "faces" / parts[0] / "lazy" / "a.png").read_bytes()
    broken = {"lazy/e.png": data[:40], "keen/f.jpg": b"", "keen/g.png": b"no image", "lazy/h.tiff": b"II*\0"}
    for name, content in broken.items():
        (tmp_path / "faces" / parts[-1] / name).write_bytes(content)
    assert command(tmp_path / "faces", f"out={tmp_path / 'out'}", "size=8") == (0, "")
    text, rows = ((tmp_path / "out" / f"audit.{kind}").read_text() for kind in ("md", "csv"))
    assert "| unreadable files | 4 |" in text
    for name in broken:
        assert f"| {parts[-1]}/{name} |" in text
        assert f"{parts[-1]}/{name},{name[:4]},unreadable: " in rows.replace('"', "")
    for path in (tmp_path / "faces").rglob("?.png"):
        path.write_bytes(b"")
    assert command(tmp_path / "faces", f"out={tmp_path / 'out'}", "size=8", "channels=3") == (0, "")
    assert f"| unreadable files | {4 * len(parts) + 4} |" in (tmp_path / "out" / "audit.md").read_text()


def test_tables_of_single_splits_and_folders_with_other_names_are_read(tmp_path):
    for name, usage in (("train", "Training"), ("val", "PublicTest"), ("test", "PrivateTest")):
        write_csv(tmp_path / "a" / f"{name}.csv", [row for row in fer_rows() if row[2] == usage])
    for k, (label, image, usage) in enumerate(fer_rows()):
        path = tmp_path / "b" / ("Train" if usage == "Training" else "TEST") / EMOTIONS[label] / f"{usage}_{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    for root in ("a", "b"):
        assert {name: len(s) for name, s in audit.read(tmp_path / root).items()} == {"train": 21, "val": 14, "test": 14}


def test_every_layout_is_read(tmp_path):
    (tmp_path / "deep" / "fer2013").mkdir(parents=True)
    file = write_csv(tmp_path / "deep" / "fer2013" / "fer2013.csv", fer_rows())
    assert [len(audit.read(path)["train"]) for path in (file, tmp_path / "deep")] == [21, 21]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "as in: python -m fer.data.audit faces"),
        (["a", "b"], 1, "b is not key=value"),
        (["a", "outt=b"], 1, "outt is not a key; did you mean out?"),
        (["nowhere"], 2, "nothing at nowhere"),
    ],
)
def test_bad_arguments_are_one_line(command, arguments, status, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, err = command(*arguments)
    assert (code, err.count("\n")) == (status, 1)
    assert words in err
    assert not list(tmp_path.iterdir())


def test_bad_votes_and_bad_out_leave_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_csv(tmp_path / "fer2013.csv", fer_rows())
    assert "cannot read data.votes" in command(root, "votes=none.csv", "out=out")[1]
    (tmp_path / "file").touch()
    assert "cannot write into out=" in command(root, "out=file")[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fer2013.csv", "file"]


def test_a_tilde_in_out_is_a_home(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert command(write_csv(tmp_path / "fer2013.csv", fer_rows()), "out=~/audit") == (0, "")
    assert (tmp_path / "home" / "audit" / "audit.csv").exists()


@pytest.mark.shared
def test_the_real_fer2013_has_its_known_faults(real):
    result = audit.examine(real, SHARED / "fer2013" / "fer2013new.csv")
    pairs = [("test", "train"), ("val", "train"), ("test", "val")]
    assert [result.duplicates(*pair) for pair in pairs] == [288, 280, 44]
    assert [count for _, count in audit.report(result)[0].rows] == ["35887", "1514", "57", "1851", "0"]
    assert [result.problems[name].sum() for name in ("constant", "no face (votes)")] == [12, 177]
