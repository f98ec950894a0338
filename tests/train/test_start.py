"""What `train.py` imports before it trains."""

import os
import re
import subprocess
import sys

from samples import ROOT

OTHERS = ("transformers", "librosa", "onnxruntime", "torchaudio", "gammatone", "pesq", "pystoi", "vmaf_torch")
"""Packages that torchmetrics imports where they are installed."""


def test_packages_that_happen_to_be_installed_are_not_imported(tmp_path):
    for name in OTHERS:
        (tmp_path / f"{name}.py").write_text("def __getattr__(name):\n    return object\n")
        information = tmp_path / f"{name}-9.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n")
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    completed = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "data=fer2013", "data.root=missing"],
        cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True,
    )  # fmt: skip
    assert "no FER-2013 in missing" in completed.stderr  # so that all of the program was imported
    imported = set(re.findall(r"\| +(\S+)$", completed.stderr, re.MULTILINE))
    assert {"lightning.pytorch.trainer", "timm"} <= imported
    assert not imported & {*OTHERS, "scipy.signal", "scipy.stats"}
