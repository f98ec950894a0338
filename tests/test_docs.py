"""The commands and the Python of README and docs/.

Every training is set up as far as its first step, three are run; every other command runs, on small data.
"""

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import copies
import cv2
import lightning as L
import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from samples import ROOT, Reached, black_clip, config, fer_rows, run_program, write_csv, write_votes

from fer import artifact
from fer.data import synthetic

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("hydra.run.dir=runs/votes", "experiment=own_faces data.root=faces hydra.run.dir", "hydra.run.dir=runs/a")
"""What the three trainings that are run have in their commands; later commands use their folders."""
ELSEWHERE = ("trainer=ddp", "launcher=ray", "submitit_slurm", "source=browser", "…", "<", "search=")
"""Clusters, servers, placeholders; searches and Ray have tests of their own."""


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                command = line.split(" # ")[0].split("&&")[-1].strip()
                if command.startswith("python") and "smiles" not in command and page.name != "extending.md":
                    yield page.name, command


COMMANDS = list(dict.fromkeys(commands()))


def words_of(command: str) -> tuple[str, list[str]]:
    """The program and its arguments; of a sweep, the first job."""
    _, *words = shlex.split(command)
    program, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    if "-m" in arguments:
        arguments = [first_of(word) for word in arguments if word != "-m"]
    return program, arguments


