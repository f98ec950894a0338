"""int8 copies of ONNX artifacts, and the gate that they have to pass."""

import dataclasses
import logging
import shutil

import cv2
import numpy as np
import onnx
import pytest
import torch
from samples import config, small_classifier

from fer import artifact
from fer.data import synthetic
from fer.data.base import Split
from fer.errors import ArtifactError, ConfigError, DataError
from fer.labels import EMOTIONS
from fer.train import quantize
from fer.train import run as experiment

OWN = artifact.Metadata(EMOTIONS, 1, 24, (0.5,), (0.2,), metrics={"val/accuracy": 0.5}, temperature=0.7)


def save(path, **changes):
    """An untrained network that tells three classes apart, as float32."""
    backbone = small_classifier(classes=list(EMOTIONS), input_size=24).deployable()
    with torch.no_grad():
        backbone.head[-1].weight *= 40
    return artifact.save(backbone, dataclasses.replace(OWN, **changes), path, "onnx")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save(tmp_path_factory.mktemp("float32") / "model.onnx")


@pytest.fixture(scope="module")
def splits(source):
    """Drawn faces. Of val, those of which the network is sure, with its answers as labels; the votes disagree."""
    drawn = synthetic.read(train=64, val=140, test=21, size=24)
    shares = artifact.load(source)(drawn["val"].images[:, None])
    second, first = np.sort(shares, axis=1)[:, -2:].T
    sure, answers = first - second > 0.2, shares.argmax(1)
    assert len(set(answers[sure])) > 2 and sure.sum() > 50
    val = dataclasses.replace(drawn["val"], labels=answers, majority=(answers + 1) % 7).only(sure)
    return drawn | {"val": val}


@pytest.fixture(scope="module")
def made(source, splits):
    """The int8 copy and its figures."""
    out = source.with_name("model.int8.onnx")
    return out, quantize.quantize(source, out, splits["train"].images, {"val": splits["val"]})


def test_the_copy_answers_alike_for_grey_and_colour_of_any_size(source, made):
    before, after = artifact.load(source), artifact.load(made[0])
    for channels, size in ((1, 24), (3, 24), (3, 61), (1, 15)):
        images = artifact.golden_batch(channels, size)
        assert 1e-6 < np.abs(after(images) - before(images)).max() < 0.1


def test_the_copy_knows_its_precision_and_figures(made):
    path, figures = made
    assert figures == {"int8/agreement": 1, "int8/val/accuracy": 1, "int8/val/accuracy_float32": 1}
    metadata = artifact.read_metadata(path)
    assert metadata == dataclasses.replace(OWN, precision="int8", metrics=OWN.metrics | figures)


def test_the_same_images_give_the_same_file(source, made, splits, tmp_path):
    quantize.quantize(source, tmp_path / "again.onnx", splits["train"].images, {"val": splits["val"]})
    assert (tmp_path / "again.onnx").read_bytes() == made[0].read_bytes()


@pytest.mark.parametrize("flip", [False, True])
def test_preprocessing_and_the_last_layer_stay_float32(flip, source, made, splits, tmp_path, monkeypatch):
    path = made[0]
    if flip:
        monkeypatch.setattr(quantize, "LOSS", 1)
        path = tmp_path / "flip.int8.onnx"
        flipping = save(tmp_path / "flip.onnx", flip=True)
        quantize.quantize(flipping, path, splits["train"].images, {"val": splits["val"]})
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    types = {weights.name: weights.data_type for weights in graph.initializer}

    def kinds(inputs):
        return {makers[name].op_type if name in makers else types.get(name, "image") for name in inputs}

    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert all(kinds(node.input) == {"DequantizeLinear"} for node in convolutions)
    for kind in ("Cast", "Mul", "ReduceSum", "Resize", "Sub", "Gemm", "Softmax"):
        nodes = [node for node in graph.node if node.op_type == kind]
        assert nodes
        assert not [node for node in nodes if "DequantizeLinear" in kinds(node.input) and kind != "Gemm"]
    heads = [node for node in graph.node if node.op_type == "Gemm"]
    assert len(heads) == 1 + flip
    assert all(types[node.input[1]] == onnx.TensorProto.FLOAT for node in heads)
    assert kinds([graph.output[0].name]) == {"Div" if flip else "Softmax"}


def test_a_copy_with_other_answers_is_not_written(source, splits, tmp_path):
    black = np.zeros_like(splits["train"].images)
    judged = {"val": splits["val"], "val_votes": splits["val"].by_majority()}
    with pytest.raises(ArtifactError, match=r"on val are those of float32 \(98 % needed\); accuracy val ") as caught:
        quantize.quantize(source, tmp_path / "model.int8.onnx", black, judged)
    assert "(float32 100.00%), val_votes " in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_quantised_is_one_line(source, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "_between_weights", lambda graph: 1 / 0)
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be quantised \(division by zero\)"):
        quantize.quantize(source, tmp_path / "model.int8.onnx", splits["train"].images, {"val": splits["val"]})
    assert not list(tmp_path.iterdir())


