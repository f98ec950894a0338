"""Training beside the camera, with small programs in place of train.py."""

import sys
import time
from pathlib import Path

import pytest

from fer.errors import ArtifactError
from fer.stream.sinks.retrain import Retraining

TRAINS = """
import pathlib, sys
values = dict(word.split("=", 1) for word in sys.argv[1:])
assert pathlib.Path(values["data.root"]).is_absolute()
folder = pathlib.Path(values["hydra.run.dir"])
folder.mkdir(parents=True)
(folder / "model.ts").write_text("")
(folder / "model.onnx").write_text("")
"""
FAILS = """
print("error: faces has only one class; add a folder for another")
raise SystemExit(2)
"""


def ended(training: Retraining) -> str:
    """The messages of a training from its start to its end; the last one is returned."""
    assert training.start() == "training starts"
    assert training.start() == "still training"
    last = training.poll()
    for _ in range(600):
        assert last is not None
        if not last.startswith("training, "):
            return last
        time.sleep(0.05)
        last = training.poll()
    raise AssertionError(last)


def test_the_new_model_is_used_when_the_training_has_ended(tmp_path: Path) -> None:
    used: list[Path] = []
    training = Retraining(tmp_path / "faces", tmp_path / "runs", used.append, [sys.executable, "-c", TRAINS])
    assert training.poll() is None
    message = ended(training)
    assert [path.name for path in used] == ["model.onnx"]
    assert message == f"goes on with {used[0]}"
    assert training.poll() is None  # said once


def test_an_error_of_the_training_is_its_last_line(tmp_path: Path) -> None:
    training = Retraining(tmp_path, tmp_path, pytest.fail, [sys.executable, "-c", FAILS])
    assert ended(training) == "error: faces has only one class; add a folder for another"


def test_a_model_that_cannot_be_used_is_a_message(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ArtifactError("the new model knows happy, sad, not the same classes")

    training = Retraining(tmp_path, tmp_path / "runs", refuse, [sys.executable, "-c", TRAINS])
    assert "not the same classes" in ended(training)


def test_a_training_ends_with_the_window(tmp_path: Path) -> None:
    training = Retraining(tmp_path, tmp_path, pytest.fail, [sys.executable, "-c", "import time; time.sleep(60)"])
    training.start()
    process = training._process
    training.stop()
    assert process is not None and process.returncode is not None
    assert training.poll() is None
