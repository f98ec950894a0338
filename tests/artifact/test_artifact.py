import dataclasses
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fer import artifact
from fer.artifact import InferenceModel, Metadata, golden_batch, trust
from fer.artifact.formats import onnx as onnx_artifact
from fer.errors import ArtifactError, ConfigError, FerError

ROOT = Path(__file__).parents[2]
META = Metadata(classes=("a", "b", "c"), channels=1, input_size=24, mean=(0.5,), std=(0.25,), temperature=1.7)


def network(channels: int = 1, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    ).eval()


def edited(tmp_path, part, edit) -> str:
    """An artifact in which the one file with `part` at the end of its name is what `edit` makes of its bytes."""
    source = artifact.save(network(), META, tmp_path / "whole.ts")
    target = tmp_path / "edited.ts"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        names = [name for name in old.namelist() if re.search(f"{part}$", name)]
        assert len(names) == 1
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name in names else old.read(name), zipfile.ZIP_STORED)
    return str(target)


def with_metadata(tmp_path, **changes) -> str:
    """An artifact whose metadata has been edited by hand."""

    def edit(data):
        return json.dumps({k: v for k, v in (json.loads(data) | changes).items() if v != "DROP"}).encode()

    return edited(tmp_path, r"extra/metadata\.json", edit)


def test_probabilities_are_softmax_over_temperature_of_the_normalised_image(tmp_path):
    net = network()
    loaded = artifact.load(artifact.save(net, META, tmp_path / "m.ts"))
    images = golden_batch(1, 24)
    with torch.no_grad():
        wanted = torch.softmax(net((images.float() / 255 - 0.5) / 0.25) / 1.7, 1)
    answer = loaded(images)
    assert torch.allclose(answer, wanted, atol=1e-6)
    assert answer.dtype == torch.float32
    assert loaded.metadata == META


def test_any_shape_and_colour(tmp_path):
    loaded = artifact.load(artifact.save(network(), META, tmp_path / "m.ts"))
    for shape in ((4, 3, 90, 61), (1, 1, 7, 5), (2, 3, 24, 24), (0, 3, 9, 9)):
        answer = loaded(torch.randint(0, 256, shape, dtype=torch.uint8))
        assert answer.shape == (shape[0], 3)
        assert torch.allclose(answer.sum(1), torch.ones(shape[0]))


def test_grey_is_opencv_luma(tmp_path):
    loaded = artifact.load(artifact.save(network(), META, tmp_path / "m.ts"))
    rgb = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    grey = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))[None, None]
    assert torch.allclose(loaded(torch.from_numpy(rgb).permute(2, 0, 1)[None]), loaded(grey), atol=0.01)


def test_flip_averages_with_the_mirror_image(tmp_path):
    net = network()
    plain = artifact.load(artifact.save(net, META, tmp_path / "a.ts"))
    both = artifact.load(artifact.save(net, dataclasses.replace(META, flip=True), tmp_path / "b.ts"))
    images = golden_batch(1, 24)
    assert torch.allclose(both(images), (plain(images) + plain(images.flip(3))) / 2, atol=1e-6)


