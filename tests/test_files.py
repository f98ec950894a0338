import bz2
import errno
import io
import os
from pathlib import Path

import pytest

from fer.errors import ConfigError
from fer.files import expand, json_object, read, unpacked, without_folders, write_file


def test_a_file_is_whole_or_absent(tmp_path):
    write_file(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_file(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_a_file_name_of_another_encoding_can_be_written_about(tmp_path):
    write_file(tmp_path / "a.csv", b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "a.csv").read_text("utf-8") == "caf\\udce9.jpg"


def test_a_tilde_is_a_home_where_there_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert expand("~/model.ts") == Path("/somebody/model.ts")
    assert expand("~no-such-user.mp4") == Path("~no-such-user.mp4")
    assert expand("a~b") == Path("a~b")


def test_a_path_that_cannot_be_is_one_line():
    with pytest.raises(ConfigError, match=r"NUL character: 'a\\x00b'"):
        expand("a\0b")


def test_only_regular_files_of_a_size_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    assert read(tmp_path / "a", most=4) == b"1234"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, most, code in (
        ("a", 3, errno.EFBIG),
        ("pipe", 4, errno.EINVAL),
        ("link", 4, errno.EINVAL),
        ("none", 4, errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            read(tmp_path / name, most)
        assert caught.value.errno == code


@pytest.mark.parametrize("path", [5, None, [1], "\ud800"])
def test_what_is_no_path_is_one_line(path):
    with pytest.raises(ConfigError, match=r"is no path; give|no file can be called"):
        expand(path)


@pytest.mark.parametrize("most", [99_999, 100_000])
def test_a_stream_unpacks_to_so_much_and_no_more(most):
    with bz2.open(io.BytesIO(bz2.compress(bytes(100_000)))) as stream:
        if most == 100_000:
            assert unpacked(stream, most) == bytes(100_000)
        else:
            with pytest.raises(OSError, match="unpacks to more than 0 MB"):
                unpacked(stream, most)


@pytest.mark.parametrize("text", ["null", "[1]", "3", '"a"', "", "{", '{"a":' * 100 + "1" + "}" * 100, "[" * 10**5])
def test_json_that_is_no_object_or_has_no_end(text):
    with pytest.raises(ValueError):
        json_object(text)


def test_json_of_any_usual_depth_is_taken():
    assert json_object('{"a": [{"b": null}]}') == {"a": [{"b": None}]}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("data.root=/home/me/faces", "data.root=…/faces"),
        ("teachers=[/a/b.ts,/c d/e.ts]", "teachers=[…/b.ts,…/e.ts]"),
        ("data.root=~/faces", "data.root=…/faces"),
        ("data.root=C:/Users/me/faces", "data.root=…/faces"),
        ("init_from=runs/a/best.ckpt", "init_from=runs/a/best.ckpt"),
        ("url=https://example.org/a/b", "url=https://example.org/a/b"),
    ],
)
def test_absolute_paths_lose_their_folders(text, wanted):
    assert without_folders(text, spaces=True) == wanted
