"""Saving and loading, whatever the format."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import golden_images
from torch import nn

from fer import artifact, ort
from fer.artifact import trust
from fer.errors import ArtifactError, ConfigError


def edited(model, target, part, edit):
    """Copy `model`, with `edit` applied to the bytes of the one file whose path contains `part` and that holds no lines
    of debugging."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(target, "w") as new:
        chosen = [name for name in old.namelist() if part in name and name.endswith((".py", ".json"))]
        assert len(chosen) == 1
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name == chosen[0] else old.read(name))
    return target


def test_a_saved_model_loads_with_its_metadata(model, meta):
    loaded = artifact.load(str(model))
    assert loaded.metadata == artifact.read_metadata(model) == meta
    assert loaded(golden_images(1, 24)).shape == (5, 3)


def test_raw_leaves_out_temperature_and_mirrored_image(net, meta, tmp_path):
    path = artifact.save(net, dataclasses.replace(meta, flip=True), tmp_path / "m.ts")
    plain = artifact.save(net, dataclasses.replace(meta, temperature=1.0), tmp_path / "plain.ts")
    images = golden_images(1, 24)
    assert torch.allclose(artifact.load(path, raw=True)(images), artifact.load(plain)(images), atol=1e-6)
    assert not torch.allclose(artifact.load(path)(images), artifact.load(plain)(images), atol=1e-3)


