"""Servers and slim containers have no libGL, without which `import cv2` fails."""

import os
import subprocess
import sys

import pytest
from samples import ROOT


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "data=synthetic", "logger=csv"],
        ["infer.py", "source=photo.png"],
        ["-m", "fer.evaluate", "models=bundled"],
        ["-m", "fer.data.audit", "."],
        ["-m", "fer.train.distil", "teachers=[bundled]", "data=synthetic"],
    ],
    ids=["train", "infer", "evaluate", "audit", "distil"],
)
def test_without_libgl_a_program_says_what_to_install(command, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file', name='cv2')")
    (tmp_path / "photo.png").touch()
    paths = [str(ROOT / word) if word.endswith(".py") else word for word in command]
    completed = subprocess.run(
        [sys.executable, *paths],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (completed.returncode, completed.stderr.count("\n")) == (2, 1), completed.stderr
    assert "libGL.so.1" in completed.stderr and "apt-get install libgl1" in completed.stderr