def test_a_network_of_one_layer_is_not_quantised_as_a_whole(source, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "_between_weights", lambda graph: [])
    with pytest.raises(ArtifactError, match="two or more layers"):
        quantize.quantize(source, tmp_path / "model.int8.onnx", splits["train"].images, {"val": splits["val"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("agreement", "val", "faces", "passes"),
    [
        (0.98, 0.497, 0.497, True),
        (1, 0.5, float("nan"), False),
        (0.979, 0.5, 0.5, False),
        (1, 0.4969, 0.5, False),
        (1, 0.6, 0.49, False),
    ],
)
def test_the_gate_is_98_per_cent_of_the_answers_and_three_tenths_of_a_point_on_each_set(agreement, val, faces, passes):
    figures = {"int8/agreement": agreement, "int8/val/accuracy": val, "int8/faces/accuracy": faces}
    figures |= {"int8/val/accuracy_float32": 0.5, "int8/faces/accuracy_float32": 0.5}
    assert (quantize._failure(figures, dict.fromkeys(["val", "faces"])) == "") == passes


def write_faces(folder, names):
    for name in names:
        for number in range(3):
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number}.png"), np.full((30, 30), 80 * number, np.uint8))
    return str(folder)


def test_folders_are_read_by_name_without_classes_that_the_data_does_not_have(tmp_path):
    paths = [write_faces(tmp_path / part / "val", ["Happiness", "bored", "sad"]) for part in "ab"]
    folders = quantize.read_folders(paths, ("sad", "happy", "angry"), 16, 3)
    assert list(folders) == ["val'", "val''"]  # val is the data's own
    for split in folders.values():
        assert (split.images.shape, sorted(split.classes)) == ((6, 16, 16, 3), ["happy", "sad"])


def test_a_folder_that_cannot_judge_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing; set export\.also"):
        quantize.read_folders([str(tmp_path / "missing")], EMOTIONS, 16, 1)
    path = write_faces(tmp_path / "faces", ["bored", "sad"])
    with pytest.raises(ConfigError, match=r"the data has the classes angry, .*, but faces has .*; fewer than two"):
        quantize.read_folders([path], EMOTIONS, 16, 1)


def test_a_folder_with_fewer_classes_is_judged_on_these(source, made, splits):
    answers, val = artifact.load(source)(splits["val"].images[:, None]), splits["val"]
    two = (int(answers.mean(0).argmax()), int(answers.mean(0).argmin()))
    labels = (answers[:, two[0]] < answers[:, two[1]]).astype(np.int64)
    faces = Split(val.images, labels, tuple(EMOTIONS[k] for k in two))
    models = [quantize._model(source), quantize._model(made[0])]
    figures = quantize._figures(models, {"val": val, "faces": faces})
    assert figures["int8/faces/accuracy_float32"] == 1
    assert figures["int8/faces/accuracy"] > 0.9


@pytest.fixture
def export(finished, tmp_path, splits):
    """Export the checkpoint of the shared training with the given overrides; the files that are left."""
    shutil.copytree(finished / "checkpoints", tmp_path / "run" / "checkpoints")
    folder = tmp_path / "run"

    def run(*overrides, folders=None):
        cfg = config("data=synthetic", *overrides, run_dir=folder)
        exported = experiment._export(cfg, folder / "checkpoints" / "best.ckpt", splits, folders or {})
        assert exported.stat().st_size > 0
        return exported.name, {path.name for path in folder.iterdir()} - {"checkpoints"}

    return run


def test_int8_is_judged_on_val_by_labels_by_votes_and_on_all_folders(export, splits, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(quantize, "AGREEMENT", 0)
    monkeypatch.setattr(quantize, "LOSS", 1)
    caplog.set_level(logging.INFO)
    left = export("export.int8=true", folders={"faces": splits["test"]})
    assert left == ("model.ts", {"model.ts", "model.onnx", "model.int8.onnx"})
    metrics = artifact.read_metadata(tmp_path / "run" / "model.int8.onnx").metrics
    judged = {key.split("/")[1] for key in metrics if key.startswith("int8/") and key.count("/") == 2}
    assert judged == {"val", "val_votes", "faces"}
    (line,) = (record.message for record in caplog.records if record.levelno >= logging.INFO)
    assert line.startswith("model.int8.onnx: ") and line.endswith(" % of its answers are those of model.onnx")


def test_a_run_ends_well_where_the_gate_fails(export, monkeypatch, caplog):
    monkeypatch.setattr(quantize, "AGREEMENT", 1.1)
    assert export("export.int8=true", "export.format=onnx") == ("model.onnx", {"model.onnx"})
    (line,) = (record.message for record in caplog.records if record.name == "train")
    assert line.startswith("no model.int8.onnx: the int8 model is too different: ") and "\n" not in line


def test_a_run_ends_well_where_onnx_cannot_express_the_network(export, monkeypatch, caplog):
    original = artifact.FORMATS["onnx"]

    def fail(*_):
        raise ValueError("no such operator; sorry")

    monkeypatch.setitem(artifact.FORMATS, "onnx", dataclasses.replace(original, save=fail))
    assert export("export.int8=true") == ("model.ts", {"model.ts"})
    (line,) = (record.message for record in caplog.records if record.name == "train")
    assert line == "no model.onnx: cannot export as onnx (no such operator; sorry)"
    with pytest.raises(ArtifactError, match="cannot export as onnx"):
        export("export.format=onnx")


def test_onnx_can_be_left_out_and_copies_of_an_earlier_export_do_not_stay(export, tmp_path):
    for name in ("model.onnx", "model.int8.onnx"):
        (tmp_path / "run" / name).touch()
    assert export("export.onnx=false") == ("model.ts", {"model.ts"})
