import os
import subprocess
import sys
from pathlib import Path

from samples import ROOT


def test_onnx_runtime_leaves_no_traces_of_its_telemetry(tmp_path: Path) -> None:
    given = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    folders = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment = {**given, **folders, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", "import fer.ort"], env=environment, cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
