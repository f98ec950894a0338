from pathlib import Path

import pytest

from fer.files import expanded, write_whole


def test_a_file_is_whole_or_absent(tmp_path):
    write_whole(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_a_file_name_of_another_encoding_can_be_written_about(tmp_path):
    write_whole(tmp_path / "a.csv", b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "a.csv").read_text("utf-8") == "caf\\udce9.jpg"


def test_a_tilde_is_a_home_where_there_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert expanded("~/model.ts") == Path("/somebody/model.ts")
    assert expanded("~no-such-user.mp4") == Path("~no-such-user.mp4")
    assert expanded("a~b") == Path("a~b")
