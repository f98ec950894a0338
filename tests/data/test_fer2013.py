import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from samples import Row, fer_rows, write_csv

from fer.data import fer2013
from fer.data.base import duplicates
from fer.errors import ConfigError, DataError
from fer.labels import EMOTIONS


def tar_of(csv_path: Path, target: Path, name: str = "fer2013/fer2013.csv") -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz") as archive:
        archive.add(csv_path, name)
    return target


def kaggle_folder(root: Path, rows: list[Row], prefixes: bool = True) -> Path:
    for number, (label, image, usage) in enumerate(rows):
        split = "train" if usage == "Training" else "test"
        name = f"{usage}_{number}.png" if prefixes else f"im{number}.png"
        path = root / split / EMOTIONS[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return root


def zip_of(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder).as_posix())
    return target


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        fer2013.read(root)
    return str(caught.value)


def test_csv_gives_the_published_splits(tmp_path):
    rows = fer_rows()
    splits = fer2013.read(write_csv(tmp_path / "fer2013.csv", rows))
    assert {name: len(split) for name, split in splits.items()} == {"train": 21, "val": 14, "test": 14}
    first = next(row for row in rows if row[2] == "PublicTest")
    assert splits["val"].classes == EMOTIONS
    assert splits["val"].labels[0] == first[0]
    assert np.array_equal(splits["val"].images[0], first[1])


def test_text_layouts_have_one_fingerprint(tmp_path):
    rows = fer_rows()
    plain = write_csv(tmp_path / "a" / "fer2013.csv", rows)
    write_csv(tmp_path / "b" / "icml_face_data.csv", rows, icml=True)
    tar_of(plain, tmp_path / "c" / "fer2013.tar.gz")
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "archive.zip", "w") as archive:
        archive.write(plain, "fer2013/fer2013.csv")
    prints = [{name: split.fingerprint for name, split in fer2013.read(tmp_path / folder).items()} for folder in "abcd"]
    assert prints[0] == prints[1] == prints[2] == prints[3]
    assert len(set(prints[0].values())) == 3


def test_kaggle_folder_and_zip_tell_val_from_test_by_prefix(tmp_path):
    rows = fer_rows()
    truth = fer2013.read(write_csv(tmp_path / "csv" / "fer2013.csv", rows))
    folder = kaggle_folder(tmp_path / "folders", rows)
    (tmp_path / "zip").mkdir()
    zip_of(folder, tmp_path / "zip" / "archive.zip")
    for root in (folder, tmp_path / "zip"):
        splits = fer2013.read(root)
        for name, split in splits.items():
            assert split.counts() == truth[name].counts()
            assert {i.tobytes() for i in split.images} == {i.tobytes() for i in truth[name].images}


def test_what_a_mac_adds_to_its_archives_is_ignored(tmp_path):
    folder = kaggle_folder(tmp_path / "kaggle", fer_rows())
    plain = zip_of(folder, tmp_path / "plain.zip")
    mac = tmp_path / "mac.zip"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(mac, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            head, _, tail = name.rpartition("/")
            new.writestr(f"__MACOSX/{head}/._{tail}", b"Mac OS X")
    assert fer2013.read(mac)["train"].fingerprint == fer2013.read(plain)["train"].fingerprint


@pytest.mark.parametrize("above", ["fer2013", "fer2013/fer2013", "download/data"])
def test_a_table_in_folders_of_folders(tmp_path, above):
    write_csv(tmp_path / above / "fer2013.csv", fer_rows())
    if above == "fer2013":
        (tmp_path / "votes").mkdir()
    assert len(fer2013.read(tmp_path)["train"]) == 21


def test_pixels_may_be_in_several_lines_of_a_cell(tmp_path):
    truth = fer2013.read(write_csv(tmp_path / "a" / "fer2013.csv", fer_rows()))
    path = write_csv(tmp_path / "b" / "fer2013.csv", fer_rows())
    path.write_text(
        re.sub(r",(\d[\d ]+),", lambda cell: ',"' + cell[1].replace(" ", "\n", 47) + '",', path.read_text())
    )
    assert fer2013.read(path)["test"].fingerprint == truth["test"].fingerprint


def test_hidden_files_and_folders_are_ignored(tmp_path):
    folder = kaggle_folder(tmp_path, fer_rows())
    before = fer2013.read(folder)["train"].fingerprint
    (folder / "train" / "happy" / "._a.jpg").write_bytes(b"Mac OS X")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / ".ipynb_checkpoints" / "a.jpg").write_bytes(b"a notebook's")
    assert fer2013.read(folder)["train"].fingerprint == before


