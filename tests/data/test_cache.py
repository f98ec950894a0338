import logging

import numpy as np
import pytest

from fer.data import cache
from fer.data.base import Split


def splits(value: int = 0) -> dict[str, Split]:
    return {"train": Split(np.full((2, 4, 4), value, np.uint8), np.array([0, 1]), ("a", "b"))}


def test_kept_arrays_are_memory_mapped_and_equal():
    stored = cache.cached("k", splits)
    assert isinstance(stored["train"].images, np.memmap)
    assert stored["train"].fingerprint == splits()["train"].fingerprint
    assert cache.cached("k", lambda: pytest.fail("not from the cache"))["train"].classes == ("a", "b")


def test_what_a_reader_says_is_said_each_time(caplog):
    def read():
        logging.getLogger("fer.data.folder").warning("%d files are not read", 3)
        logging.getLogger("fer.data.folder").info("val is cut from train")
        return splits()

    for level, lines in ((logging.WARNING, 1), (logging.INFO, 2), (logging.INFO, 2)):
        caplog.clear()
        with caplog.at_level(level):
            cache.cached("k", read)
        assert caplog.messages == ["3 files are not read", "val is cut from train"][:lines]
    with pytest.raises(RuntimeError):
        cache.cached("x", lambda: (_ for _ in ()).throw(RuntimeError()))
    assert logging.getLogger("fer.data").propagate


def test_splits_without_train_are_kept():
    cache.cached("k", lambda: {"test": splits()["train"]})
    assert list(cache.cached("k", lambda: pytest.fail("not from the cache"))) == ["test"]


def test_failed_reader_leaves_nothing():
    with pytest.raises(RuntimeError):
        cache.cached("k", lambda: (_ for _ in ()).throw(RuntimeError()))
    assert not list(cache.folder().iterdir())


@pytest.mark.parametrize("left", [b"torn", b""])
@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "contents.json"])
def test_torn_entry_is_read_again(left, name):
    cache.cached("k", splits)
    (cache.folder() / "k" / name).write_bytes(left)
    assert cache.cached("k", lambda: splits(7))["train"].images[0, 0, 0] == 7
    assert [p.name for p in cache.folder().iterdir()] == ["k"]


def test_unwritable_folder_still_answers(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "file"))
    assert len(cache.cached("k", splits)["train"]) == 2


def test_stamp_follows_every_file(tmp_path):
    (tmp_path / "a").write_text("1")
    before = cache.stamp(tmp_path, "x")
    assert before == cache.stamp(tmp_path, "x") != cache.stamp(tmp_path, "y")
    (tmp_path / "b").write_text("1")
    assert cache.stamp(tmp_path, "x") != before
