import pytest

from fer.errors import DataError, one_line


def test_fer_error_is_one_line_and_status_two(capsys):
    with pytest.raises(SystemExit) as caught, one_line():
        raise DataError("first\nsecond")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: first second\n"


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(DataError), one_line():
        raise DataError("x")


def test_bugs_are_not_hidden():
    with pytest.raises(ZeroDivisionError), one_line():
        1 / 0  # noqa: B018
