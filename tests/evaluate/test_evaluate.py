"""The command, on drawn faces and models small enough for a test."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from samples import ROOT, TINY, tiny
from torch import nn

from fer import artifact
from fer import config as targets
from fer import metrics as scores
from fer.artifact import Metadata
from fer.artifact.ensemble import save_ensemble
from fer.data import synthetic
from fer.errors import ArtifactError, ConfigError, DataError, SinkError
from fer.evaluate import __main__ as evaluate
from fer.evaluate import predict
from fer.labels import EMOTIONS

SIZES = {"train": 64, "val": 21, "test": 21}  # as in TINY
DATA = ["data=synthetic", *(f"+data.reader.{name}={size}" for name, size in SIZES.items())]


def config(*overrides: str, out: Path) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("evaluate", [*DATA, "device=cpu", *overrides, f"out='{out}'"])


def judge(out: Path, *overrides: str) -> dict:
    return evaluate.run(config(*overrides, out=out))


def model(path: Path, seed: int, classes=EMOTIONS, format: str = "torchscript", **changes) -> Path:
    """An artifact that has learnt nothing, and says so in its own way."""
    torch.manual_seed(seed)
    channels = changes.get("channels", 1)
    net = nn.Sequential(nn.Conv2d(channels, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    net = nn.Sequential(net, nn.Linear(72, len(classes)))
    values = {"channels": 1, "input_size": 48, "mean": (0.5,), "std": (0.05,), "temperature": 1.5} | changes
    return artifact.save(net, Metadata(classes=classes, **values), path, format)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("some_run") / "today"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        tiny(folder)
    return folder


def test_checkpoint_and_artifact_of_a_run_score_as_the_run_says(finished, tmp_path):
    paths = f"models=['{finished}/checkpoints/best.ckpt','{finished}/model.ts']"
    told = json.loads((finished / "metrics.json").read_text())
    for split in ("val", "test"):
        result = judge(tmp_path / split, paths, f"split={split}", "robustness=false")
        assert len(result["models"]) == 2
        for figures in result["models"].values():
            for name in ("accuracy", "accuracy_flip", "f1_macro", "recall/happy"):
                assert figures[name] == pytest.approx(told[f"{split}/{name}"]), name
            assert figures["ece"] == pytest.approx(told[f"{split}/ece"], abs=1e-4)
            assert figures["ece_raw"] == pytest.approx(told[f"{split}/ece_raw"], abs=1e-4)
            assert figures["nll_raw"] == pytest.approx(told[f"{split}/loss"], abs=1e-4)
            assert figures["temperature"] == pytest.approx(told["val/temperature"], abs=1e-3)
            assert figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"]
        assert result["mcnemar"][0]["p"] == 1


def test_everything_is_written(finished, tmp_path, capsys):
    other = model(tmp_path / "other.ts", 3)
    result = judge(tmp_path / "out", f"models=['{finished}/model.ts','{other}']")
    assert list(result["models"]) == [f"{finished.parent.name}/today", "other"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == result
    with (tmp_path / "out" / "models.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(result["models"])
    assert float(rows[1]["robustness/noise/3"]) == result["models"]["other"]["robustness/noise/3"]
    text = (tmp_path / "out" / "report.md").read_text()
    printed = capsys.readouterr().out
    for words in ("McNemar's exact test", "Accuracy under corruptions", "Classes of other", "95 % interval"):
        assert words in text
        assert words in printed
    names = {p.name for p in (tmp_path / "out" / "2_other").iterdir()}
    assert names == {"confusion_matrix.png", "reliability.png", "mistakes.png"}
    assert (tmp_path / "out" / "robustness.png").stat().st_size > 0
    assert str(tmp_path) not in text + (tmp_path / "out" / "metrics.json").read_text()


def test_figures_are_those_of_the_artifact_itself(tmp_path):
    path = model(tmp_path / "m.ts", 0, std=(0.02,))
    result = judge(tmp_path / "out", f"models='{path}'", "robustness=false")["models"]["m"]
    split, ask = synthetic.read(**SIZES)["val"], artifact.load(path)
    images = torch.from_numpy(split.images.copy())[:, None]
    plain, mirrored = ask(images).numpy(), ask(images.flip(3)).numpy()
    assert result["ece"] == pytest.approx(scores.ece(plain, split.labels), abs=1e-5)
    assert result["nll"] == pytest.approx(scores.nll(plain, split.labels), abs=1e-5)
    (entered,) = predict.load_models([str(path)], torch.device("cpu"))
    answers = [entered.logits(split.images, flip) for flip in (False, True)]
    answer = predict.Predictions(*answers, entered.temperature)
    assert answer.calibrated == pytest.approx(plain, abs=1e-5)
    assert answer.both == pytest.approx((plain + mirrored) / 2, abs=1e-5)
    assert not np.allclose(plain, mirrored, atol=1e-3)
    assert result["accuracy_flip"] == pytest.approx(((plain + mirrored).argmax(1) == split.labels).mean())


def test_an_onnx_model_is_judged_like_its_torchscript_twin(tmp_path):
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    paths = [model(tmp_path / "a.ts", 0), model(tmp_path / "b.onnx", 0, format="onnx")]
    found = judge(tmp_path / "out", f"models={[str(path) for path in paths]}", "robustness=false")["models"]
    assert found["b"] == pytest.approx(found["a"], abs=1e-3)


def test_result_is_the_same_every_time(tmp_path):
    path = model(tmp_path / "m.ts", 0)
    one, two = (judge(tmp_path / name, f"models='{path}'") for name in ("a", "b"))
    assert one == two
    assert one["models"]["m"]["accuracy_low"] < one["models"]["m"]["accuracy"]


def test_average_is_one_artifact_that_scores_as_told(finished, tmp_path):
    paths = [model(tmp_path / "a.ts", 0), model(tmp_path / "b.ts", 1, flip=True, temperature=0.4)]
    given = ",".join(f"'{path}'" for path in [*paths, finished / "checkpoints" / "best.ckpt"])
    result = judge(tmp_path / "out", f"models=[{given}]", "average=true", "split=test")
    assert len(result["models"]) == 4
    assert len(result["mcnemar"]) == 6
    again = judge(tmp_path / "again", f"models='{tmp_path}/out/average.ts'", "split=test")["models"]["average"]
    told = result["models"]["average"]
    meta = artifact.read_metadata(tmp_path / "out" / "average.ts")
    assert meta.metrics["test/accuracy"] == told["accuracy"]
    assert meta.parameters == told["parameters"]
    assert told["parameters"] == sum(figures["parameters"] for figures in list(result["models"].values())[:3])
    assert len(meta.config["members"]) == 3
    assert again["temperature"] == told["temperature"] == meta.temperature
    assert again["nll"] == pytest.approx(told["nll"], abs=1e-4)  # although b.ts mirrors by itself


def test_a_model_that_is_called_average_keeps_its_own_figures(tmp_path):
    a, b = model(tmp_path / "average.ts", 0), model(tmp_path / "b.ts", 1)
    alone = judge(tmp_path / "alone", f"models='{a}'")["models"]["average"]
    both = judge(tmp_path / "both", f"models=['{a}','{b}']")["models"]
    assert both["average"] == alone
    result = judge(tmp_path / "mean", f"models=['{a}','{b}']", "average=true")
    assert list(result["models"]) == ["average'", "b", "average"]
    assert result["models"]["average'"] == alone
    assert len(result["mcnemar"]) == 3


def test_average_without_mirrors_is_exact(tmp_path):
    paths = [model(tmp_path / "a.ts", 0), model(tmp_path / "b.ts", 1, temperature=0.4, channels=3, mean=[0.5] * 3,
                                                std=[0.1] * 3, input_size=40)]  # fmt: skip
    judge(tmp_path / "out", f"models=['{paths[0]}','{paths[1]}']", "average=true", "robustness=false")
    split = synthetic.read(**SIZES)["val"]
    images = torch.from_numpy(split.images.copy())[:, None]
    mean = sum(artifact.load(path)(images) for path in paths) / 2
    loaded = artifact.load(tmp_path / "out" / "average.ts")
    wanted = (mean.log() / loaded.metadata.temperature).softmax(1)
    assert torch.allclose(loaded(images), wanted, atol=1e-6)
    assert loaded.metadata.temperature == pytest.approx(
        scores.fit_temperature(mean.log().numpy(), split.labels), rel=1e-3
    )
    assert (loaded.metadata.channels, loaded.metadata.input_size) == (3, 48)
    assert loaded(images.expand(-1, 3, -1, -1)).shape == (21, 7)
    with pytest.raises(ArtifactError, match="ensemble of several models"):
        artifact.backbone_weights(tmp_path / "out" / "average.ts")


def test_no_twins_leaves_them_out(tmp_path, monkeypatch):
    splits = synthetic.read(**SIZES)
    copied = splits["val"].images.copy()
    copied[:4] = splits["train"].images[:4]
    splits["val"] = type(splits["val"])(copied, splits["val"].labels, EMOTIONS)
    monkeypatch.setenv(targets.OWN, __name__)  # where the reader below is defined
    monkeypatch.setattr(synthetic, "read", lambda **_: splits)
    path = model(tmp_path / "m.ts", 0)
    counts = [
        judge(tmp_path, f"models='{path}'", "robustness=false", f"without_duplicates={x}")["images"]
        for x in (False, True)
    ]
    assert counts == [21, 17]


def test_other_classes_from_colour_folders(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, tint in (("bored", 60), ("keen", 190)):
            (tmp_path / "faces" / split / name).mkdir(parents=True)
            for k in range(4):
                image = np.clip(rng.normal(tint, 30, (50, 50, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "faces" / split / name / f"{k}.png"), image)
    path = model(tmp_path / "m.ts", 0, classes=("bored", "keen"))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            "evaluate",
            ["data=image_folder", f"data.root='{tmp_path}/faces'", "data.channels=3", "split=test",
             f"models='{path}'", f"out='{tmp_path}/out'"],
        )  # fmt: skip
    assert evaluate.run(cfg)["images"] == 8


def test_a_folder_cut_by_another_seed_is_told(tmp_path, capsys):
    import cv2

    for k, split in enumerate(synthetic.read(train=56, val=7, test=7)["train"].images[:56]):
        path = tmp_path / "faces" / EMOTIONS[k % 7] / f"person {k // 7}" / f"{k}.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), split)
    told = {"data": {"name": "image_folder", "fingerprint": "of another cut"}, "config": {"seed": 3}}
    path = model(tmp_path / "m.ts", 0, **told)
    for seed, words in ((3, ""), (1, "m was trained with seed=3")):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            places = [f"data.root='{tmp_path}/faces'", f"models='{path}'", f"out='{tmp_path}/out'", f"seed={seed}"]
            evaluate.run(compose("evaluate", ["data=image_folder", "robustness=false", *places]))
        said = capsys.readouterr().err
        assert said.startswith(words) if words else said == ""


def test_names_are_short_and_differ(tmp_path):
    places = [Path(p) for p in ("/a/x.ts", "/b/x.ts", "/runs/net/day/model.ts", "/runs/net/day/checkpoints/best.ckpt")]
    assert predict._names(places) == ["x", "x'", "net/day", "net/day'"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["models=null"], ConfigError, "names nothing to judge"),
        (["models=[]"], ConfigError, "names nothing to judge"),
        (["models=nowhere.ts"], ArtifactError, r"no model file nowhere\.ts"),
        (["models=nowhere.ckpt"], ArtifactError, r"no checkpoint nowhere\.ckpt"),
        (["models=conf"], ArtifactError, "conf is a folder"),
        (["models=README.md"], ArtifactError, "cannot be read"),
        (["models=bundled", "split=valid"], ConfigError, "split=valid is unknown; choose one of train, val, test"),
        (["models=bundled", "average=true"], ConfigError, "two models or more"),
        (["models=bundled", "trust=no"], ConfigError, "trust=no must be true or false"),
        (["models=bundled", "average=maybe"], ConfigError, "average=maybe must be true or false"),
        (["models=bundled", "threads=many"], ConfigError, "threads=many must be"),
        (["models=bundled", "split=[val]"], ConfigError, "is unknown; choose one of train, val, test"),
        (["models=bundled", "device=tpu"], ConfigError, "device=tpu is unknown"),
        (["models=bundled", "+data.reader.sizes=3"], ConfigError, "data.reader: .*see conf/data"),
    ],
)
def test_bad_input_is_one_line(overrides, error, words, tmp_path):
    with pytest.raises(error, match=words) as raised:
        judge(tmp_path / "out", *overrides)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_data_that_does_not_fit_is_one_line(tmp_path, monkeypatch):
    path = model(tmp_path / "m.ts", 0, classes=("bored", "keen"))
    with pytest.raises(ConfigError, match=r"m\.ts knows bored, keen, but the data has angry, disgust"):
        judge(tmp_path / "out", f"models='{path}'")
    splits = synthetic.read(**SIZES)
    monkeypatch.setenv(targets.OWN, __name__)  # where the readers below are defined
    monkeypatch.setattr(synthetic, "read", lambda **_: splits | {"test": splits["test"].only(np.zeros(21, dtype=bool))})
    with pytest.raises(DataError, match="split=test is empty"):
        judge(tmp_path / "out", "models=bundled", "split=test")
    monkeypatch.setattr(synthetic, "read", lambda **_: splits | {"val": splits["train"]})
    with pytest.raises(DataError, match="no image without a twin"):
        judge(tmp_path / "out", "models=bundled", "without_duplicates=true")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    path = model(tmp_path / "m.ts", 0)
    with pytest.raises(SinkError, match="cannot write into"):
        judge(tmp_path / "file", f"models='{path}'", "robustness=false")


def test_unequal_models_are_not_averaged(tmp_path):
    paths = [model(tmp_path / "a.ts", 0), model(tmp_path / "b.ts", 1, crop_margin=0.2)]
    with pytest.raises(ArtifactError, match=r"b\.ts has crop_margin 0\.2"):
        save_ensemble(paths, tmp_path / "average.ts")
    assert not (tmp_path / "average.ts").exists()
    with pytest.raises(ArtifactError, match=r"b\.ts has crop_margin 0\.2"):  # before anything is judged
        judge(tmp_path / "out", f"models=['{paths[0]}','{paths[1]}']", "average=true")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_program_runs_and_fails_in_one_line(tmp_path):
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fer.evaluate", *DATA, *arguments, f"hydra.run.dir={tmp_path}/out"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)

    path = model(tmp_path / "m.ts", 0)
    done = call(f"models={path}", "robustness=false")
    assert done.returncode == 0, done.stderr
    assert "95 % interval" in done.stdout
    assert done.stderr == ""
    done = call("models=none.ts")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = call("model=none.ts")
    assert (done.returncode, done.stderr) == (1, "error: model is not a key; did you mean models?\n")


assert TINY[1:4] == DATA[1:]
