import sys

import pytest

from fer.artifact.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["out=x.ts"], 2, "checkpoint=null"),
        (["checkpoint=a.ckpt"], 2, "out=null"),
        (["checkpoint=absent.ckpt", "out=x.ts"], 2, "absent.ckpt"),
        (["checkpoint=a.ckpt", "out=b.ts", "format=tflite"], 2, "format=tflite is unknown"),
        (["checkpoint=a.ckpt", "out=b.ts", "size=3"], 1, "size"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, status, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer.artifact", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == status
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