def test_a_home_folder_is_expanded(net, meta, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert artifact.save(net, meta, "~/m.ts") == tmp_path / "m.ts"
    assert artifact.load("~/m.ts").metadata == meta
    assert artifact.backbone_weights("~/m.ts").keys() == net.state_dict().keys()


def test_included_models_have_names_that_come_before_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accurate").write_text("another file")
    for name, file in (("fast", "fast.ts"), ("accurate", "accurate.ts"), ("bundled", "fast.ts")):
        assert artifact.find(name) == trust.INCLUDED / file
        assert artifact.load(name).metadata == artifact.read_metadata(trust.INCLUDED / file)
    for path in ("./accurate", tmp_path / "accurate", "slow", "../weights/fast", "./fast.ts", ""):
        assert artifact.find(path) not in set(trust.INCLUDED.iterdir())
    with pytest.raises(ArtifactError, match=r"no model file slow; accurate, .*fast, .*are included"):
        artifact.load("slow")


@pytest.mark.parametrize(
    ("gpu", "int8", "device", "there", "file"),
    [
        (False, True, "auto", "ts onnx int8.onnx", "int8.onnx"),
        (False, True, "cpu", "ts onnx", "onnx"),
        (False, False, "auto", "ts onnx int8.onnx", "onnx"),
        (False, True, "cpu", "ts", "ts"),
        (False, True, "cuda", "ts onnx int8.onnx", "ts"),
        (True, True, "cuda:1", "ts onnx int8.onnx", "onnx"),
        (True, True, "auto", "ts onnx int8.onnx", "onnx"),
        (True, True, "cpu", "ts onnx int8.onnx", "int8.onnx"),
    ],
)
def test_the_fastest_file_of_an_included_model_is_chosen(gpu, int8, device, there, file, tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "INCLUDED", tmp_path)
    monkeypatch.setattr(artifact, "BUNDLED", tmp_path / "fast.ts")
    monkeypatch.setattr(ort, "gpu", lambda: gpu)
    monkeypatch.setattr(ort, "fast_int8", lambda: int8)
    for ending in there.split():
        (tmp_path / f"fast.{ending}").touch()
    for name in ("fast", "bundled"):
        assert artifact.fastest(name, device) == tmp_path / f"fast.{file}"
    for path in (tmp_path / "fast.ts", "./fast.ts", "./fast"):  # a path is that file
        assert artifact.fastest(path, device) == Path(path)


def test_backbone_weights_are_those_of_the_network(model, net):
    weights = artifact.backbone_weights(model)
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["model.onnx", "best.ckpt", "model"])
def test_a_suffix_of_another_format_is_refused(net, meta, tmp_path, name):
    with pytest.raises(ArtifactError, match=rf"{name} must end in \.ts .*format="):
        artifact.save(net, meta, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(net, meta, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot write .*m\.ts.*out="):
        artifact.save(net, meta, tmp_path / "file" / "m.ts")


def test_a_model_that_differs_from_its_file_is_not_written(net, meta, tmp_path):
    class OtherWhenTraced(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) * (2.0 if torch.jit.is_tracing() else 1.0)

    with pytest.raises(ArtifactError, match="differs from the model"):
        artifact.save(OtherWhenTraced(), meta, tmp_path / "m.ts")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_exported_is_one_line(meta, tmp_path):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("first\nsecond")

    with pytest.raises(ArtifactError, match=r"as torchscript \(first second\).*export\.format=onnx"):
        artifact.save(Broken(), meta, tmp_path / "m.ts")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(format, tmp_path):
    path = tmp_path / f"m{artifact.FORMATS[format].suffix}"
    path.write_bytes(b"before")
    code = f"""
import resource
from torch import nn
from fer import artifact
from fer.errors import ArtifactError
meta = artifact.Metadata(classes=("a", "b"), channels=1, input_size=24, mean=(0.5,), std=(0.25,))
net = nn.Sequential(nn.Flatten(), nn.Linear(576, 500), nn.Linear(500, 2))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    artifact.save(net, meta, {str(path)!r}, {format!r})
except ArtifactError as error:
    print(error)
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (completed.returncode, completed.stdout) == (
        0,
        f"cannot write {path}: File too large; choose another out=\n",
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


def test_files_that_are_no_artifacts_are_one_line(model, tmp_path):
    (tmp_path / "cut.ts").write_bytes(model.read_bytes()[:-300])
    (tmp_path / "text.ts").write_text("hello")
    (tmp_path / "text.jpg").write_text("hello")
    torch.save({"a": 1}, tmp_path / "pickle.ts")
    (tmp_path / "folder.ts").mkdir()
    for name in ("cut.ts", "text.ts", "text.jpg", "pickle.ts", "folder.ts", "absent.ts"):
        for reader in (artifact.load, artifact.read_metadata):
            with pytest.raises(ArtifactError, match=r"python -m fer\.artifact") as error:
                reader(tmp_path / name)
            assert name in str(error.value)
            assert "\n" not in str(error.value)


def test_damaged_bytes_end_in_metadata_or_in_one_line(model, tmp_path):
    data, rng, refused = model.read_bytes(), np.random.default_rng(0), 0
    for round in range(60):
        damaged = bytearray(data[: rng.integers(1, len(data))] if round % 4 == 0 else data)
        for index in rng.integers(max(0, len(damaged) - 1500), len(damaged), 3):  # in the archive's directory
            damaged[index] = rng.integers(256)
        (tmp_path / "m.ts").write_bytes(damaged)
        try:
            assert artifact.read_metadata(tmp_path / "m.ts").classes
        except ArtifactError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 10 < refused < 60


def test_metadata_is_refused_before_any_code_is_loaded(model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    path = edited(model, tmp_path / "m.ts", "extra/metadata.json", lambda data: data.replace(b"1.7", b"0"))
    with pytest.raises(ArtifactError, match=r"m\.ts .*metadata: temperature=0 must"):
        artifact.load(path)


def test_a_file_that_does_not_return_what_it_says_is_refused(model, tmp_path):
    def two_classes(data):
        return json.dumps(json.loads(data) | {"classes": ["a", "b"]}).encode()

    path = edited(model, tmp_path / "m.ts", "extra/metadata.json", two_classes)
    trust.add(path)
    with pytest.raises(ArtifactError, match=r"m\.ts .*does not return probabilities of its 2 classes"):
        artifact.load(path)


def test_damaged_code_of_a_trusted_file_is_one_line(model, tmp_path):
    path = edited(model, tmp_path / "m.ts", "fer/artifact/network", lambda data: data[:-40] + b"\xff")
    trust.add(path)
    with pytest.raises(ArtifactError, match=r"m\.ts cannot be used") as error:
        artifact.load(path)
    assert "\n" not in str(error.value)


def test_loading_imports_no_training_library():
    names = "torch", "lightning", "timm", "wandb", "onnx", "onnxruntime", "cv2", "fer.models", "fer.data"
    code = f"import sys, fer.artifact; print([m for m in {names} if m in sys.modules])"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.stdout.strip() == "[]"


def test_an_unknown_format_is_refused(net, meta, tmp_path):
    with pytest.raises(ConfigError, match=r"export\.format=tflite.*torchscript"):
        artifact.save(net, meta, tmp_path / "m", "tflite")


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_a_device_is_chosen_by_name(gpus, name, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert artifact.device_of(name, "model.ts") == device


@pytest.mark.parametrize(
    ("gpus", "choices"), [(0, "PyTorch finds no CUDA GPU"), (2, "choose auto, cpu, cuda, cuda:0 or cuda:1$")]
)
def test_a_gpu_that_is_not_there_is_one_line_with_those_that_are(gpus, choices, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=f"device=cuda:2.*{choices}"):
        artifact.device_of("cuda:2", "model.ts")


def test_a_file_of_an_included_model_is_known_by_its_name_unless_there_is_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert artifact.find("fast.ts") == artifact.BUNDLED
    assert artifact.find("fast.txt") == Path("fast.txt") and artifact.find("x/fast.ts") == Path("x/fast.ts")
    assert artifact.fastest("fast.onnx", "cpu") == trust.INCLUDED / "fast.onnx"
    (tmp_path / "fast.ts").touch()
    assert artifact.find("fast.ts") == Path("fast.ts")


@pytest.mark.parametrize("threads", [0, -1, "2"])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ConfigError, match="threads"):
        artifact.load("fast", threads=threads)
