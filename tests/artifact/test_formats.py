import dataclasses
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from samples import ROOT, golden_images
from torch import nn

from fer import artifact, ort
from fer.artifact import FORMATS, Metadata, formats
from fer.artifact.network import InferenceModel
from fer.errors import ArtifactError, ConfigError


def test_every_file_of_the_folder_is_registered():
    assert {"torchscript", "onnx", "pt2"} <= FORMATS.keys()
    assert len({format.suffix for format in FORMATS.values()}) == len(FORMATS)


def test_a_format_that_lacks_a_package_says_what_to_install(monkeypatch):
    lacking = dataclasses.replace(FORMATS["pt2"], name="lacking", needs=("torch", "not_installed"))
    monkeypatch.setitem(FORMATS, "lacking", lacking)
    with pytest.raises(ConfigError, match=r"export\.format=lacking.*pip install not_installed"):
        formats.get("lacking")


def test_a_registered_format_is_saved_and_loaded(net, meta, tmp_path, monkeypatch):
    def write(model, metadata, path):
        torch.save({"metadata": metadata.to_json(), "weights": model.backbone.state_dict()}, path)

    def read(path):
        return Metadata.from_json(torch.load(path)["metadata"])

    def load(path, metadata, device, raw, threads):
        net.load_state_dict(torch.load(path)["weights"])
        return InferenceModel(net, metadata).eval()

    monkeypatch.setitem(FORMATS, "weights", formats.Format("weights", ".pth", write, load, read))
    loaded = artifact.load(artifact.save(net, meta, tmp_path / "m.pth", "weights"))
    assert loaded.metadata == meta
    assert loaded(golden_images(1, 24)).shape == (5, 3)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_plain_torch_jit_load_runs_a_torchscript_file(model):
    images = golden_images(3, 40)
    with torch.no_grad():
        probabilities = torch.jit.load(str(model))(images)
    assert torch.allclose(probabilities, artifact.load(model)(images), atol=1e-5)


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_from_elsewhere_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(Foreign()), str(tmp_path / "foreign.ts"))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    with pytest.raises(ArtifactError, match=r"not an artifact.*python -m fer\.artifact"):
        artifact.load(tmp_path / "foreign.ts")


def test_pt2_has_the_same_metadata_and_probabilities(net, meta, tmp_path):
    path = artifact.save(net, meta, tmp_path / "m.pt2", "pt2")
    extra = {"metadata.json": ""}
    program = torch.export.load(str(path), extra_files=extra).module()
    assert Metadata.from_json(extra["metadata.json"]) == meta
    images = golden_images(3, 33, 3)
    with torch.no_grad():
        assert torch.allclose(program(images), InferenceModel(net, meta).eval()(images), atol=1e-5)
    with pytest.raises(ArtifactError, match=r"for other programs; give the \.ts"):
        artifact.load(path)


def test_onnx_returns_what_torchscript_does(onnx_model, model, meta):
    scripted, loaded = artifact.load(model), artifact.load(onnx_model)
    assert loaded.metadata == artifact.read_metadata(onnx_model) == meta
    assert b"stack_trace" not in onnx_model.read_bytes()  # PyTorch's own notes, with paths of source files
    for shape in ((4, 3, 90, 61), (1, 1, 7, 5), (2, 3, 24, 24), (0, 3, 9, 9)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert torch.allclose(loaded(images), scripted(images), atol=1e-5)
    images = golden_images(1, 24)
    raw = artifact.load(model, raw=True)(images)
    assert torch.allclose(artifact.load(onnx_model, raw=True)(images), raw, atol=1e-5)


def test_torchscript_names_no_source_file(model):
    with zipfile.ZipFile(model) as archive:
        names = archive.namelist()
        assert not [name for name in names if str(ROOT).encode() in archive.read(name)]
    assert len(names) == len(set(names)) and any(name.endswith("/version") for name in names)


def test_arrays_give_arrays_and_tensors_give_tensors(onnx_model, model):
    for path in (onnx_model, model):
        loaded, images = artifact.load(path), golden_images(3, 30)
        probabilities = loaded(images.numpy())
        assert (type(probabilities), probabilities.dtype) == (np.ndarray, np.float32)
        assert np.array_equal(probabilities, loaded(images).numpy())
        mirrored = images.numpy()[..., ::-1]
        mirrored.flags.writeable = False
        assert np.array_equal(loaded(mirrored), loaded(images.flip(3)).numpy())


def test_onnx_runs_without_pytorch(onnx_model):
    code = f"""
import sys
from fer import artifact
loaded = artifact.load({str(onnx_model)!r}, "auto", threads=1)
print(loaded(artifact.golden_batch(1, 24)).shape, "torch" in sys.modules)
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.stdout == "(5, 3) False\n", completed.stderr


def test_devices_of_onnx_are_those_of_onnx_runtime(onnx_model, monkeypatch):
    on_the_cpu, open_session = ["CPUExecutionProvider"], ort.onnxruntime.InferenceSession

    def fallback(model, options, **_):  # as ONNX Runtime does where it cannot use the GPU
        return open_session(model, options, on_the_cpu)

    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", fallback)
    for gpu, device, message in (
        (False, "cuda:1", "has no CUDA; use device=cpu, or install onnxruntime-gpu"),
        (True, "cuda:1", "device=cuda:1: ONNX Runtime finds no such GPU; use device=cpu or device=auto"),
        (False, "gpu", "device=gpu is unknown; choose auto, cpu, cuda or cuda:1"),
        (False, None, "device=None is unknown"),
    ):
        monkeypatch.setattr(ort, "gpu", lambda gpu=gpu: gpu)
        with pytest.raises(ConfigError, match=message):
            artifact.load(onnx_model, device)
    assert artifact.load(onnx_model, "auto")(golden_images(1, 24)).shape == (5, 3)


def edited_onnx(onnx_model, path, edit):
    import onnx

    proto = onnx.load(str(onnx_model))
    edit(proto)
    onnx.save(proto, str(path))
    return path


def test_onnx_files_from_elsewhere_are_refused(onnx_model, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(onnx_model.read_bytes()[:3000])
    edited_onnx(onnx_model, tmp_path / "foreign.onnx", lambda proto: proto.ClearField("metadata_props"))
    for name, reason in (("torn", "cannot be used"), ("foreign", "not an artifact"), ("absent", "no model")):
        for reader in (artifact.load, artifact.read_metadata):
            with pytest.raises(ArtifactError, match=reason) as error:
                reader(tmp_path / f"{name}.onnx")
            assert "\n" not in str(error.value)


def test_onnx_that_does_not_return_what_it_says_is_refused(onnx_model, tmp_path):
    def other_shape(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 17

    def other_classes(proto):
        values = json.loads(proto.metadata_props[0].value) | {"classes": ["a", "b"]}
        proto.metadata_props[0].value = json.dumps(values)

    for edit, reason in ((other_shape, "cannot be used"), (other_classes, "probabilities of its 2 classes")):
        with pytest.raises(ArtifactError, match=reason) as error:
            artifact.load(edited_onnx(onnx_model, tmp_path / "m.onnx", edit))
        assert "\n" not in str(error.value)


def test_onnx_says_what_it_cannot_do(onnx_model, net, meta, tmp_path):
    with pytest.raises(ArtifactError, match=r"give the \.ts or the checkpoint"):
        artifact.backbone_weights(onnx_model)
    flipped = artifact.save(net, dataclasses.replace(meta, flip=True), tmp_path / "m.onnx", "onnx")
    with pytest.raises(ArtifactError, match="flip=false"):
        artifact.load(flipped, raw=True)
