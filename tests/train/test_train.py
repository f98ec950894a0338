"""The real configuration, on data small enough for a test."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from samples import ROOT, TINY, config, fer_rows, options, tiny, write_csv, write_votes

from fer import artifact
from fer.errors import ArtifactError, ConfigError
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier
from fer.train import run as experiment


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run with = in it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        tiny(folder, "trainer.max_epochs=2")
    return folder


def test_run_leaves_every_file(finished):
    pictures = [f"{name}.png" for name in ("curves", "confusion_matrix", "reliability", "mistakes", "gradcam")]
    for name in (*pictures, "metrics.json", "mistakes.csv", "model.ts", "metrics.csv"):
        assert (finished / name).stat().st_size > 0
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not [p for p in finished.rglob("*") if "=" in p.name]


def test_metrics_are_flat_and_complete(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for split in ("val", "test"):
        for name in ("accuracy", "accuracy_flip", "f1_macro", "ece", "ece_raw", "loss", "recall/happy"):
            assert isinstance(metrics[f"{split}/{name}"], float)
    assert metrics["test/accuracy_without_duplicates"] == metrics["test/accuracy"]  # drawn faces have no duplicates
    assert metrics["train/images_per_second"] > 0
    assert 0.05 <= metrics["val/temperature"] <= 20


def test_checkpoint_needs_nothing_but_its_path(finished):
    path = finished / "checkpoints" / "best.ckpt"
    torch.load(path, weights_only=True)
    model = EmotionClassifier.load_from_checkpoint(path)
    assert model.hparams["model"]["name"] == "resnet_small"
    assert model.hparams["augment"] == "standard"
    assert str(finished) not in json.dumps(dict(model.hparams))


def test_metrics_are_those_of_the_averaged_weights_in_the_best_checkpoint(finished):
    from fer.data import synthetic
    from fer.evaluate import predict
    from fer.metrics import ece

    metrics = json.loads((finished / "metrics.json").read_text())
    split = synthetic.read(train=64, val=21, test=21)["test"]
    checkpoint = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in averaged)
    model = checkpoints.load(str(finished / "checkpoints" / "best.ckpt"))
    logits = torch.from_numpy(predict.logits(predict.network_of(model), split.images))
    assert (logits.argmax(1).numpy() == split.labels).mean() == pytest.approx(metrics["test/accuracy"])
    loaded = artifact.load(finished / "model.ts")
    answer = loaded(torch.from_numpy(split.images.copy())[:, None])
    assert torch.allclose(answer, (logits / metrics["val/temperature"]).softmax(1), atol=1e-5)
    assert ece(answer.numpy(), split.labels) == pytest.approx(metrics["test/ece"], abs=1e-4)


def test_artifact_knows_where_it_comes_from(finished):
    meta = artifact.read_metadata(finished / "model.ts")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert meta.metrics == metrics
    assert meta.temperature == metrics["val/temperature"]
    assert meta.data["name"] == "synthetic"
    assert len(meta.data["fingerprint"]) == 64
    assert meta.config["augment"]["name"] == "standard"
    assert meta.parameters > 0
    assert meta.macs > 0


def test_old_checkpoint_exports_without_training(finished, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fer.artifact",
            f"checkpoint={finished / 'checkpoints' / 'best.ckpt'}",
            f"out={tmp_path / 'm.ts'}",
            "flip=true",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    meta, first = artifact.read_metadata(tmp_path / "m.ts"), artifact.read_metadata(finished / "model.ts")
    assert meta.flip
    assert not first.flip
    assert meta.temperature == first.temperature


def test_seed_makes_a_run_repeatable(tmp_path):
    one = tiny(tmp_path / "a", "augment=strong", "mixup=0.2")
    two = tiny(tmp_path / "b", "augment=strong", "mixup=0.2")
    other = tiny(tmp_path / "c", "augment=strong", "mixup=0.2", "seed=2")
    assert one["val/loss"] == two["val/loss"] != other["val/loss"]


def test_ckpt_path_continues_to_the_same_weights(tmp_path):
    keep_all = ["callbacks.checkpoint.filename='{epoch}-{step}'", "+callbacks.checkpoint.save_top_k=-1"]
    keep_all += [
        "+callbacks.checkpoint.auto_insert_metric_name=false",
        "trainer.max_epochs=2",
        "augment=strong",
        "cutmix=1.0",
    ]
    tiny(tmp_path / "whole", *keep_all)
    first = tmp_path / "whole" / "checkpoints" / "0-4.ckpt"
    metrics = tiny(tmp_path / "rest", f"ckpt_path='{first}'", *keep_all)
    assert metrics["train/epochs"] == 2
    whole, rest = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "rest")
    )
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[part][key], rest[part][key]) for key in whole[part])


def test_ckpt_path_of_another_schedule_is_refused(finished, tmp_path):
    for override, named in (
        ("trainer.max_epochs=5", r"trainer\.max_epochs=2, not 5"),
        ("data.batch_size=32", r"data\.batch_size=16, not 32"),
        ("optimizer=adamw", "optimizer="),
    ):
        with pytest.raises(ConfigError, match=named):
            tiny(tmp_path, "trainer.max_epochs=2", f"ckpt_path='{finished}/checkpoints/last.ckpt'", override)


def test_last_is_the_last_epoch(tmp_path):
    """Without learning no epoch beats the first, so best and last are different epochs."""
    still = ["optimizer.lr=0", "trainer.max_epochs=3", "callbacks.ema=null"]
    tiny(tmp_path / "a", *still)
    folder = tmp_path / "a" / "checkpoints"
    epochs = {n: torch.load(folder / f"{n}.ckpt", weights_only=True)["epoch"] for n in ("best", "last")}
    assert epochs == {"best": 0, "last": 2}


def test_colour_folders_with_other_classes_train_end_to_end(tmp_path):
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        for name, tint in (("bored", 60), ("keen", 190)):
            for k in range(count):
                image = np.clip(rng.normal(tint, 30, (53, 47, 3)), 0, 255).astype(np.uint8)
                path = tmp_path / "faces" / split / name / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)
    overrides = [o for o in TINY if "data" not in o]
    folder = ["data=image_folder", f"data.root='{tmp_path}/faces'", "data.channels=3", "data.size=47"]
    experiment.run(config(*overrides, *folder, "data.batch_size=8", "augment=strong", run_dir=tmp_path / "run"))
    meta = artifact.read_metadata(tmp_path / "run" / "model.ts")
    assert (meta.classes, meta.channels, meta.input_size) == (("bored", "keen"), 3, 47)


@pytest.mark.parametrize("format", ["tflite", "pt2"])
def test_export_format_is_checked_before_training(tmp_path, format):
    if format == "tflite":
        with pytest.raises(ConfigError, match="torchscript, onnx, pt2"):
            tiny(tmp_path, "export.format=tflite")
        assert not (tmp_path / "checkpoints").exists()
    else:
        tiny(tmp_path, "export.format=pt2")
        assert (tmp_path / "model.pt2").stat().st_size > 0


def test_a_model_that_cannot_take_the_size_is_one_line(tmp_path):
    overrides = [o for o in TINY if not o.startswith("+model=")]
    with pytest.raises(ConfigError, match=r"images of 48 pixels.*input_size=224"):
        experiment.run(
            config("model=timm", "model.name=vit_tiny_patch16_224", *overrides, "progressive=[]", run_dir=tmp_path)
        )


def test_pretrained_start_is_not_needed_to_load_the_checkpoint(monkeypatch):
    from fer import models

    asked = []
    create = models.create
    monkeypatch.setattr(
        models, "create", lambda name, pretrained=False, **o: (asked.append(pretrained), create(name, **o))[1]
    )
    data = {"classes": ["a", "b"], "channels": 1, "input_size": 48, "mean": [0.5], "std": [0.2]}
    model = EmotionClassifier(model={"name": "resnet_small", "pretrained": True}, **data)
    EmotionClassifier(**model.hparams)
    assert asked == [True, False]


def test_test_split_can_be_left_unread(tmp_path):
    metrics = tiny(tmp_path, "evaluate.test=false")
    assert not [name for name in metrics if name.startswith("test/")]
    assert "val/accuracy" in metrics


def wandb_records(path: Path) -> bytes:
    """The payload of an offline run: a LevelDB log, whose blocks of 32 KiB cut records, and words, anywhere."""
    data, place, parts = path.read_bytes(), 7, []  # seven bytes name the format
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
    return b"".join(parts)


def test_offline_wandb_run_holds_config_curves_pictures_tables_and_artifact(tmp_path):
    tiny(tmp_path, "logger=wandb", "logger.csv=null")
    assert not (tmp_path / "metrics.csv").exists()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    config, curves = (b"label_smoothing", b"max_epochs"), (b"train/loss", b"val/accuracy", b"lr-SGD")
    words = (*config, *curves, b"best/test/accuracy", b"worst_mistakes", b"-model", b"model.ts")
    wanted = {"curves", "confusion_matrix", "reliability", "mistakes", "gradcam"}
    end = time.monotonic() + 20  # W&B's own process writes them, and may be late on a busy machine
    while time.monotonic() < end:
        missing = [word for word in words if word not in wandb_records(record)]
        pictures = {p.name.rsplit("_", 2)[0] for p in (run / "files" / "media" / "images").glob("*.png")}
        tables = list((run / "files" / "media" / "table").glob("worst_mistakes_*.json"))
        if not missing and pictures == wanted and tables:
            break
        time.sleep(0.2)
    assert not missing
    assert pictures == wanted
    (table,) = (json.loads(path.read_text()) for path in tables)
    with (tmp_path / "mistakes.csv").open(newline="") as file:
        header, first, *_ = csv.reader(file)
    assert table["columns"] == header
    assert [str(value) for value in table["data"][0]][:4] == first[:4]
    assert table["data"][0][4:] == [float(value) for value in first[4:]]


def test_mistakes_are_listed_with_their_probabilities(finished):
    from fer.data import synthetic

    split = synthetic.read(train=64, val=21, test=21)["test"]
    with (finished / "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = 1 - json.loads((finished / "metrics.json").read_text())["test/accuracy"]
    assert len(rows) == round(wrong * len(split))
    worst = [float(row[row["true"]]) for row in rows]
    assert worst == sorted(worst)
    for row in rows:
        assert row["true"] == split.classes[split.labels[int(row["row"])]] != row["predicted"]
        values = {name: float(row[name]) for name in split.classes}
        assert sum(values.values()) == pytest.approx(1, abs=1e-3)
        assert values[row["predicted"]] == max(values.values())


def test_curves_of_a_continued_run_begin_with_the_first_epoch(tmp_path, monkeypatch):
    from fer import plots

    drawn = []
    draw = plots.curves
    monkeypatch.setattr(plots, "curves", lambda rows, *rest: (drawn.append(rows), draw(rows, *rest)))
    kept = ["trainer.max_epochs=2", "callbacks.checkpoint.filename='{epoch}'", "+callbacks.checkpoint.save_top_k=-1"]
    kept += ["+callbacks.checkpoint.auto_insert_metric_name=false"]
    tiny(tmp_path / "whole", *kept)
    tiny(tmp_path / "rest", f"ckpt_path='{tmp_path}/whole/checkpoints/0.ckpt'", *kept)
    whole, rest = drawn
    assert [row["epoch"] for row in whole] == [1, 2]
    assert set(whole[0]) == {"epoch", "train/loss", "val/loss", "val/accuracy", "lr"}
    assert rest[1] == whole[1]
    with (tmp_path / "whole" / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert [row["train/loss"] for row in whole] == pytest.approx(losses)


def test_any_timm_name_trains_and_exports(tmp_path):
    overrides = [o for o in TINY if not o.startswith("+model=")]
    metrics = experiment.run(config("model=timm", "model.name=ghostnet_100", *overrides, run_dir=tmp_path))
    assert artifact.read_metadata(tmp_path / "model.ts").parameters > 1_000_000
    assert metrics["train/epochs"] == 1


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_takes_a_step(name, tmp_path):
    started = config(f"experiment={name}").init_from  # and has the size of that network
    overrides = [o for o in TINY if not started or not o.startswith("+model=")]
    if name.startswith("fer2013"):
        overrides += ["teacher=[]", "data.votes=null"]  # of FER-2013's own images
    metrics = experiment.run(config(*overrides, f"experiment={name}", run_dir=tmp_path))
    assert metrics["train/epochs"] == 1


@pytest.mark.parametrize("name", options("experiment"))
def test_experiments_have_the_final_word(name):
    assert config(f"experiment={name}").name == name
    assert config(f"experiment={name}", "name=mine").name == "mine"


@pytest.mark.parametrize("group", ["model", "optimizer", "scheduler", "trainer", "data", "logger"])
def test_every_option_composes(group):
    for name in options(group):
        extra = ["model.name=resnet18"] if name == "timm" else []
        cfg = config(f"{group}={name}", *extra)
        OmegaConf.resolve(cfg)  # as --cfg job --resolve does


@pytest.mark.parametrize("name", options("augment"))
def test_every_augmentation_keeps_shape_and_differs(name):
    import numpy as np

    pipeline = instantiate(config(f"augment={name}").augment.pipeline)
    if pipeline is None:
        assert name == "none"
        return
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 1), dtype=np.uint8)
    results = []
    for seed in range(20):
        pipeline.set_random_seed(seed)
        results.append(pipeline(image=image)["image"])
    assert {r.shape for r in results} == {(48, 48, 1)}
    assert len({r.tobytes() for r in results}) > 10


def test_auto_is_bf16_only_beside_a_gpu(monkeypatch):
    assert config().trainer.precision == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert config().trainer.precision == "bf16-mixed"
    assert config("trainer=cpu").trainer.precision == "32-true"


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"no checkpoint nowhere\.ckpt"):
        tiny(tmp_path, "ckpt_path=nowhere.ckpt")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ckpt_path=524", "ckpt_path=524 must be a file, or null"),
        ("++model.name=524", "model.name=524 must be the name of a network"),
        (f"mixup={'9' * 30}", "must be a number from 0 to a billion"),
        ("data.reader._partial_=maybe", "data.reader: .*_partial_ flag must be a bool, .*see conf/data"),
        ("data.reader._partial_=false", "data.reader is not a function that reads data"),
    ],
)
def test_values_of_another_kind_are_told_first(override, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        tiny(tmp_path, override)


def test_a_run_folder_that_is_no_text_is_told_first(tmp_path):
    cfg = config(*TINY, run_dir=tmp_path)
    cfg.run_dir = 524
    with pytest.raises(ConfigError, match="run_dir=524 must be a folder"):
        experiment.run(cfg)


def test_trainer_that_cannot_be_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer: .*see conf/trainer, or give trainer=auto"):
        tiny(tmp_path, "trainer.precision=17")


def test_program_prints_one_line_and_exits_with_two(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "model=timm", "model.name=resnet_smal", "data=synthetic", "logger=csv",
         "+data.reader.train=14", "+data.reader.val=7", "+data.reader.test=7", f"hydra.run.dir={tmp_path}"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.name=resnet_smal")
    assert "resnet_small" in done.stderr
    assert done.stderr.count("\n") == 1


def test_soft_labels_of_the_originals_are_learnt(tmp_path):
    tiny(tmp_path / "teacher")
    teacher = f"teacher=['{tmp_path}/teacher/model.ts']"
    plain = tiny(tmp_path / "plain")
    taught = tiny(tmp_path / "taught", teacher, "teacher_sees=originals")
    assert taught["val/loss"] != plain["val/loss"]
    with pytest.raises(ConfigError, match="augmented or originals"):
        tiny(tmp_path / "odd", teacher, "teacher_sees=nothing")


def test_an_artifact_does_not_tell_where_what_it_began_from_was(tmp_path):
    tiny(tmp_path / "private")
    model = tmp_path / "private" / "model.ts"
    tiny(tmp_path / "run", f"teacher=['{model}']", f"init_from='{model}'")
    recorded = artifact.read_metadata(tmp_path / "run" / "model.ts").config
    assert "private" not in str(recorded)
    assert (recorded["teacher"], recorded["init_from"]) == (["model.ts"], "model.ts")


def voted(folder: Path) -> list[str]:
    """A tiny run on a FER-2013 of a few images with votes, both written into `folder`."""
    rows = fer_rows()
    root, votes = write_csv(folder / "fer2013.csv", rows), write_votes(folder / "fer2013new.csv", rows)
    sized = [o for o in TINY if o.startswith(("+model", "trainer", "logger"))]
    return ["data=fer2013", f"data.root='{root}'", f"data.votes='{votes}'", "data.batch_size=4", *sized]


def test_an_artifact_does_not_tell_where_the_data_was(tmp_path):
    overrides = voted(tmp_path / "private")
    with pytest.raises(ConfigError, match="5 steps are too few"):
        experiment.run(config(*overrides, run_dir=tmp_path / "short"))
    experiment.run(config(*overrides, "trainer.max_epochs=2", run_dir=tmp_path / "run"))
    recorded = artifact.read_metadata(tmp_path / "run" / "model.ts").config
    assert "private" not in str(recorded)
    assert (recorded["data"]["root"], recorded["data"]["votes"]) == ("fer2013.csv", "fer2013new.csv")
    assert recorded["data"]["reader"]["root"] == "fer2013.csv"


def test_soft_labels_and_votes_of_a_second_head_are_learnt_together(tmp_path):
    overrides = [*voted(tmp_path), "trainer.max_epochs=2", "votes.use=auxiliary"]
    experiment.run(config(*overrides, run_dir=tmp_path / "teacher"))
    teacher = [f"teacher=['{tmp_path}/teacher/model.ts']", "teacher_sees=originals"]
    experiment.run(config(*overrides, *teacher, run_dir=tmp_path / "both"))
    both = checkpoints.load(str(tmp_path / "both" / "checkpoints" / "best.ckpt"))
    assert both.hparams["votes"] == {"use": "auxiliary", "weight": 0.5}
    assert len(both.backbone.head[-1].weight) == 14
    assert artifact.load(tmp_path / "both" / "model.ts")(artifact.golden_batch(1, 48, 2)).shape == (2, 7)