def test_a_model_stored_in_half_the_room_answers_nearly_alike_and_is_left_as_it_was(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 64), nn.ReLU(), nn.Linear(64, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    whole = artifact.save(net, META, tmp_path / "whole.ts")
    half = artifact.save(net, META, tmp_path / "half.ts", half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    images = golden_batch(1, 24)
    answer = artifact.load(half)(images)
    assert torch.allclose(answer, artifact.load(whole)(images), atol=2e-3)
    assert not torch.equal(answer, artifact.load(whole)(images))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(ConfigError, match="half is for TorchScript"):
        artifact.save(net, META, tmp_path / "m.pt2", "pt2", half=True)


def test_a_mean_stored_in_half_the_room_answers_as_its_members_do(tmp_path):
    def wide(seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3), nn.Flatten())
        return nn.Sequential(net, nn.AdaptiveAvgPool1d(64), nn.Linear(64, 3))

    paths = [artifact.save(wide(seed), META, tmp_path / f"{seed}.ts") for seed in (0, 1)]
    whole = artifact.save_ensemble(paths, tmp_path / "whole.ts")
    half = artifact.save_ensemble(paths, tmp_path / "half.ts", half=True)
    assert half.stat().st_size < 0.75 * whole.stat().st_size
    images = golden_batch(3, 40)
    members = (artifact.load(paths[0])(images) + artifact.load(paths[1])(images)) / 2
    assert torch.allclose(artifact.load(half)(images), members, atol=2e-3)
    assert torch.allclose(artifact.load(whole)(images), members, atol=1e-5)


def test_a_mean_with_mirror_images_averages_every_members_answers_to_both(tmp_path):
    paths = [artifact.save(network(), META, tmp_path / f"{name}.ts") for name in "ab"]
    plain = artifact.load(artifact.save_ensemble(paths, tmp_path / "plain.ts", temperature=0.8))
    path = artifact.save_ensemble(paths, tmp_path / "both.ts", temperature=0.8, flip=True)
    both, images = artifact.load(path), golden_batch(1, 24)
    assert both.metadata.flip
    assert torch.allclose(both(images), (plain(images) + plain(images.flip(3))) / 2, atol=1e-6)
    assert not torch.allclose(both(images), plain(images), atol=1e-3)
    once = artifact.load(
        artifact.save_ensemble(paths, tmp_path / "once.ts")
    )  # raw: neither temperature nor mirror image
    assert torch.allclose(artifact.load(path, raw=True)(images), once(images), atol=1e-6)


def test_a_mean_at_several_scales_averages_the_answers_to_cut_and_to_padded_images(tmp_path):
    paths = [artifact.save(network(), META, tmp_path / f"{name}.ts") for name in "ab"]
    plain = artifact.load(artifact.save_ensemble(paths, tmp_path / "plain.ts"))
    path = artifact.save_ensemble(paths, tmp_path / "scales.ts", temperature=0.8, scales=(1.0, 2.0, 0.75))
    scaled, images = artifact.load(path), golden_batch(3, 60)[:, :, :, :36]
    assert scaled.metadata.config["scales"] == [1.0, 2.0, 0.75]
    near, far = images[:, :, 15:-15, 9:-9], F.pad(images.float(), (6, 6, 10, 10), mode="replicate").byte()
    mean = torch.stack([plain(view) for view in (images, near, far)]).mean(0)
    wanted = torch.softmax(mean.log() / 0.8, 1)
    assert torch.allclose(scaled(images), wanted, atol=3e-4)  # a view is rounded to whole grey levels
    assert not torch.allclose(scaled(images), torch.softmax(plain(images).log() / 0.8, 1), atol=1e-3)
    assert torch.allclose(scaled(images)[:1], scaled(images[:1]), atol=1e-6)
    assert scaled(images[:0]).shape == (0, 3)
    both = artifact.load(
        artifact.save_ensemble(paths, tmp_path / "both.ts", temperature=0.8, scales=(1.0, 2.0, 0.75), flip=True)
    )
    assert torch.allclose(both(images), (scaled(images) + scaled(images.flip(3))) / 2, atol=1e-6)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,), (float("nan"),), (5.0,)])
def test_scales_that_are_none_are_refused(scales, tmp_path):
    paths = [artifact.save(network(), META, tmp_path / f"{name}.ts") for name in "ab"]
    with pytest.raises(ConfigError, match=r"scales=\[.*\] must be numbers in 0\.25 … 4"):
        artifact.save_ensemble(paths, tmp_path / "mean.ts", scales=scales)
    assert not (tmp_path / "mean.ts").exists()


