"""The real configuration, on data small enough for a test."""

import csv
import json
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from samples import ROOT, TINY, config, fer_rows, golden_images, options, small_classifier, tiny, write_csv, write_votes

from fer import artifact, models
from fer.artifact import trust
from fer.artifact.export import export
from fer.data import synthetic
from fer.errors import ArtifactError, ConfigError
from fer.evaluate import predict, report
from fer.labels import EMOTIONS
from fer.metrics import ece
from fer.models import checkpoints
from fer.models.classifier import EmotionClassifier
from fer.train import initial_weights
from fer.train import run as experiment

PICTURES = {"curves", "confusion_matrix", "reliability", "mistakes", "gradcam"}


@pytest.fixture(scope="module")
def metrics(finished):
    return json.loads((finished / "metrics.json").read_text())


@pytest.fixture(scope="module")
def test_split():
    return synthetic.read(train=112, val=21, test=21)["test"]


def test_a_run_leaves_every_file(finished):
    pictures = [f"{picture}.png" for picture in PICTURES]
    for name in (*pictures, "metrics.json", "mistakes.csv", "model.ts", "model.onnx", "metrics.csv"):
        assert (finished / name).stat().st_size > 0
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert [path.name for path in finished.rglob(".*") if path.is_file()] == [".running"]  # the lock, which stays


def test_metrics_are_flat_and_complete(metrics):
    for split in ("val", "test"):
        for name in ("accuracy", "accuracy_flip", "f1_macro", "ece", "ece_raw", "loss", "recall/happy"):
            assert isinstance(metrics[f"{split}/{name}"], float)
    assert metrics["test/accuracy_without_duplicates"] == metrics["test/accuracy"]  # drawn faces have no duplicates
    assert metrics["train/images_per_second"] > 0
    assert metrics["train/minutes"] > 0
    assert (metrics["train/epochs"], metrics["train/seed"]) == (3, 1)
    assert 0.05 <= metrics["val/temperature"] <= 20


def test_metrics_csv_has_every_epoch_and_every_metric_that_is_one_number(finished, metrics):
    with (finished / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["val/loss"]) == metrics["val/loss_epoch_1"]
    assert max(float(row["val/accuracy"]) for row in rows) == pytest.approx(metrics["val/accuracy"])
    assert all(row["val/f1_macro"] for row in rows)
    assert "val/recall/happy" not in rows[0]


def test_a_checkpoint_needs_nothing_but_its_path(finished):
    path = finished / "checkpoints" / "best.ckpt"
    torch.load(path, weights_only=True)
    model = EmotionClassifier.load_from_checkpoint(path)
    assert model.hparams["model"]["name"] == "resnet_small"
    assert model.hparams["config"]["augment"]["name"] == "camera"
    assert str(finished) not in json.dumps(dict(model.hparams))


def test_best_and_last_are_epochs(finished):
    paths = {name: finished / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")}
    best, last = (torch.load(path, weights_only=True) for path in paths.values())
    accuracies = [row["val/accuracy"] for row in last["callbacks"]["History"]["epochs"]]
    assert len(accuracies) == 3
    assert (best["epoch"], last["epoch"]) == (accuracies.index(max(accuracies)), 2)


def test_metrics_are_those_of_the_averaged_weights_in_the_best_checkpoint(finished, metrics, test_split):
    checkpoint = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in averaged)
    model = checkpoints.load(str(finished / "checkpoints" / "best.ckpt"))
    logits = torch.from_numpy(predict.logits(predict.network_of(model), test_split.images))
    assert (logits.argmax(1).numpy() == test_split.labels).mean() == pytest.approx(metrics["test/accuracy"])
    answer = artifact.load(finished / "model.ts")(torch.from_numpy(test_split.images.copy())[:, None])
    assert torch.allclose(answer, (logits / metrics["val/temperature"]).softmax(1), atol=1e-5)
    assert ece(answer.numpy(), test_split.labels) == pytest.approx(metrics["test/ece"], abs=1e-4)


def test_an_artifact_knows_where_it_comes_from(finished, metrics):
    meta = artifact.read_metadata(finished / "model.ts")
    assert meta.metrics == metrics
    assert meta.temperature == metrics["val/temperature"]
    assert meta.data["name"] == "synthetic"
    assert len(meta.data["fingerprint"]) == 64
    assert meta.config["augment"]["name"] == "camera"
    assert (meta.parameters, meta.macs) == (metrics["model/parameters"], metrics["model/macs"])


def test_onnx_and_torchscript_of_a_run_say_the_same(finished):
    own, onnx = (artifact.load(finished / name) for name in ("model.ts", "model.onnx"))
    images = artifact.golden_batch(3, 60)
    assert np.allclose(onnx(images), own(images), rtol=0, atol=1e-5)
    assert {**vars(onnx.metadata), "created": ""} == {**vars(own.metadata), "created": ""}


