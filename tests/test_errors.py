import errno
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fer.errors import DataError, hydra_in_one_line, one_line


def test_fer_error_is_one_line_and_status_two(capsys):
    with pytest.raises(SystemExit) as caught, one_line():
        raise DataError("first\nsecond")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: first second\n"


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(DataError), one_line():
        raise DataError("x")


def test_a_folder_above_that_may_not_be_looked_into_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught, one_line():
        raise PermissionError(errno.EACCES, "Permission denied", "/root/secret/model.ts")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: /root/secret/model.ts: Permission denied; give another path\n"


def test_a_name_that_no_disk_takes_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught, one_line():
        Path("x" * 5000).is_file()
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {'x' * 200}: File name too long; give another path\n"


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 2000 + "]" * 2000])
def test_a_value_that_hydra_cannot_parse_for_its_length_is_one_line(value, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["infer.py", f"threads={value}"])
    with pytest.raises(SystemExit) as caught, hydra_in_one_line(Path("conf"), "infer"):
        OverridesParser.create().parse_overrides(sys.argv[1:])
    assert caught.value.code == 1
    said = "error: a value has more digits or brackets than anybody needs; give a shorter one\n"
    assert capsys.readouterr().err == said


def test_a_run_folder_that_hydra_cannot_make_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as caught, hydra_in_one_line(Path("conf"), "train"):
        Path("/proc/version/run").mkdir()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: cannot write /proc/version/run (Not a directory); set hydra.run.dir\n"


def test_bugs_are_not_hidden():
    with pytest.raises(ZeroDivisionError), one_line():
        1 / 0  # noqa: B018


def test_an_output_that_is_not_read_to_its_end_is_no_error():
    code = "from fer.errors import one_line\nwith one_line():\n    for k in range(100_000): print(k)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert (process.stderr.read(), process.wait(30)) == ("", 141)
    process.stderr.close()
