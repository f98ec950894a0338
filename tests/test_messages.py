"""The most likely mistakes: each message is one line that names the key and the fix."""

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from samples import run_program
from torch import nn

from fer import artifact
from fer.labels import EMOTIONS

SMALL = "data=synthetic +data.reader.train=14 +data.reader.val=7 +data.reader.test=7"
MAKE_ONE = "python -m fer.artifact checkpoint="

TABLE = [
    # Training: data that is missing or of another kind
    ("train.py", "data/fer2013", "data.root", "FER2013_ROOT", "data.download=true", "data=synthetic"),
    ("train.py data.root=missing", "missing", "data.root"),
    ("train.py data.root=wrong.csv", "wrong.csv", "emotion", "label, path"),
    ("train.py data=image_folder", "data/faces", "data.root", "train/<class>/"),
    ("train.py data=image_folder data.root=empty", "empty", "<class>/"),
    ("train.py data=image_folder data.root=flat", "flat", "<class>/"),
    ("train.py data=image_folder data.root=one", "happy", "folder for another"),
    (f"train.py {SMALL} data.votes=missing.csv", "data.votes=missing.csv", "fer2013new.csv"),
    (f"train.py {SMALL} export.int8=true export.also=[missing]", "missing", "export.also", "<class>/"),
    (f"train.py {SMALL} export.int8=true export.also=[other]", "other has one, two", "fewer than two"),
    # Keys and values
    ("train.py optimiser.lr=0.1", "optimiser", "did you mean optimizer?"),
    ("train.py lr=0.1", "lr", "did you mean optimizer.lr?"),
    ("train.py epochs=5", "epochs", "did you mean trainer.max_epochs?"),
    ("train.py --epochs 5", "--epochs", "--help"),
    ("train.py quickstart", "quickstart", "key=value", "--help"),
    ("train.py augment=heavy", "augment", "heavy", "light", "standard", "camera"),
    ("train.py model=resnet_small,vgg_small", "model=resnet_small,vgg_small", "-m"),
    (f"train.py {SMALL} optimizer.lr=fast", "optimizer.lr=fast", "number"),
    (f"train.py {SMALL} data.batch_size=0", "data.batch_size=0", "from 1"),
    (f"train.py {SMALL} label_smoothing=2", "label_smoothing=2", "to 1"),
    (f"train.py {SMALL} +data.reader.foo=1", "data.reader", "foo", "conf/data"),
    (f"train.py {SMALL} resume=yes", "resume=yes", "auto"),
    (f"train.py {SMALL} +trainer.foo=1", "trainer", "foo", "conf/trainer"),
    (f"train.py {SMALL} logger=csv +trainer.max_steps=0", "trainer.max_steps", "raise"),
    (f"train.py {SMALL} logger=csv +trainer.overfit_batches=0.01", "overfit_batches", "Try at least"),
    # Starting points
    (f"train.py {SMALL} init_from=missing.ckpt", "missing.ckpt", "best.ckpt"),
    (f"train.py {SMALL} distillation.teachers=missing.ts", "missing.ts", MAKE_ONE),
    (f"train.py {SMALL} distillation.teachers=some.ckpt", "some.ckpt", "best.ckpt"),
    (f"train.py {SMALL} hydra.run.dir=used", "used", "resume=auto", "hydra.run.dir"),
    # Inference: sources
    ("infer.py", "source=clip.mp4", "source=photo.jpg", "source=0"),
    ("infer.py sorce=0", "sorce", "did you mean source?"),
    ("infer.py source=vido.mp4", "vido.mp4", "path"),
    ("infer.py source=text.mp4", "text.mp4", "convert this one to MP4"),
    ("infer.py source=empty", "empty", "source=<file>"),
    ("infer.py source=browser browser.host=0.0.0.0", "browser.host=0.0.0.0", "browser.password=user:password"),
    # Models
    ("infer.py source=photo.png artifact=missing.ts", "missing.ts", MAKE_ONE),
    ("infer.py source=photo.png artifact=some.ckpt", "some.ckpt", MAKE_ONE),
    # Outputs and options
    ("infer.py source=photo.png log=out.txt", "log=out.txt", ".jsonl", ".csv"),
    ("infer.py source=photo.png save=photo.png", "save=", "source=", "another"),
    ("infer.py source=photo.png device=gpu", "device=gpu", "auto", "cpu", "cuda"),
    ("infer.py source=photo.png every=0", "every=0", "from 1"),
    ("infer.py source=photo.png view=windw", "view=windw", "auto", "window", "none"),
    ("infer.py source=photo.png blur=face", "blur=face", "faces", "others"),
    ("infer.py source=photo.png baseline=10", "baseline=10", "leave it out"),
    ("infer.py source=photo.png subtitles=out.srt", "subtitles=", "leave it out"),
    ("infer.py source=photo.png smoothing.turned=-1", "smoothing.turned=-1", "from 0 to 180"),
    # The other commands
    ("fer.evaluate", "models=", "best.ckpt", "or fast"),
    ("fer.evaluate models=missing.ts", "missing.ts", MAKE_ONE),
    (f"fer.evaluate models=bundled {SMALL} +data.reader.foo=1", "data.reader", "foo", "conf/data"),
    ("fer.train.distil out=a.npz", "teachers", "[a.ckpt,b.ts]"),
    (f"fer.train.distil teachers=[bundled] {SMALL} device=gpu", "device=gpu", "auto", "cpu", "cuda"),
    (f"fer.train.distil teachers=[missing.ckpt] {SMALL}", "missing.ckpt", "best.ckpt"),
    (f"fer.train.distil teachers=[bundled] {SMALL} +data.reader.foo=1", "data.reader", "foo"),
    ("fer.artifact checkpoint=missing.ckpt out=m.ts", "missing.ckpt", "best.ckpt"),
    ("fer.data.audit missing", "missing", "fer2013.csv"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    for name in ("empty", "flat", "one/happy", "other/one", "other/two", "used"):
        (folder / name).mkdir(parents=True)
    for name in ("flat/a.png", "one/happy/a.png", "photo.png", "other/one/a.png", "other/two/a.png"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), np.uint8))
    (folder / "text.mp4").write_text("only text\n" * 100)
    (folder / "wrong.csv").write_text("label,path\n1,a.png\n")
    (folder / "used" / "metrics.json").write_text("{}")
    torch.save({"state_dict": {}}, folder / "some.ckpt")
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    artifact.save(network, artifact.Metadata(EMOTIONS, 1, 48, (0.5,), (0.25,)), folder / "own.ts")
    return folder


@pytest.mark.parametrize(("command", "words"), [(c, w) for c, *w in TABLE], ids=[c for c, *_ in TABLE])
def test_a_mistake_is_one_line_with_its_fix(
    command: str, words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    before = {path for path in here.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        run_program(shlex.split(command), monkeypatch)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    assert [word for word in words if word not in err] == []
    assert end.value.code in (1, 2)
    left = {path for path in here.rglob("*") if path.is_file()} - before
    assert not [path for path in left if path.parts[len(here.parts)] != "runs"], "only a run's own folder is left"