def test_kaggle_folder_without_prefixes_takes_a_stratified_seeded_val(tmp_path):
    rows = [(k % 7, np.full((48, 48), k, np.uint8), "Training") for k in range(210)]
    rows += [(k, np.full((48, 48), k, np.uint8), "PrivateTest") for k in range(7)]
    root = kaggle_folder(tmp_path, rows, prefixes=False)
    one, again, other = fer2013.read(root, seed=1), fer2013.read(root, seed=1), fer2013.read(root, seed=2)
    assert one["val"].counts() == [3] * 7
    assert len(one["train"]) == 189
    assert one["val"].fingerprint == again["val"].fingerprint != other["val"].fingerprint
    assert not {i.tobytes() for i in one["val"].images} & {i.tobytes() for i in one["train"].images}


LAYOUTS = [
    ("train", "val", "test"),
    ("train", "validation", "test"),
    ("Train", "Valid", "TEST"),
    ("Training", "PublicTest", "PrivateTest"),
    ("images/train", "images/validation", "images/test"),
]


@pytest.mark.parametrize("names", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("label", ["{1}", "{0}", "{0}_{1}"])
def test_the_users_own_splits_are_used(tmp_path, names, label):
    rows = fer_rows()
    for number, (emotion, image, usage) in enumerate(rows):
        split = names[["Training", "PublicTest", "PrivateTest"].index(usage)]
        path = tmp_path / split / label.format(emotion, EMOTIONS[emotion].capitalize()) / f"PublicTest_{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    truth = fer2013.read(write_csv(tmp_path / "csv" / "fer2013.csv", rows))
    shutil.rmtree(tmp_path / "csv")
    splits = fer2013.read(tmp_path)
    for name, split in splits.items():
        assert {i.tobytes() for i in split.images} == {i.tobytes() for i in truth[name].images}
        assert split.counts() == truth[name].counts()


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (("train", "val"), {"train": 13 * 7, "val": 14, "test": 2 * 7}),
        (("train",), {"train": 11 * 7, "val": 2 * 7, "test": 2 * 7}),
        (("test",), {"test": 14}),
        (("Validation",), {"val": 14}),
    ],
)
def test_splits_that_are_missing_are_cut_from_train(tmp_path, given, counts, caplog):
    for split in given:
        kind = [(k % 7, np.full((48, 48), k, np.uint8), "Training") for k in range(105 if split == "train" else 14)]
        kaggle_folder(tmp_path / split, kind, prefixes=False)
        (tmp_path / split / "train").rename(tmp_path / "moving")
        (tmp_path / split).rmdir()
        (tmp_path / "moving").rename(tmp_path / split)
    assert {name: len(split) for name, split in fer2013.read(tmp_path).items()} == counts
    assert ("15 % of train" in caplog.text) == ("train" in given)


def written(change: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Path], None]:
    """Writes a changed fer2013.csv into a folder."""

    def write(root: Path) -> None:
        text = write_csv(root / "fer2013.csv", fer_rows()).read_text()
        (root / "fer2013.csv").write_bytes(change(text).encode(encoding))

    return write


def line_by_line(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, replacement, text, flags=re.MULTILINE)


def renamed(name: str) -> Callable[[Path], None]:
    return lambda root: write_csv(root / "fer2013.csv", fer_rows()).rename(root / name)


def one_file_a_split(root: Path) -> None:
    for name, usage in (("train", "Training"), ("valid", "PublicTest"), ("Test", "PrivateTest")):
        path = write_csv(root / f"{name}.csv", [row for row in fer_rows() if row[2] == usage])
        path.write_text(line_by_line(r",[A-Z]\w+$", "")(path.read_text()))


@pytest.mark.parametrize(
    "write",
    [
        written(lambda text: text.replace(",", ";")),
        written(lambda text: text.replace(",", "\t"), "utf-16"),
        written(lambda text: "\ufeff" + line_by_line("([^,\n]+)", r'"\1"')(text)),
        written(line_by_line("^", "0,")),
        written(line_by_line(r"^(\d),", r"\1.0,")),
        written(line_by_line(r"^(\d),", lambda match: f"{EMOTIONS[int(match[1])].upper()},")),
        written(line_by_line(r"^(\d),", lambda match: f"{match[1]}_{EMOTIONS[int(match[1])]},")),
        written(lambda text: text + ",,\r\n,,\r\n\r\n"),
        written(line_by_line(r",(\d.*\d),", lambda match: f',"[{match[1].replace(" ", ", ")}]",')),
        written(lambda text: text.replace("Usage", "Split").replace("emotion", "Label").replace("PublicTest", "val")),
        renamed("fer2013_clean.csv"),
        renamed("FER2013.CSV"),
        one_file_a_split,
    ],
)
def test_a_table_as_other_programs_write_it(tmp_path, write):
    truth = fer2013.read(write_csv(tmp_path / "a" / "fer2013.csv", fer_rows()))
    (tmp_path / "b").mkdir()
    write(tmp_path / "b")
    splits = fer2013.read(tmp_path / "b")
    assert {name: s.fingerprint for name, s in splits.items()} == {name: s.fingerprint for name, s in truth.items()}


