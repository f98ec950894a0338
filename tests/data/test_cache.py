import numpy as np
import pytest

from fer.data import cache
from fer.data.base import Split


def splits(value: int = 0) -> dict[str, Split]:
    return {"train": Split(np.full((2, 4, 4), value, np.uint8), np.array([0, 1]), ("a", "b"))}


def cached(read, notes=None):
    return cache.cached("k", read, [] if notes is None else notes)


def test_kept_arrays_are_memory_mapped_and_equal():
    stored = cached(splits)
    assert isinstance(stored["train"].images, np.memmap)
    assert stored["train"].fingerprint == splits()["train"].fingerprint
    assert cached(lambda: pytest.fail("not from the cache"))["train"].classes == ("a", "b")


def test_notes_of_a_reader_are_there_each_time():
    said, again = [], []

    def read():
        said.append("3 files are not read")
        return splits()

    cached(read, said)
    cached(lambda: pytest.fail("not from the cache"), again)
    assert said == again == ["3 files are not read"]


def test_splits_without_train_are_kept():
    cached(lambda: {"test": splits()["train"]})
    assert list(cached(lambda: pytest.fail("not from the cache"))) == ["test"]


def test_failed_reader_leaves_nothing():
    with pytest.raises(RuntimeError):
        cached(lambda: (_ for _ in ()).throw(RuntimeError()))
    assert not list(cache.folder().iterdir())


@pytest.mark.parametrize("left", [b"torn", b""])
@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "contents.json"])
def test_torn_entry_is_read_again(left, name):
    cached(splits)
    (cache.folder() / "k" / name).write_bytes(left)
    assert cached(lambda: splits(7))["train"].images[0, 0, 0] == 7
    assert [p.name for p in cache.folder().iterdir()] == ["k"]


def test_unwritable_folder_still_answers(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "file"))
    assert len(cached(splits)["train"]) == 2


def test_stamp_follows_every_file(tmp_path):
    (tmp_path / "a").write_text("1")
    before = cache.stamp(tmp_path, "x")
    assert before == cache.stamp(tmp_path, "x") != cache.stamp(tmp_path, "y")
    (tmp_path / "b").write_text("1")
    assert cache.stamp(tmp_path, "x") != before
