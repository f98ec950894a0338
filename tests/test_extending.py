"""The ten additions of docs/extending.md, made from outside: by plugins and configs in another folder."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
from samples import ROOT, Reached, black_clip, run_program

from fer import artifact, labels
from fer.artifact.formats import FORMATS
from fer.data import synthetic
from fer.metrics import METRICS
from fer.stream import recognizer
from fer.stream.fakes import FakeDetector
from fer.stream.sinks import SINKS
from fer.stream.sinks.window import KEYS
from fer.stream.sources import OPENERS

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python .*", TEXT, re.MULTILINE)
PLUGINS = re.findall(r"^# (\w+)\.py$", TEXT, re.MULTILINE)
SMALL = ["data.batch_size=8", "trainer=cpu", "trainer.max_epochs=1", "logger=csv"]
FEW = ["+data.reader.train=14", "+data.reader.val=14", "+data.reader.test=7"]
TABLES = (FORMATS, METRICS, SINKS, KEYS, OPENERS, labels.COLOURS, labels._ALIASES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every file of the page; what the plugins register is taken back at the end."""
    folder = tmp_path_factory.mktemp("home")
    for language in ("python", "yaml"):
        for name, block in re.findall(rf"```{language}\n# (\S+)\n(.*?)```", TEXT, re.DOTALL):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block, encoding="utf-8")
    rng = np.random.default_rng(0)
    (folder / "npz").mkdir()
    for name in ("train", "val", "test"):
        np.savez(folder / "npz" / name, images=rng.integers(0, 256, (16, 48, 48), np.uint8), labels=np.arange(16) % 2)
    images = synthetic.read(train=14, val=7, test=7)["train"].images
    for name in ("train", "val", "test"):
        for k, label in enumerate(("scorn", "happy")):
            path = folder / "faces_with_contempt" / name / label / "a.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), images[k])
    black_clip(folder / "clip.mp4")
    before, path = [dict(table) for table in TABLES], list(sys.path)
    yield folder
    sys.path[:] = path
    for name in PLUGINS:
        sys.modules.pop(name, None)
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


def call(command: str, *extra: str, patch: pytest.MonkeyPatch) -> None:
    run_program([*shlex.split(command)[1:], *extra], patch)


def section(title: str) -> list[str]:
    return re.findall(r"^python .*", TEXT.split(f"## {title}\n")[1].split("\n## ")[0], re.MULTILINE)


def test_the_page_shows_ten_additions():
    assert len(re.findall("^## An? ", TEXT, re.MULTILINE)) == 10
    assert len(PLUGINS) == 8


@pytest.mark.parametrize("command", [c for c in COMMANDS if "train.py" in c and "synthetic" not in c])
def test_a_training_command_is_set_up(command, home, tmp_path, monkeypatch):
    def reach(trainer: L.Trainer, model: L.LightningModule, *_: object, **__: object) -> None:
        trainer.strategy.connect(model)
        raise Reached

    monkeypatch.chdir(home)
    monkeypatch.setattr(L.Trainer, "fit", reach)
    data = [] if " data=" in command else ["data=synthetic", *FEW]
    with pytest.raises(Reached):
        call(command, *data, *SMALL, f"hydra.run.dir={tmp_path}", patch=monkeypatch)


def test_backbone_augmentation_schedule_metric_and_format_make_one_training(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    call(
        "python train.py --config-dir my_conf data=synthetic model=timm model.name=two_layers augment=blurred "
        "scheduler=halved export.format=gzipped plugins=[two_layers,top2,gzipped]",
        *FEW, *SMALL, f"hydra.run.dir={tmp_path}", patch=monkeypatch,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "top 2" in printed or "top2" in printed
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"val/top2", "test/top2"} <= metrics.keys()
    assert "val/top2" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    loaded = artifact.load(tmp_path / "model.tsz")
    assert loaded.metadata.config["scheduler"]["milestones"] == [10, 20, 30]


def test_a_metric_is_in_the_comparison_of_models(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    (command,) = [c for c in section("A metric") if "fer.evaluate" in c]
    call(command, "data=synthetic", *FEW, "robustness=false", f"hydra.run.dir={tmp_path}", patch=monkeypatch)
    assert "top 2" in capsys.readouterr().out
    assert "top2" in (tmp_path / "metrics.json").read_text()
    assert "top 2" in (tmp_path / "report.md").read_text()


def test_a_metric_is_in_the_leaderboard(home, tmp_path, monkeypatch):
    from fer.train import leaderboard

    monkeypatch.syspath_prepend(str(home))
    __import__("top2")
    leaderboard.write([leaderboard.Row(["seed=1"], [{"val/accuracy": 0.5, "val/top2": 0.75}])], tmp_path, "sweep")
    assert "0.75" in (tmp_path / "leaderboard.csv").read_text()
    assert "top2" in (tmp_path / "leaderboard.csv").read_text().splitlines()[0]


def test_a_label_has_a_place_and_a_colour(home, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    __import__("contempt")
    assert labels.canonical("Scorn") == "contempt"
    assert labels.order(["zeal", "contempt", "happy"]) == ("happy", "contempt", "zeal")
    assert labels.colour("contempt") == (150, 90, 60)


def test_a_source_is_opened(home, monkeypatch):
    monkeypatch.chdir(home)
    call(*section("A source"), "view=none", patch=monkeypatch)
    assert len((home / "noise.jsonl").read_text().splitlines()) == 5


def test_a_sink_gets_every_result(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(recognizer, "Detector", lambda **_: FakeDetector((10.0, 8.0, 40.0, 44.0)))
    (command,) = section("A sink")
    call(command.replace("100", "1000"), "view=none", patch=monkeypatch)
    assert re.search(r"^\d smiles$", capsys.readouterr().out, re.MULTILINE)


def test_a_key_of_the_window_is_listed(home, monkeypatch):
    (command,) = section("A key of the window")
    monkeypatch.chdir(home)
    call(command.replace("source=0", "source=clip.mp4"), "view=none", patch=monkeypatch)
    assert "t" in KEYS