@pytest.mark.parametrize("above", ["", "data/"])
def test_an_archive_of_a_file_for_each_split(tmp_path, above):
    one_file_a_split(tmp_path)
    truth = fer2013.read(write_csv(tmp_path / "fer2013.csv", fer_rows()))
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "archive.zip", "w") as archive:
        for name in ("train.csv", "valid.csv", "Test.csv"):
            archive.write(tmp_path / name, above + name)
            archive.writestr(f"__MACOSX/{above}._{name}", b"Mac OS X")
    splits = fer2013.read(tmp_path / "zip")
    assert {name: s.fingerprint for name, s in splits.items()} == {name: s.fingerprint for name, s in truth.items()}


def test_a_table_without_usage_is_split_by_seed(tmp_path, caplog):
    rows = [(k % 7, np.full((48, 48), k, np.uint8), "Training") for k in range(210)]
    path = write_csv(tmp_path / "train.csv", rows)
    path.write_text(line_by_line(r",[A-Z]\w+$", "")(path.read_text()))
    one, again, other = (fer2013.read(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert {name: split.counts() for name, split in one.items()} == {"train": [22] * 7, "val": [4] * 7, "test": [4] * 7}
    assert one["test"].fingerprint == again["test"].fingerprint != other["test"].fingerprint
    assert "no val and no test: 15 % of train" in caplog.messages[0]


def test_tables_beside_the_one_that_is_read_are_named(tmp_path, caplog):
    for name in ("fer2013.csv", "icml_face_data.csv", "other.csv"):
        write_csv(tmp_path / name, fer_rows())
    (tmp_path / "labels.csv").write_text("path,label")
    fer2013.read(tmp_path)
    assert caplog.messages == [
        f"{tmp_path / 'fer2013.csv'} is read, not what else is there: icml_face_data.csv, other.csv"
    ]


def test_unreadable_images_are_counted(tmp_path):
    root = kaggle_folder(tmp_path, fer_rows())
    for name in ("a.png", "b.jpg", "c.png"):
        (root / "train" / "sad" / name).write_bytes(b"")
    message = refusal(root)
    assert message.startswith(f"3 files are not readable images, such as {root}/train/sad/a.png (empty)")


def test_what_is_not_read_is_said_from_the_cache_too(tmp_path, caplog):
    root = kaggle_folder(tmp_path, fer_rows())
    (root / "train" / "sad" / "clip.mp4").write_bytes(b"something else")
    for _ in range(2):
        caplog.clear()
        fer2013.read(root)
        assert caplog.messages == [f"{root}: files that are no images and not read: 1, such as train/sad/clip.mp4"]


def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    write_csv(tmp_path / "fer2013.csv", fer_rows())
    monkeypatch.setenv("FER2013_ROOT", str(tmp_path))
    assert len(fer2013.read()["train"]) == 21


def test_second_read_is_from_the_cache_and_a_changed_source_is_not(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "fer2013.csv", fer_rows())
    before = fer2013.read(path)["train"].fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(fer2013, "_read", lambda *_: pytest.fail("read the source again"))
        assert fer2013.read(path)["train"].fingerprint == before
    write_csv(path, fer_rows(seed=1))
    os.utime(path, ns=(1, 1))
    assert fer2013.read(path)["train"].fingerprint != before
    assert [p.name for p in tmp_path.iterdir()] == ["fer2013.csv"]


def test_download_goes_through_kagglehub(tmp_path, monkeypatch):
    import kagglehub

    kaggle_folder(tmp_path / "fetched", fer_rows())
    asked = []

    def stand_in(name: str) -> str:
        asked.append(name)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(kagglehub, "dataset_download", stand_in)
    assert len(fer2013.read(tmp_path / "nothing", download=True)["train"]) == 21
    assert asked == ["msambare/fer2013"]


def test_failed_download_is_one_line(tmp_path, monkeypatch):
    import kagglehub

    def stand_in(name: str) -> str:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(kagglehub, "dataset_download", stand_in)
    with pytest.raises(DataError, match=r"no route to host.*by hand") as caught:
        fer2013.read(tmp_path / "nothing", download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"root": 5}, {"download": "yes"}, {"seed": -1}])
