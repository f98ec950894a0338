"""Every command in docs/ is run as it stands, in a folder that has what it names, with a training made small."""

import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from samples import fer_rows, write_csv, write_votes

import infer
from fer import artifact
from fer.artifact import __main__ as artifact_program
from fer.data import audit, synthetic
from fer.evaluate import __main__ as evaluate
from fer.labels import EMOTIONS
from fer.stream import recognizer
from fer.stream.fakes import FakeDetector, FakeFaceClassifier
from fer.train import distil

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
    (folder / "photos").mkdir()
    for name in ("face.png", "photo.jpg", "photos/a.png"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), dtype=np.uint8))
    with av.open(str(folder / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    for name in ("a.ts", "b.ts"):
        (folder / name).write_bytes(artifact.BUNDLED.read_bytes())
    return folder


def run_training(words: list[str]) -> None:
    """A training as a program of its own, made small."""
    grown = any("own_faces" in word or word.startswith("init_from") for word in words)  # keep the size they start from
    small = [s for s in SMALL if not (grown and s.startswith("+model="))]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words, *small], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "model.ts" in done.stdout


def run_inference(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clip in place of a camera and of the network."""
    words = [re.sub(r"source=(\d|rtsp:\S*)", "source=clip.mp4", word) for word in words]
    monkeypatch.setattr(sys, "argv", ["infer.py", *words])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    infer.main()
    for word in words:
        key, _, value = word.partition("=")
        if key in ("save", "log", "stats", "timeline", "report"):
            assert Path(value).exists(), word


def run_command(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of a page, in this process but for trainings."""
    _, *words = shlex.split(command)
    program, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    if program == "train.py":
        run_training(arguments)
    elif program == "infer.py":
        run_inference(arguments, monkeypatch)
    elif program == "fer.data.audit":
        audit.main()
        assert "duplicate groups" in capsys.readouterr().out
    elif program == "fer.evaluate":
        evaluate.main()
        assert "95 % interval" in capsys.readouterr().out
    else:
        {"fer.train.distil": distil.main, "fer.artifact": artifact_program.main}[program]()
        (out,) = (word.removeprefix("out=") for word in arguments if word.startswith("out="))
        assert Path(out).exists()


@pytest.mark.parametrize("command", commands("evaluate.md"))
def test_command_of_evaluate_runs(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    run_command(command, monkeypatch, capsys)


def test_every_file_that_the_page_names_is_written(home):
    """After the commands above, in the order of the page."""
    newest = max((home / "runs" / "evaluate").iterdir())
    assert {"report.md", "metrics.json", "models.csv", "robustness.png"} <= {p.name for p in newest.iterdir()}
    for name in ("curves.png", "mistakes.csv", "gradcam.png"):
        assert (home / "runs" / "student" / name).exists()
    assert (home / "runs" / "average" / "average.ts").exists()
    assert {p.name for p in (home / "audit").iterdir()} == set(audit.NAMES)


@pytest.mark.parametrize("command", commands("own_faces.md"))
def test_command_of_own_faces_runs(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    run_command(command, monkeypatch, capsys)


@pytest.mark.parametrize("command", commands("training.md"))
def test_command_of_training_runs(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    run_command(command, monkeypatch, capsys)


@pytest.mark.parametrize("command", commands("live.md"))
def test_command_of_live_runs(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    run_command(command, monkeypatch, capsys)


def test_python_page_runs(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    first, viewer, model = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {"images": [np.zeros((48, 64, 3), np.uint8)] * 3}
    exec(first, names)
    assert capsys.readouterr().out.splitlines()[0] == "[]"  # no face in a black picture
    exec(viewer, names)
    assert names["result"].frame.time == 2 / 25
    exec(model, names)
    assert names["probabilities"].shape == (5, 7)
    assert "angry" in capsys.readouterr().out


def test_the_files_of_extending_work(home, monkeypatch, capsys):
    """They are put into a copy of the source tree, since two of them belong there."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    tree = home / "tree"
    for part in ("conf", "fer"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tree)
    for language in ("python", "yaml"):
        for block in re.findall(rf"```{language}\n(# \S+\n.*?)```", text, re.DOTALL):
            (tree / block.split()[1]).write_text(block, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tree))
    small = [word for word in SMALL if not word.startswith("+model=")]
    for command in commands("extending.md"):
        _, *words = shlex.split(command)
        extra = [*small, "data=synthetic", "+data.reader.train=64", "+data.reader.val=21", "+data.reader.test=21"]
        words += extra if words[0] == "train.py" else []
        words = [str(home / word) if word == "clip.mp4" else word for word in words]
        if words[0] == "smiles.py":
            smiles(tree / words[0], words[1:], monkeypatch)
            assert "5 smiles" in capsys.readouterr().out
            continue
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tree)
        assert done.returncode == 0, done.stderr
        assert "model.ts" in done.stdout


def smiles(program: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink of the page, over a film with a happy face in each frame."""
    monkeypatch.setattr(recognizer, "Detector", lambda **_: FakeDetector((10.0, 8.0, 40.0, 44.0)))
    monkeypatch.setattr(
        recognizer, "load_face_classifier", lambda *_: FakeFaceClassifier(EMOTIONS, EMOTIONS.index("happy"))
    )
    monkeypatch.setattr(sys, "argv", [str(program), *arguments])
    runpy.run_path(str(program))
