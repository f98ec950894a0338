"""The mistakes that people make most, and every word that they are answered with, to be read as a stranger reads it."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import nn

import infer
import train
from fer import artifact
from fer.data import audit
from fer.evaluate import __main__ as evaluate
from fer.labels import EMOTIONS
from fer.train import distil

ROOT = Path(__file__).parent.parent

NO_DATA = (
    "put fer2013.csv, icml_face_data.csv, fer2013.tar.gz or the Kaggle folders or zip there, or set data.root or "
    "FER2013_ROOT, or data.download=true, or try data=synthetic"
)
ENDINGS = "(or .jpeg, .png, .bmp, .webp, .tif, .tiff)"
MAKE_ONE = "make one with: python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"
NO_SUCH = "got an unexpected keyword argument 'foo'; see conf/data"
SMALL = "data=synthetic +data.reader.train=14 +data.reader.val=7 +data.reader.test=7"

TABLE = [
    # Training: no data, or data of another kind.
    ("train.py", f"no FER-2013 in data/fer2013; {NO_DATA}"),
    ("train.py data.root=missing", f"no FER-2013 in missing; {NO_DATA}"),
    (
        "train.py data.root=wrong.csv",
        "wrong.csv: no column 'emotion'; expected emotion, pixels, Usage, found 'label, path'",
    ),
    (
        "train.py data=image_folder",
        "no folder data/faces; set data.root to the folder with train/<class>/ or <class>/",
    ),
    (
        "train.py data=image_folder data.root=empty",
        f"no images in class folders under empty; expected empty/train/<class>/*.jpg or empty/<class>/*.jpg {ENDINGS}",
    ),
    (
        "train.py data=image_folder data.root=flat",
        f"no images in class folders under flat; expected flat/train/<class>/*.jpg or flat/<class>/*.jpg {ENDINGS}",
    ),
    ("train.py data=image_folder data.root=one", "only one class under one (happy); add a folder for another"),
    (
        f"train.py {SMALL} data.votes=missing.csv",
        "cannot read data.votes=missing.csv (No such file or directory); give the fer2013new.csv of FER+",
    ),
    # Keys and values.
    ("train.py optimiser.lr=0.1", "optimiser is not a key; did you mean optimizer?"),
    ("train.py lr=0.1", "lr is not a key; did you mean optimizer.lr?"),
    ("train.py epochs=5", "epochs is not a key; did you mean trainer.max_epochs?"),
    (
        "train.py --epochs 5",
        "--epochs is not an option; values are given as key=value, and --help lists the keys",
    ),
    ("train.py quickstart", "quickstart is not key=value; --help lists the keys"),
    (
        "train.py augment=heavy",
        "no augment/heavy in conf; choose light, none, standard, strong",
    ),
    (
        "train.py model=resnet_small,vgg_small",
        "Ambiguous value for argument 'model=resnet_small,vgg_small' 1. To use it as a list, use key=[value1,value2] "
        "2. To use it as string, quote the value: key=\\'value1,value2\\' "
        "3. To sweep over it, add --multirun to your command line",
    ),
    (f"train.py {SMALL} optimizer.lr=fast", "optimizer.lr=fast must be a number from 0 up"),
    ("train.py data.batch_size=0", "data.batch_size=0 must be a whole number from 1 up"),
    (f"train.py {SMALL} label_smoothing=2", "label_smoothing=2 must be a number from 0 to 1"),
    (f"train.py {SMALL} +data.reader.foo=1", f"data.reader: {NO_SUCH}"),
    ("train.py resume=yes", "resume=yes is unknown; choose null or auto"),
    # Starting points.
    (
        f"train.py {SMALL} init_from=missing.ckpt",
        "no checkpoint missing.ckpt; give the path of a run's checkpoints/best.ckpt",
    ),
    (f"train.py {SMALL} distillation.teachers=missing.ts", f"no model file missing.ts; {MAKE_ONE}"),
    (
        f"train.py {SMALL} hydra.run.dir=used",
        "{here}/used holds a run already; continue it with resume=auto, or set another hydra.run.dir",
    ),
    # Inference: sources.
    (
        "infer.py",
        "no source; give one, as in source=clip.mp4, source=photo.jpg or source=0 for the camera",
    ),
    ("infer.py vido.mp4", "no file vido.mp4; check the path"),
    ("infer.py sorce=0", "sorce is not a key; did you mean source?"),
    ("infer.py source=vido.mp4", "no file vido.mp4; check the path"),
    (
        "infer.py source=text.mp4",
        "text.mp4 is neither a video nor an image that can be read; convert it, e.g. ffmpeg -i <file> clip.mp4",
    ),
    ("infer.py source=empty", "no images in empty; put .jpg or .png files there, or give source=<file>"),
    (
        "infer.py source=browser browser.host=0.0.0.0",
        "browser.host=0.0.0.0 lets others in; set browser.password=user:password too, or leave 127.0.0.1",
    ),
    # Models.
    ("infer.py source=photo.png artifact=missing.ts", f"no model file missing.ts; {MAKE_ONE}"),
    (
        "infer.py source=photo.png artifact=some.ckpt",
        f"some.ckpt cannot be used (it is not an artifact, and none of its code was run); {MAKE_ONE}",
    ),
    # What is written, and how.
    ("infer.py source=photo.png log=out.txt", "log=out.txt has no ending that fits; use .jsonl or .csv"),
    ("infer.py source=photo.png save=photo.png", "save= and source= are both photo.png; give save= another name"),
    ("infer.py source=photo.png device=gpu", "device=gpu is unknown; choose auto, cpu or cuda"),
    ("infer.py source=photo.png every=0", "every=0 must be a whole number from 1 up"),
    ("infer.py source=photo.png view=windw", "view=windw is unknown; choose auto, window or none"),
    ("infer.py source=photo.png blur=face", "blur=face is unknown; choose faces, others or null"),
    # The tools.
    ("fer.evaluate", "models= names no model; give a best.ckpt, a model.ts, a list [a.ts,b.ts] or bundled"),
    ("fer.evaluate models=missing.ts", f"no model file missing.ts; {MAKE_ONE}"),
    ("fer.train.distil out=a.npz", "teachers= is empty; give artifacts, teachers=[a.ts,b.ts]"),
    (f"fer.train.distil teachers=bundled {SMALL} +data.reader.foo=1", f"data.reader: {NO_SUCH}"),
    (f"fer.evaluate models=bundled {SMALL} +data.reader.foo=1", f"data.reader: {NO_SUCH}"),
    (
        "fer.data.audit missing",
        "nothing at missing; give a folder of images by class, or fer2013.csv or its archive",
    ),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    for name in ("empty", "flat", "one/happy", "used"):
        (folder / name).mkdir(parents=True)
    for name in ("flat/a.png", "one/happy/a.png", "photo.png"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), np.uint8))
    (folder / "text.mp4").write_text("only text\n" * 100)
    (folder / "wrong.csv").write_text("label,path\n1,a.png\n")
    (folder / "used" / "metrics.json").write_text("{}")
    torch.save({"state_dict": {}}, folder / "some.ckpt")
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    artifact.save(network, artifact.Metadata(EMOTIONS, 1, 48, (0.5,), (0.25,)), folder / "own.ts")
    return folder


PROGRAMS: dict[str, Callable[[], object]] = {
    "train.py": train.main,
    "infer.py": infer.main,
    "fer.evaluate": evaluate.main,
    "fer.train.distil": distil.main,
    "fer.data.audit": audit.main,
}


@pytest.mark.parametrize(("command", "message"), TABLE, ids=[command for command, _ in TABLE])
def test_a_mistake_is_answered_with(
    command: str, message: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    before = {path for path in here.rglob("*") if path.is_file()}
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as end:
        PROGRAMS[sys.argv[0]]()
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {message.format(here=here)}\n")
    assert end.value.code in (1, 2)
    left = {path for path in here.rglob("*") if path.is_file()} - before
    assert not [path for path in left if path.parts[len(here.parts)] != "runs"], "nothing but a run's own folder"