def test_arguments_that_cannot_work(arguments):
    with pytest.raises(ConfigError, match="="):
        fer2013.read(**arguments)


def test_nothing_there(tmp_path):
    assert re.search("absent.*data=synthetic", refusal(tmp_path / "absent"))


def test_class_folders_without_splits_are_for_another_reader(tmp_path):
    kaggle_folder(tmp_path, fer_rows())
    assert "data=image_folder reads it" in refusal(tmp_path / "train")


def changed(line: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    """An edit of one line, counted from 1, by a regular expression."""
    return lambda lines: [*lines[: line - 1], re.sub(old, new, lines[line - 1], count=1), *lines[line:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: ["emotion,data,Usage", *lines[1:]], "no column 'pixels'"),
        (changed(5, r" \d+,", ","), "line 5: 2303 pixels"),
        (changed(3, r",\d+ ", ",256 "), "line 3: a pixel is not a whole number from 0 to 255"),
        (changed(3, r",\d+ ", ",-1 "), "line 3: a pixel is not a whole number from 0 to 255"),
        (changed(3, r",\d+ ", ",1.5 "), "line 3: a pixel is not a whole number from 0 to 255"),
        (changed(7, r"^\d", "9"), "line 7: the label is '9'"),
        (changed(2, r"\w+$", "Holdout"), "line 2: Usage is 'Holdout'"),
        (lambda lines: [*lines[:-1], lines[-1][:1]], "line 50: Usage is ''"),
    ],
    ids=["column", "too few pixels", "256", "negative", "fraction", "label", "usage", "cut short"],
)
def test_a_malformed_csv_is_refused_with_the_line(tmp_path, change, words):
    path = write_csv(tmp_path / "fer2013.csv", fer_rows())
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert words in refusal(tmp_path)


def test_empty_class(tmp_path):
    write_csv(tmp_path / "fer2013.csv", [row for row in fer_rows() if row[0] != 1 or row[2] != "PublicTest"])
    assert "no val image (PublicTest) of class disgust" in refusal(tmp_path)


def test_without_train_the_splits_that_exist_are_returned(tmp_path):
    write_csv(tmp_path / "fer2013.csv", [row for row in fer_rows() if row[2] != "Training"])
    assert {name: len(split) for name, split in fer2013.read(tmp_path).items()} == {"val": 14, "test": 14}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_truncated_archive(tmp_path, kind):
    plain = write_csv(tmp_path / "x.csv", fer_rows())
    root = tmp_path / "root"
    root.mkdir()
    if kind == "tar":
        path = tar_of(plain, root / "fer2013.tar.gz")
    else:
        path = root / "archive.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, "fer2013.csv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is damaged" in refusal(root)


def test_unreadable_image(tmp_path):
    root = kaggle_folder(tmp_path, fer_rows())
    (root / "train" / "happy" / "broken.png").write_bytes(b"not a picture")
    assert "broken.png" in refusal(root)


def test_image_of_another_size(tmp_path):
    root = kaggle_folder(tmp_path, fer_rows())
    cv2.imwrite(str(root / "train" / "happy" / "large.png"), np.zeros((64, 64), np.uint8))
    assert "large.png: 64×64" in refusal(root)


def test_the_byte_order_mark_of_a_spreadsheet_is_ignored(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", fer_rows())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(fer2013.read(path)["train"]) == 21


def test_file_that_is_no_dataset(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "no FER-2013 in" in refusal(path)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    assert "binary.csv, line 1: not CSV in UTF-8" in refusal(tmp_path / "binary.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert "no column 'emotion'" in refusal(tmp_path / "empty.csv")


@pytest.mark.shared
def test_real_fer2013_has_the_published_counts_and_duplicates(real):
    assert real["train"].counts() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert real["val"].counts() == [467, 56, 496, 895, 653, 415, 607]
    assert real["test"].counts() == [491, 55, 528, 879, 594, 416, 626]
    assert duplicates(real["test"], [real["train"]]).sum() == 288
    assert duplicates(real["val"], [real["train"]]).sum() == 280
    assert real["train"].images.mean() / 255 == pytest.approx(0.5077, abs=1e-4)
