"""Every command in docs/ is run as it stands, in a folder that has what it names, with a training made small."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from samples import fer_rows, write_csv, write_votes

import infer
from fer import evaluate
from fer.data import audit, synthetic

ROOT = Path(__file__).parent.parent
SMALL = [
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=csv",
    "+model={widths:[8,16],depths:[1,1]}",
]


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    rows = fer_rows()
    write_csv(folder / "data" / "fer2013" / "fer2013.csv", rows)
    write_votes(folder / "data" / "fer2013new.csv", rows)
    for name, split in synthetic.read(train=7, val=7, test=7).items():
        for k, image in enumerate(split.images):
            path = folder / "faces" / name / split.classes[split.labels[k]] / f"{k}.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), image)
    cv2.imwrite(str(folder / "face.png"), np.zeros((64, 64, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize("command", commands("evaluate.md"))
def test_command_of_evaluate_runs(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    _, *words = shlex.split(command)
    program, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    GlobalHydra.instance().clear()
    if program == "train.py":
        done = subprocess.run(
            [sys.executable, str(ROOT / program), *arguments, *SMALL], capture_output=True, text=True, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        assert "model.ts" in done.stdout
    elif program == "fer.data.audit":
        audit.main(arguments)
        assert "duplicate groups" in capsys.readouterr().out
    elif program == "infer.py":
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        infer.main()
        assert (home / "annotated.png").stat().st_size > 0
    else:
        assert program == "fer.evaluate"
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        evaluate.main()
        assert "95 % interval" in capsys.readouterr().out


def test_every_file_that_the_page_names_is_written(home):
    """After the commands above, in the order of the page."""
    newest = max((home / "runs" / "evaluate").iterdir())
    assert {"report.md", "metrics.json", "models.csv", "robustness.png"} <= {p.name for p in newest.iterdir()}
    for name in ("curves.png", "mistakes.csv", "gradcam.png"):
        assert (home / "runs" / "student" / name).exists()
    assert (home / "runs" / "average" / "average.ts").exists()
    assert {p.name for p in (home / "audit").iterdir()} == set(audit.NAMES)
