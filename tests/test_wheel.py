"""What `pip install` gives: every command works from any folder, without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from samples import ROOT, TINY


def files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(folder).as_posix() for path in paths}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")  # a copy, since building leaves files beside the sources
    for name in ("fer", "conf", "pyproject.toml", "README.md", "LICENSE", "train.py", "infer.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", "."]
    subprocess.run(command, cwd=source, check=True)
    (path,) = source.glob("fer_lightning-*.whl")
    return path


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that has the wheel, and all else from this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, system_site_packages=True, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)], check=True
    )
    # this environment may itself be a virtual one, which is not what `system_site_packages` means
    (site,) = folder.glob("lib/*/site-packages")
    (site / "tests.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "bin"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    completed = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_the_wheel_holds_every_file_of_the_package_and_no_other_module(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"fer/{name}" for name in files(ROOT / "fer")} | {f"fer/conf/{name}" for name in files(ROOT / "conf")}
    assert names == expected


def test_an_epoch_and_ten_frames_from_another_folder(binaries, tmp_path):
    where = run(binaries / "python", "-c", "import fer, fer.config; print(fer.__file__, fer.config.CONF)", cwd=tmp_path)
    assert all(path.startswith(str(binaries.parent)) for path in where.split())

    run(binaries / "fer-train", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert (tmp_path / "run" / "model.ts").exists()

    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for shade in range(12):
        video.write(np.full((64, 96, 3), 20 * shade, np.uint8))
    video.release()
    run(
        *(binaries / "fer-infer", "clip.mp4", "artifact=run/model.ts"),
        *("max_frames=10", "view=none", "log=out.jsonl", "threads=1"),
        cwd=tmp_path,
    )
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10
    assert "models" in run(binaries / "python", "-m", "fer.evaluate", "--help", cwd=tmp_path)