def first_of(override: str) -> str:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if not parsed.is_sweep_override():
        return override
    return f"{parsed.get_key_element()}={next(iter(parsed.sweep_string_iterator()))}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands name."""
    folder = tmp_path_factory.mktemp("home")
    rows = fer_rows()
    write_csv(folder / "data" / "fer2013" / "fer2013.csv", rows)
    write_votes(folder / "data" / "fer2013new.csv", rows)
    for copy in (folder, folder / "data" / "fer2013"):
        shutil.copy(folder / "data" / "fer2013new.csv", copy)
    for name, split in synthetic.read(train=14, val=7, test=7).items():
        for k, image in enumerate(split.images):
            path = folder / "faces" / name / split.classes[split.labels[k]] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    copies.rafdb(folder / "data" / "rafdb")
    copies.listed(folder / "data" / "listed")
    for name in ("photos", "folder"):
        (folder / name).mkdir()
    for name in ("face.png", "photo.jpg", "photos/a.png", "folder/a.png"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), dtype=np.uint8))
    black_clip(folder / "clip.mp4")
    shutil.copy(folder / "clip.mp4", folder / "video.mp4")
    (folder / "films").mkdir()
    shutil.copy(folder / "clip.mp4", folder / "films")
    for name in ("a.ts", "b.ts", "model.ts", "runs/b/model.ts", "runs/average/average.ts"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(artifact.BUNDLED, folder / name)
    return folder


def set_up_training(words: list[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    def reach(*_: object, **__: object) -> None:
        raise Reached

    patch.setattr(L.Trainer, "fit", reach)
    with pytest.raises(Reached):
        run_program(["train.py", *words, "data.batch_size=8", "logger=csv", f"hydra.run.dir={folder}"], patch)


@pytest.mark.parametrize(("page", "command"), [c for c in COMMANDS if not any(w in c[1] for w in ELSEWHERE)])
def test_a_command_works(page, command, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    program, words = words_of(command)
    if program.startswith("benchmarks/"):
        assert (ROOT / program).exists()
    elif program == "train.py" and any(part in command for part in RUN):
        small = ["data.batch_size=8", "trainer=cpu", "trainer.max_epochs=1", "logger=csv", "export.onnx=false"]
        grown = [] if "own_faces" in command else ["+model={widths:[8,16],depths:[1,1]}"]
        run_program([program, *words, *small, *grown], monkeypatch)
        assert "model.ts" in capsys.readouterr().out
        if "runs/a" in command:  # the other run that the page compares it with
            shutil.copytree(home / "runs" / "a", home / "runs" / "b", dirs_exist_ok=True)
    elif program == "train.py":
        if "download" in command or "pretrained" in command:
            config(*words)
        else:
            extra = ["+data.reader.train=14", "+data.reader.val=7", "+data.reader.test=7"] * ("quickstart" in command)
            set_up_training([w for w in words if w != "resume=auto"] + extra, tmp_path / "run", monkeypatch)
    elif program == "infer.py":
        words = [re.sub(r"source=(\d|rtsp:\S*)", "source=clip.mp4", word) for word in words]
        run_program([program, *(w.replace("device=cuda", "device=cpu") for w in words)], monkeypatch)
        for word in words:
            key, _, value = word.partition("=")
            if key in ("save", "log", "stats", "timeline", "report"):
                assert list(Path().glob(value)), word
    else:
        run_program([program, *words], monkeypatch)
        printed = capsys.readouterr().out
        if program == "fer.evaluate":
            assert "95 % interval" in printed
        for word in words:
            if word.startswith("out="):
                assert Path(word.removeprefix("out=")).exists()


def test_every_file_that_the_page_on_evaluation_names_is_written(home):
    """After the commands above, in the order of the pages."""
    written = {p.name for folder in (home / "runs" / "evaluate").iterdir() for p in folder.iterdir()}
    written |= {p.name for folder in ("audit", "runs/a") for p in (home / folder).iterdir()}
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+\.(?:md|csv|png|json))`", page)) - {"fer2013.csv"}
    assert len(named) > 10
    assert named - written == {"fer2013new.csv"} & named


@pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema")
@pytest.mark.parametrize("command", [c for _, c in COMMANDS if "train.py" in c and any(w in c for w in ELSEWHERE[:3])])
def test_a_command_for_gpus_or_a_cluster_is_a_config(command):
    _, words = words_of(command.replace("train.py -m", "train.py"))
    cfg = config(*[first_of(word) for word in words if word != "-m"])
    if "trainer=ddp" in command:
        assert cfg.trainer.strategy["_target_"].endswith("DDPStrategy")
        assert not cfg.trainer.use_distributed_sampler


def test_the_python_page_runs(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    first, server, viewer, model = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {"images": [np.zeros((48, 64, 3), np.uint8)] * 3, "asyncio": asyncio}
    exec(first, names)
    assert capsys.readouterr().out.splitlines()[0] == "[]"  # no face in a black picture
    rows: list[object] = []
    body = "\n".join(f"    {line}" for line in server.replace("rtsp://host/stream", "clip.mp4").splitlines())

    async def send(row: object) -> None:
        rows.append(row)

    names["send"] = send
    exec(f"async def example():\n{body}", names)
    asyncio.run(names["example"]())
    assert len(rows) == 5
    exec(viewer, names)
    assert names["result"].frame.time == 2 / 25
    exec(model, names)
    assert names["probabilities"].shape == (5, 7)
    assert "angry" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb 0.31 leaves the file open
def test_the_sweep_of_wandb_gives_overrides_that_train_takes():
    from wandb.sdk.launch.sweeps import utils

    sweep = utils.load_sweep_config(str(ROOT / "sweep.yaml"))
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    command = utils.create_sweep_command(sweep["command"])
    for pick in (0, -1):
        values = {
            name: {"value": values["values"][pick] if "values" in values else values[("min", "max")[pick]]}
            for name, values in sweep["parameters"].items()
        }
        arguments = utils.create_sweep_command_args({"args": values})["args_no_hyphens"]
        own = [c for c in command if "=" in c and not c.startswith("hydra.")]
        cfg = config(*own, *arguments, "data=synthetic")
        for name, value in values.items():
            if name not in ("scheduler", "augment"):
                assert OmegaConf.select(cfg, name) == pytest.approx(value["value"])
        assert not cfg.evaluate.test
    assert command[:3] == ["${env}", "python", "train.py"]


def test_links_lead_to_files():
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert missing == []