def test_colour_networks_take_grey_images(tmp_path):
    meta = dataclasses.replace(META, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    loaded = artifact.load(artifact.save(network(3), meta, tmp_path / "m.ts"))
    grey = golden_batch(1, 30)
    assert torch.allclose(loaded(grey), loaded(grey.expand(-1, 3, -1, -1)), atol=1e-6)


def test_wrong_input_is_refused_inside(tmp_path):
    loaded = artifact.load(artifact.save(network(), META, tmp_path / "m.ts"))
    with pytest.raises(torch.jit.Error, match="expected uint8"):
        loaded(torch.zeros(1, 1, 24, 24))


def test_parity_failure_writes_nothing(tmp_path, monkeypatch):
    class Moody(nn.Module):
        """Predictions otherwise in a trace than in eager mode."""

        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return self.inner(x) * (2.0 if torch.jit.is_tracing() else 1.0)

    with pytest.raises(ArtifactError, match="differs from the model"):
        artifact.save(Moody(), META, tmp_path / "m.ts")
    assert not list(tmp_path.iterdir())


def test_pt2_has_the_same_metadata(tmp_path):
    path = artifact.save(network(), META, tmp_path / "m.pt2", "pt2")
    extra = {"metadata.json": ""}
    program = torch.export.load(str(path), extra_files=extra)
    assert Metadata.from_json(extra["metadata.json"]) == META
    images = golden_batch(3, 33, 3)
    with torch.no_grad():
        assert torch.allclose(program.module()(images), InferenceModel(network(), META).eval()(images), atol=1e-5)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    return artifact.save(network(), META, tmp_path_factory.mktemp("onnx") / "m.onnx", "onnx")


def test_onnx_answers_as_torchscript_does(onnx_file, tmp_path):
    scripted, loaded = artifact.load(artifact.save(network(), META, tmp_path / "m.ts")), artifact.load(onnx_file)
    assert loaded.metadata == artifact.read_metadata(onnx_file) == META
    for shape in ((4, 3, 90, 61), (1, 1, 7, 5), (2, 3, 24, 24), (0, 3, 9, 9)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert torch.allclose(loaded(images), scripted(images), atol=1e-5)
    raw = artifact.load(tmp_path / "m.ts", raw=True)(images := golden_batch(1, 24))
    assert torch.allclose(artifact.load(onnx_file, raw=True)(images), raw, atol=1e-5)
    with pytest.raises(ValueError, match="expected uint8"):
        loaded(torch.zeros(1, 1, 24, 24))


def test_onnx_files_that_are_not_ours_are_refused(onnx_file, tmp_path):
    import onnx

    torn, foreign = tmp_path / "torn.onnx", tmp_path / "foreign.onnx"
    torn.write_bytes(onnx_file.read_bytes()[:3000])
    proto = onnx.load(str(onnx_file))
    del proto.metadata_props[:]
    onnx.save(proto, str(foreign))
    for path, said in ((torn, "not a whole ONNX model"), (foreign, "not one that fer made"), ("none.onnx", "no model")):
        for reader in (artifact.load, artifact.read_metadata):
            with pytest.raises(ArtifactError, match=said):
                reader(path)


def edited_onnx(onnx_file, path, edit):
    import onnx

    proto = onnx.load(str(onnx_file))
    edit(proto)
    onnx.save(proto, str(path))
    return path


def test_onnx_metadata_of_any_size_and_depth_is_one_line(onnx_file, tmp_path):
    for said, data in ENDLESS.items():

        def edit(proto, data=data):
            proto.metadata_props[0].value = data.decode("latin-1")

        with pytest.raises(ArtifactError, match=said):
            artifact.load(edited_onnx(onnx_file, tmp_path / "m.onnx", edit))


def test_onnx_that_does_not_answer_as_it_says_is_refused(onnx_file, tmp_path):
    def other_input(proto):
        proto.graph.input[0].name = "faces"
        for node in proto.graph.node:
            node.input[:] = ["faces" if name == "images" else name for name in node.input]

    def other_shape(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 17

    def other_classes(proto):
        values = json.loads(proto.metadata_props[0].value) | {"classes": ["a", "b"]}
        proto.metadata_props[0].value = json.dumps(values)

    for edit, said in (
        (other_input, "does not answer"),
        (other_shape, "does not answer"),
        (other_classes, "probabilities of its 2 classes"),
    ):
        with pytest.raises(ArtifactError, match=said) as caught:
            artifact.load(edited_onnx(onnx_file, tmp_path / "m.onnx", edit))
        assert "\n" not in str(caught.value)


def test_onnx_says_what_it_cannot_do(onnx_file, tmp_path):
    for use in (artifact.backbone_weights, lambda path: artifact.save_ensemble([path, path], tmp_path / "mean.ts")):
        with pytest.raises(ArtifactError, match=r"give the \.ts or the checkpoint"):
            use(onnx_file)
    both = artifact.save(network(), dataclasses.replace(META, flip=True), tmp_path / "both.onnx", "onnx")
    with pytest.raises(ArtifactError, match="export it with flip=false"):
        artifact.load(both, raw=True)
    if not onnx_artifact.gpu():
        with pytest.raises(ConfigError, match="device=cpu"):
            artifact.load(onnx_file, "cuda")


def test_unknown_format_and_unwritable_place(tmp_path):
    with pytest.raises(ConfigError, match="torchscript, onnx, pt2"):
        artifact.save(network(), META, tmp_path / "m", "tflite")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        artifact.save(network(), META, tmp_path / "file" / "m.ts")


class Trap(nn.Module):
    """A foreign TorchScript file; loading it runs `__setstate__`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_foreign_torchscript_is_refused_before_it_loads(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(Trap()), str(tmp_path / "foreign.ts"))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    with pytest.raises(ArtifactError, match=r"not one that fer made.*python -m fer\.artifact") as caught:
        artifact.load(tmp_path / "foreign.ts")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": "abc"},
        {"channels": 2},
        {"channels": 1.0},
        {"channels": True},
        {"classes": ["a", "b\nc"]},
        {"classes": ["a", "\ud800"]},
        {"macs": 2**64},
        {"mean": [1e300]},
        {"mean": [10**400]},
        {"config": {"model": 3}},
        {"config": {"members": []}},
        {"config": {"members": [[]]}},
        {"data": [[[[[[[["x" * 1000]]]]]]]]},
        {"input_size": "24"},
        {"input_size": 0},
        {"mean": [0.5, 0.5]},
        {"std": [0]},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"flip": 1},
        {"metrics": []},
        {"crop_margin": "DROP"},
        {"surprise": 1},
    ],
)
def test_metadata_is_checked_whole(tmp_path, changes, monkeypatch):
    path = with_metadata(tmp_path, **changes)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    with pytest.raises(ArtifactError, match=next(iter(changes))) as caught:
        artifact.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


ENDLESS = {
    "larger than 4 MB": b" " * 5_000_000 + b"{}",
    "nested too deeply": b'{"a":' * 100_000,
    "no JSON object": b"null",
    "not JSON": b"\xff",
}


@pytest.mark.parametrize("said", ENDLESS)
def test_metadata_of_any_size_and_depth_is_one_line(said, tmp_path):
    path = edited(tmp_path, r"extra/metadata\.json", lambda _: ENDLESS[said])
    for reader in (artifact.load, artifact.read_metadata):
        with pytest.raises(ArtifactError, match=said):
            reader(path)


def test_a_size_that_a_directory_hides_is_found(tmp_path):
    """The directory at the end of a zip may say that a file of many MB is short."""
    path = Path(edited(tmp_path, r"extra/metadata\.json", lambda _: b" " * 5_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(ArtifactError, match=r"edited\.ts"):
        artifact.read_metadata(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("ending", ["ts", "onnx", "pt2"])
def test_what_is_no_file_is_not_waited_for(kind, ending, tmp_path):
    path = tmp_path / f"model.{ending}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for reader in (artifact.load, artifact.read_metadata):
        with pytest.raises(ArtifactError, match="is no regular file"):
            reader(path)


def test_a_file_that_does_not_answer_as_it_says_is_refused(tmp_path):
    path = with_metadata(tmp_path, classes=["a", "b"])
    trust.add(path)
    for use in (artifact.load, lambda path: artifact.save_ensemble([path, path], tmp_path / "mean.ts")):
        with pytest.raises(ArtifactError, match=r"edited\.ts: it does not answer with probabilities of its 2 classes"):
            use(path)


@pytest.mark.parametrize("damage", [b"\xff\xfe\x80", b"", b"class X(Module):\n", b"def ("])
def test_damaged_code_of_a_trusted_file_is_one_line(damage, tmp_path):
    def edit(data):
        place = data.index(b"def forward")
        return data[:place] + damage + data[place + 20 :]

    path = edited(tmp_path, r"fer/artifact.*\.py", edit)
    trust.add(path)
    with pytest.raises(ArtifactError, match=r"edited\.ts: it does not load or run") as caught:
        artifact.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_artifacts(tmp_path):
    whole = artifact.save(network(), META, tmp_path / "m.ts")
    (tmp_path / "cut.ts").write_bytes(whole.read_bytes()[:-300])
    (tmp_path / "text.ts").write_text("hello")
    torch.save({"a": 1}, tmp_path / "pickle.ts")
    for name in ("cut.ts", "text.ts", "pickle.ts", "absent.ts"):
        with pytest.raises(ArtifactError, match=r"python -m fer\.artifact") as caught:
            artifact.load(tmp_path / name)
        assert name in str(caught.value)


def test_command_line_refusals(tmp_path):
    for arguments in (["out=x.ts"], ["checkpoint=absent.ckpt", "out=x.ts"], ["checkpoint=a", "out=b", "size=3"]):
        done = subprocess.run(
            [sys.executable, "-m", "fer.artifact", *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["checkpoint=a\0.ckpt", "out=x.ts"],
        ["checkpoint=a.ckpt", "out=x.ts", "temperature=" + "[" * 10**5],
        ["checkpoint=a.ckpt", "out=x.ts", "crop_margin=" + "9" * 5000],
        ["checkpoint=/dev/zero", "out=x.ts"],
    ],
)
def test_odd_arguments_are_one_line(arguments):
    with pytest.raises(FerError) as caught:
        artifact.main(arguments)
    assert len(str(caught.value)) < 500


def test_a_name_with_nul_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="NUL"):
        artifact.save(network(), META, f"{tmp_path}/a\0.ts")
    with pytest.raises(ConfigError, match="NUL"):
        artifact.load("a\0.ts")
    with pytest.raises(ConfigError, match="unknown"):
        artifact.check_format(["onnx"])


def test_streaming_half_needs_no_training_library():
    code = "import sys, fer.artifact; print([m for m in ('lightning', 'timm', 'wandb') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_name_that_belongs_to_another_format_is_refused(tmp_path):
    for name in ("model.onnx", "best.ckpt", "model"):
        with pytest.raises(ArtifactError, match=r"does not end in \.ts, as torchscript files do; give"):
            artifact.save(network(), META, tmp_path / name)
    with pytest.raises(ArtifactError, match="give format=onnx or out="):
        artifact.save(network(), META, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    artifact.save(network(), META, tmp_path / "m.ts")
    assert artifact.load("~/m.ts").metadata == META
    assert artifact.backbone_weights("~/m.ts").keys() == network().state_dict().keys()


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_full_disk_is_one_line_and_leaves_the_file_before(format, tmp_path):
    path = tmp_path / f"m{artifact.FORMATS[format]}"
    path.write_bytes(b"before")
    code = (
        "import resource, sys; sys.path.insert(0, 'tests'); from test_artifact import *\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(576, 500), nn.Linear(500, 3))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"  # Python ignores the signal of it
        f"try: artifact.save(net, META, {str(path)!r}, {format!r})\n"
        "except ArtifactError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (answer.returncode, answer.stdout) == (0, f"cannot write {path}: File too large; choose another out=\n")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


def test_damaged_bytes_end_in_metadata_or_in_one_line(tmp_path):
    whole = artifact.save(network(), META, tmp_path / "m.ts").read_bytes()
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "damaged.ts", 0
    for k in range(400):
        data = bytearray(whole[: rng.integers(1, len(whole))] if k % 4 == 0 else whole)
        # half of them in the directory at the end, which names and measures everything else
        low = max(0, len(data) - 1500) if k % 2 else 0
        for place in rng.integers(low, len(data), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert artifact.read_metadata(path).classes
        except ArtifactError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 100 < refused < 400