def test_mistakes_are_listed_with_their_probabilities(finished, metrics, test_split):
    with (finished / "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == round((1 - metrics["test/accuracy"]) * len(test_split)) > 0
    worst = [float(row[row["true"]]) for row in rows]
    assert worst == sorted(worst)
    for row in rows:
        assert row["true"] == test_split.classes[test_split.labels[int(row["row"])]] != row["predicted"]
        values = {name: float(row[name]) for name in test_split.classes}
        assert sum(values.values()) == pytest.approx(1, abs=1e-3)
        assert values[row["predicted"]] == max(values.values())


def wandb_records(path) -> bytes:
    """Return the payload of an offline run: a LevelDB log, whose blocks of 32 KiB cut records anywhere."""
    data, start, parts = path.read_bytes(), 7, []  # seven bytes name the format
    while start + 7 <= len(data):
        left = 32768 - start % 32768
        if left < 7:
            start += left
            continue
        length = int.from_bytes(data[start + 4 : start + 6], "little")
        parts.append(data[start + 7 : start + 7 + length])
        start += 7 + length
    return b"".join(parts)


def test_an_offline_wandb_run_holds_config_curves_pictures_and_artifact(finished):
    (run,) = (finished / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    settings, curves = (b"label_smoothing", b"max_epochs"), (b"train/loss", b"val/accuracy", b"lr-SGD")
    words = (*settings, *curves, b"best/test/accuracy", b"worst_mistakes", b"-model", b"model.ts")
    end = time.monotonic() + 20  # W&B's own process writes them, and may be late on a busy machine
    while time.monotonic() < end:
        missing = [word for word in words if word not in wandb_records(record)]
        pictures = {p.name.rsplit("_", 2)[0] for p in (run / "files" / "media" / "images").glob("*.png")}
        if not missing and pictures == PICTURES:
            break
        time.sleep(0.2)
    assert not missing
    assert pictures == PICTURES


def test_soft_labels_and_votes_of_a_second_head_are_learnt_and_no_folder_is_recorded(finished, tmp_path):
    private = tmp_path / "private"
    rows = fer_rows()
    root, votes = write_csv(private / "fer2013.csv", rows), write_votes(private / "fer2013new.csv", rows)
    teacher = private / "teacher.ts"
    teacher.write_bytes((finished / "model.ts").read_bytes())
    cfg = config(
        "data=fer2013", f"data.root='{root}'", f"data.votes='{votes}'", "data.batch_size=4",
        "+model={widths:[8,16],depths:[1,1]}", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=csv",
        "scheduler=plateau", "cutmix=1.0", "class_weights=true", "evaluate.test=false", "callbacks.progress=null",
        "target_distribution.use=auxiliary", f"distillation.teachers=['{teacher}']", "distillation.images=original",
        "export.onnx=false",
        f"init_from='{teacher}'", run_dir=tmp_path / "run",
    )  # fmt: skip
    metrics = experiment.run(cfg)
    assert "val/accuracy" in metrics
    assert not [name for name in metrics if name.startswith("test/")]
    model = checkpoints.load(str(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    assert model.hparams["target_distribution"] == {"use": "auxiliary", "weight": 0.5}
    assert len(model.backbone.head[-1].weight) == 14
    assert artifact.load(tmp_path / "run" / "model.ts")(golden_images(1, 48, 2)).shape == (2, 7)
    recorded = artifact.read_metadata(tmp_path / "run" / "model.ts").config
    assert "private" not in str(recorded)
    assert (recorded["data"]["root"], recorded["data"]["votes"]) == ("fer2013.csv", "fer2013new.csv")
    assert recorded["data"]["reader"]["root"] == "fer2013.csv"
    assert (recorded["distillation"]["teachers"], recorded["init_from"]) == (["teacher.ts"], "teacher.ts")


def test_votes_choose_the_epoch_and_calibrate_and_the_prior_is_part_of_the_artifact(tmp_path, monkeypatch):
    rows = fer_rows()
    root, votes = write_csv(tmp_path / "fer2013.csv", rows), write_votes(tmp_path / "fer2013new.csv", rows)
    cfg = config(
        "data=fer2013", f"data.root='{root}'", f"data.votes='{votes}'", "data.batch_size=4", "data.balanced=false",
        "+model={widths:[8,16],depths:[1,1]}", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=csv",
        "monitor=val_votes/loss", "target_distribution.weight=1", "callbacks.progress=null", "export.prior=0.5",
        "export.onnx=false", run_dir=tmp_path / "run",
    )  # fmt: skip
    titles = []
    monkeypatch.setattr(report, "draw", lambda predictions, split, title, folder: titles.append(title))
    metrics = experiment.run(cfg)
    assert titles == ["test_votes: 14 images"]
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert any("'monitor': 'val_votes/loss', 'mode': 'min'" in key for key in checkpoint["callbacks"])
    assert "val_votes/loss" in checkpoint["callbacks"]["History"]["epochs"][0]
    assert {f"{s}/{m}" for s in ("val_votes", "test_votes") for m in ("accuracy", "recall_macro")} <= metrics.keys()
    assert metrics["val_votes/support/happy"] == metrics["val/support/happy"]

    made = artifact.read_metadata(tmp_path / "run" / "model.ts")
    model = checkpoints.load(str(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    assert (made.prior, made.temperature) == (0.5, metrics["val/temperature"])
    assert made.logit_bias == pytest.approx((-0.5 * model.log_prior).tolist())
    images = golden_images(1, 48, 4)
    with torch.no_grad():
        logits = model(model.prepare(images)) + torch.tensor(made.logit_bias)
    wanted = (logits / made.temperature).softmax(1)
    assert torch.allclose(artifact.load(tmp_path / "run" / "model.ts")(images), wanted, atol=1e-5)

    other = export(tmp_path / "run" / "checkpoints" / "best.ckpt", tmp_path / "plain.ts", prior=0.0)
    plain = artifact.read_metadata(other)
    assert (plain.prior, plain.logit_bias, plain.temperature, plain.metrics) == (0.0, (), 1.0, {})


def test_a_backbone_whose_head_cannot_hold_the_prior_is_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "fit", lambda *_: pytest.fail("the training was started"))
    create = models.create
    monkeypatch.setattr(
        models, "create", lambda classes, **options: torch.nn.Sequential(create(classes=9, **options), torch.nn.GLU())
    )
    with pytest.raises(ConfigError, match="does not end in a linear layer"):
        tiny(tmp_path, "export.prior=0.5")


def test_a_monitor_of_votes_without_votes_is_refused_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "fit", lambda *_: pytest.fail("the training was started"))
    with pytest.raises(ConfigError, match=r"monitor=val_votes/loss needs votes; set data\.votes"):
        tiny(tmp_path, "monitor=val_votes/loss")


def test_colour_folders_with_other_classes_and_any_timm_model_train_end_to_end(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        for name, tint in (("bored", 60), ("keen", 190)):
            for k in range(count):
                image = np.clip(rng.normal(tint, 30, (53, 47, 3)), 0, 255).astype(np.uint8)
                path = tmp_path / "faces" / split / name / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)
    overrides = [o for o in TINY if not o.startswith(("data", "+data", "+model"))]
    folder = ["data=image_folder", f"data.root='{tmp_path}/faces'", "data.channels=3", "data.size=47"]
    folder += ["data.batch_size=8", "model=timm", "model.name=resnet10t", "export.format=pt2"]
    experiment.run(config(*overrides, *folder, run_dir=tmp_path / "run"))
    model = checkpoints.load(str(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    assert (model.classes, model.hparams["channels"], model.hparams["input_size"]) == (("bored", "keen"), 3, 47)
    assert (tmp_path / "run" / "model.pt2").stat().st_size > 0


@pytest.mark.parametrize("name", options("experiment"))
def test_every_recipe_composes_and_has_good_values(name):
    cfg = config(f"experiment={name}")
    experiment._check(cfg)
    OmegaConf.resolve(cfg)
    assert cfg.name == name


FINE_TUNED = [name for name in options("experiment") if config(f"experiment={name}").init_from]


@pytest.mark.parametrize("name", FINE_TUNED)
def test_every_recipe_starts_from_weights_that_fit_its_network(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = config(f"experiment={name}")
    trust.accept([cfg.init_from])
    model = small_classifier(model=OmegaConf.to_container(cfg.model), classes=EMOTIONS, input_size=48)
    initial_weights.start_from(model, cfg.init_from)


def test_the_command_line_has_the_final_word():
    assert config("experiment=quickstart", "name=mine").name == "mine"


@pytest.mark.parametrize("group", ["model", "optimizer", "scheduler", "trainer", "data", "logger"])
def test_every_option_composes(group):
    for name in set(options(group)) - {"none"}:  # which is for fer.evaluate
        extra = ["model.name=resnet18"] if name == "timm" else []
        cfg = config(f"{group}={name}", *extra)
        OmegaConf.resolve(cfg)  # as --cfg job --resolve does


def test_training_without_data_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="data=none; see conf/data"):
        experiment.run(config("data=none", "input_size=48", run_dir=tmp_path))


@pytest.mark.parametrize("name", options("augment"))
def test_every_augmentation_keeps_shape_and_differs(name):
    pipeline = instantiate(config(f"augment={name}").augment.pipeline)
    if pipeline is None:
        assert name == "none"
        return
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 1), dtype=np.uint8)
    results = []
    for seed in range(20):
        pipeline.set_random_seed(seed)
        results.append(pipeline(image=image)["image"])
    assert {result.shape for result in results} == {(48, 48, 1)}
    assert len({result.tobytes() for result in results}) > 10


def test_auto_is_bf16_only_beside_a_gpu(monkeypatch):
    assert config().trainer.precision == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert config().trainer.precision == "bf16-mixed"
    assert config("trainer=cpu").trainer.precision == "32-true"


@pytest.fixture(scope="module")
def composed():
    return config(*TINY)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run_dir", "", "run_dir= must be a path"),
        ("seed", -1, "seed=-1 must be a whole number from 0"),
        ("seed", True, "seed=True must be"),
        ("threads", 0, "threads=0 must be a whole number from 1 to 4096, or null"),
        ("trust", "yes", "trust=yes is unknown"),
        ("resume", "yes", "resume=yes is unknown; choose null or auto"),
        ("init_from", 5, "init_from=5 must be a path, or null"),
        ("class_weights", 1, "class_weights=1 is unknown"),
        ("trainer.max_epochs", 0, "trainer.max_epochs=0 must be a whole number from 1"),
        ("trainer.max_epochs", 1.5, "trainer.max_epochs=1.5 must be"),
        ("trainer.precision", 17, "trainer: .*see conf/trainer"),
        ("evaluate.test", "maybe", "evaluate.test=maybe is unknown; choose true or false"),
        ("export.format", "tflite", "export.format=tflite is unknown; choose"),
        ("export.onnx", "fp32", "export.onnx=fp32 is unknown; choose true or false"),
        ("export.int8", 1, "export.int8=1 is unknown; choose true or false"),
        ("export.int8", True, r"export.int8=true quantises model.onnx; set export.onnx=true"),  # which is false here
        ("export.also", ["faces"], "export.also judges the int8 model; set export.int8=true, or remove it"),
        ("export.also", 5, "export.also=5 must be a path"),
        ("export.crop_margin", 9, "export.crop_margin=9 must be a number from -0.4"),
        ("distillation.weight", 0, "distillation.weight=0 must be a number above 0 to 1"),
        ("distillation.images", "all", "distillation.images=all is unknown; choose augmented or original"),
        ("distillation.teachers", [3], "distillation.teachers=3 must be a path"),
        ("target_distribution.use", "never", "target_distribution.use=never is unknown; choose mixed or auxiliary"),
        ("target_distribution.weight", 1.5, "target_distribution.weight=1.5 must be a number from 0 to 1"),
        ("optimizer.lr", -1, "optimizer.lr=-1 must be a number from 0"),
        ("data.reader._partial_", False, "data.reader is not a function"),
        ("callbacks", None, "callbacks=None must be a group"),
        ("callbacks.checkpoint", None, "callbacks.checkpoint=null leaves nothing"),
    ],
)
def test_a_wrong_value_is_one_line_before_anything_is_trained(key, value, words, composed, tmp_path):
    cfg = composed.copy()
    cfg.run_dir = str(tmp_path)
    OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises((ConfigError, ArtifactError), match=words) as caught:
        experiment.run(cfg)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("gpus", "values", "device"),
    [
        (2, {"accelerator": "auto", "devices": 1}, "auto"),
        (2, {"accelerator": "auto", "devices": [1]}, "cuda:1"),
        (2, {"accelerator": "cpu", "devices": 1}, "cpu"),
        (0, {"accelerator": "auto", "devices": [1]}, "auto"),
    ],
)
def test_soft_labels_are_made_on_the_device_of_the_training(gpus, values, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert experiment._device(OmegaConf.create(values)) == device


@pytest.mark.parametrize("sweep", [True, False])
@pytest.mark.parametrize("external", [True, False])
def test_a_job_of_a_sweep_starts_no_processes_of_its_own(sweep, external):
    environment = SimpleNamespace(creates_processes_externally=external)
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(cluster_environment=environment))
    if sweep and not external:
        with pytest.raises(ConfigError, match=r"set trainer\.devices=1, or let hydra/launcher"):
            experiment._check_processes(trainer, sweep)
    else:
        experiment._check_processes(trainer, sweep)


def test_a_run_needs_no_extra_logger_and_no_average(tmp_path):
    none = ["logger.csv=null", "callbacks.learning_rate=null", "callbacks.ema=null", "callbacks.progress=null"]
    metrics = tiny(tmp_path, *none, "evaluate.test=false")
    assert not (tmp_path / "metrics.csv").exists()
    assert metrics["val/loss_epoch_1"] > 0
    assert (tmp_path / "curves.png").exists()
