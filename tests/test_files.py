import pytest

from fer.files import atomic_write, expand, without_folders, write_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_complete_or_absent(tmp_path):
    write_file(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        assert names(tmp_path) == [".a.part.txt", "a.txt"]
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "é\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_file(tmp_path / "folder", "x")
    assert names(tmp_path) == ["a.txt", "folder"]


def test_a_folder_is_complete_or_absent(tmp_path):
    for text in ("first", "second"):
        with atomic_write(tmp_path / "data", unique=True) as part:
            part.mkdir()
            (part / "a").write_text(text)
    assert (tmp_path / "data" / "a").read_text() == "second"
    assert names(tmp_path) == ["data"]


def test_a_file_name_of_another_encoding_can_be_written_about(tmp_path):
    write_file(tmp_path / "a.csv", b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "a.csv").read_text("utf-8") == "caf\\udce9.jpg"


def test_a_tilde_is_a_home_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/model.ts") == tmp_path / "model.ts"
    assert str(expand("~no-such-user.mp4")) == "~no-such-user.mp4"
    assert str(expand("a~b")) == "a~b"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("init_from=/home/me/runs/best.ckpt", "init_from=…/best.ckpt"),
        ("data.root=~/my faces/a", "data.root=…/a"),
        ("data.root=faces/a", "data.root=faces/a"),
        ("url=https://a.b/c", "url=https://a.b/c"),
    ],
)
def test_no_folder_is_published(text, wanted):
    assert without_folders(text, spaces=True) == wanted
