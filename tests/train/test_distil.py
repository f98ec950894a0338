import copy
from collections import Counter

import lightning as L
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from samples import golden_images, operations, small_classifier, tiny

from fer import artifact, config
from fer.artifact import Metadata, trust
from fer.artifact.export import export
from fer.data import synthetic
from fer.data.base import Split
from fer.errors import ArtifactError, ConfigError, DataError
from fer.models import create
from fer.models.checkpoints import read
from fer.train import distil

CLASSES = ("a", "b", "c")
ROWS = np.full((6, 3), 1 / 3)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two untrained artifacts."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed in (0, 1):
        torch.manual_seed(seed)
        backbone = create("resnet_small", 3, 1, widths=[8, 16], depths=[1, 1])
        meta = Metadata(classes=CLASSES, channels=1, input_size=48, mean=(0.5,), std=(0.25,))
        artifact.save(backbone, meta, folder / f"{seed}.ts")
    return [str(folder / f"{seed}.ts") for seed in (0, 1)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two untrained checkpoints, of grey and of RGB images, the first with a second head; with their artifacts."""
    folder = tmp_path_factory.mktemp("checkpoints")
    grey = {"target_distribution": {"use": "auxiliary", "weight": 1.0}, "input_size": 16}
    rgb = {"channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1], "input_size": 20}
    for seed, (name, options) in enumerate({"grey": grey, "rgb": rgb}.items()):
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(small_classifier(seed, **options))
        trainer.save_checkpoint(folder / f"{name}.ckpt")
        export(folder / f"{name}.ckpt", folder / f"{name}.ts", temperature=1.0)
    return {path.name: str(path) for path in folder.iterdir()}


def split_of(images, targets=None):
    return Split(images, np.arange(len(images), dtype=np.int64) % 3, CLASSES, targets)


def test_teachers_answer_with_their_mean(paths):
    images = golden_images(1, 48)
    alone = [artifact.load(path)(images) for path in paths]
    assert torch.allclose(distil.teachers(paths, CLASSES)(images), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(*alone, atol=1e-3)


@pytest.mark.parametrize("name", ["grey", "rgb"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkpoint_answers_as_its_artifact_does(name, channels, checkpoints):
    images = golden_images(channels, 16)
    wanted = artifact.load(checkpoints[f"{name}.ts"])(images)
    answer = distil.teachers([checkpoints[f"{name}.ckpt"]], CLASSES)(images)
    assert torch.allclose(answer, wanted, atol=1e-5)
    assert answer.dtype == torch.float32 and not answer.requires_grad


def test_checkpoints_and_artifacts_teach_together(checkpoints, paths):
    files, images = [checkpoints["grey.ckpt"], paths[0], checkpoints["rgb.ckpt"]], golden_images(1, 16)
    alone = [distil.teachers([path], CLASSES)(images) for path in files]
    assert torch.allclose(distil.teachers(files, CLASSES)(images), torch.stack(alone).mean(0), atol=1e-6)


def test_a_checkpoint_needs_no_trust(checkpoints, paths, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    trust.accept([checkpoints["grey.ckpt"]])
    assert not (tmp_path / "trusted.txt").exists()
    images = golden_images(1, 16)
    distil.teachers([checkpoints["grey.ckpt"]], CLASSES)(images)


def test_a_file_that_is_not_trusted_is_refused_before_the_first_step(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    with pytest.raises(ArtifactError, match=r"1\.ts .*trust=true"):
        distil.teachers([paths[1]], CLASSES)


@pytest.mark.parametrize("names", [["grey.ckpt"], ["rgb.ts"], ["rgb.ts", "grey.ckpt"]])
def test_teachers_with_classes_in_another_order_answer_in_the_order_of_the_student(names, checkpoints):
    files, images = [checkpoints[name] for name in names], golden_images(1, 16)
    expected = distil.teachers(files, CLASSES)(images)
    assert torch.equal(distil.teachers(files, ("C", "a", "b"))(images), expected[:, [2, 0, 1]])


def test_teachers_are_no_part_of_the_classifier_that_they_teach(checkpoints):
    model = small_classifier()
    names, parameters = set(model.state_dict()), len(list(model.parameters()))
    teachers = distil.teachers([checkpoints["grey.ckpt"]], CLASSES)
    model.distil(teachers, 0.5)
    for copied in (model, copy.deepcopy(model)):
        assert copied.teachers is teachers
        assert set(copied.state_dict()) == names
        assert len(list(copied.parameters())) == parameters


def test_only_the_student_gets_gradients(checkpoints):
    model, images = small_classifier(input_size=16), golden_images(1, 16)
    model.distil(distil.teachers([checkpoints["grey.ckpt"]], CLASSES), 1.0)
    targets = model._targets(images, torch.arange(5) % 3)
    model._loss(model._heads(model.prepare(images)), targets).backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    assert not any(parameter.requires_grad for parameter in model.teachers._networks.parameters())


@pytest.mark.parametrize("names", [["grey.ckpt"], ["rgb.ts"], ["grey.ckpt", "rgb.ts"]])
def test_answers_are_float32_in_the_mixed_precision_of_a_step(names, checkpoints):
    teachers, images = distil.teachers([checkpoints[name] for name in names], CLASSES), golden_images(1, 16)
    wanted = teachers(images)
    with torch.autocast("cpu", torch.bfloat16):
        answer = teachers(images)
    assert answer.dtype == torch.float32
    assert torch.allclose(answer, wanted, atol=0.02)
    if names == ["grey.ckpt"]:  # its network ran in bfloat16, its softmax did not
        assert not torch.equal(answer, wanted)
        assert not torch.equal(answer, answer.bfloat16().float())


def test_several_teachers_cost_their_forward_passes_and_one_mean(checkpoints):
    images = golden_images(1, 16)
    teachers = distil.teachers([checkpoints["grey.ckpt"], checkpoints["rgb.ckpt"]], CLASSES)
    with torch.no_grad():
        passes = sum((operations(network, images) for network in teachers._networks), Counter())
        assert operations(teachers, images) - passes == {"stack": 1, "mean": 1}


def test_answers_never_leave_the_device_of_the_images(checkpoints, monkeypatch):
    teachers, images = distil.teachers([checkpoints["grey.ckpt"], checkpoints["rgb.ts"]], CLASSES), golden_images(1, 16)
    wanted = teachers(images)  # loads them
    for name in ("cpu", "numpy", "item", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, None)
    assert torch.equal(teachers(images), wanted)


def test_networks_of_checkpoints_are_compiled_together_with_the_given_options(checkpoints, monkeypatch):
    compiled = []

    def compile(function, **options):
        compiled.append(options)
        return lambda *args: [answer * 0 for answer in function(*args)]

    monkeypatch.setattr(torch, "compile", compile)
    teachers = distil.teachers([checkpoints["grey.ckpt"], checkpoints["rgb.ckpt"]], CLASSES)
    teachers.compile(mode="reduce-overhead")
    assert not teachers(golden_images(1, 16)).any()
    assert compiled == [{"mode": "reduce-overhead"}]


def test_a_checkpoint_and_an_artifact_teach_a_run_whose_checkpoints_do_not_grow(finished, tmp_path):
    best = finished / "checkpoints" / "best.ckpt"
    metrics = tiny(tmp_path, f"distillation.teachers=['{best}','{finished / 'model.ts'}']", "evaluate.test=false")
    assert metrics["val/accuracy"] >= 0
    for name in ("best.ckpt", "last.ckpt"):
        content = read(tmp_path / "checkpoints" / name)
        assert content["state_dict"].keys() == read(best)["state_dict"].keys()
        assert "teacher" not in str(content["callbacks"])


def test_other_classes_and_other_files_are_refused(paths, checkpoints, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.ts knows a, b, c; the data has a, c, d"):
        distil.teachers(paths, ("a", "c", "d"))
    with pytest.raises(ConfigError, match=r"soft\.npz .*distillation\.images=original"):
        distil.teachers(["soft.npz"], CLASSES)
    for name in ("nowhere.ts", "nowhere.ckpt"):
        with pytest.raises(ArtifactError, match=name):
            distil.teachers([str(tmp_path / name)], CLASSES)
    with pytest.raises(ConfigError, match=r"grey\.ckpt knows a, b, c; the data has a, b"):
        distil.teachers([checkpoints["grey.ckpt"]], ("a", "b"))


def test_soft_labels_are_the_mean_over_originals_and_mirror_images(paths, checkpoints):
    images, files = golden_images(1, 48, 300), [*paths, checkpoints["rgb.ckpt"]]
    teachers = distil.teachers(files, CLASSES)
    wanted = (teachers(images) + teachers(images.flip(3))) / 2
    assert np.allclose(distil.soft_labels(files, split_of(images[:, 0].numpy())), wanted.numpy(), atol=1e-5)


def test_written_soft_labels_are_read_back_for_the_same_images_only(paths, tmp_path):
    split, path = split_of(golden_images(1, 48, 6)[:, 0].numpy()), str(tmp_path / "new" / "soft.npz")
    probabilities = distil.soft_labels(paths, split)
    distil.write(path, probabilities, split)
    again = distil.soft_labels([path], split)
    assert np.allclose(again, probabilities, atol=1e-3)
    assert np.allclose(again.sum(1), 1)
    assert np.allclose(distil.soft_labels([path, path], split), again)
    with pytest.raises(ConfigError, match="other images"):
        distil.soft_labels([path], split_of(split.images[::-1]))


def test_damaged_and_missing_soft_labels_are_one_line(tmp_path):
    split = split_of(np.zeros((6, 48, 48), np.uint8))
    distil.write(tmp_path / "whole.npz", ROWS, split)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    for name in ("torn.npz", "foreign.npz", "array.npz", "nowhere.npz"):
        with pytest.raises(ArtifactError, match=f"{name} contains no soft labels") as caught:
            distil.soft_labels([str(tmp_path / name)], split)
        assert "\n" not in str(caught.value)


def test_labels_target_distributions_and_soft_labels_are_mixed():
    images = np.zeros((6, 48, 48), np.uint8)
    votes, soft = ROWS.astype(np.float32), np.tile(np.float32([0.5, 0.25, 0.25]), (6, 1))
    plain = distil.mix(split_of(images), soft, 0.75, {"use": "mixed", "weight": 0.5})
    assert np.allclose(plain.targets, 0.25 * np.eye(3)[plain.labels] + 0.75 * soft)
    mixed = distil.mix(split_of(images, votes), soft, 0.5, {"use": "mixed", "weight": 1})
    assert np.allclose(mixed.targets, 0.5 * votes + 0.5 * soft)


def test_target_distributions_of_a_second_head_stay_beside_soft_labels():
    votes, soft = ROWS.astype(np.float32), np.tile(np.float32([0.5, 0.25, 0.25]), (6, 1))
    split = split_of(np.zeros((6, 48, 48), np.uint8), votes)
    both = distil.mix(split, soft, 0.75, {"use": "auxiliary", "weight": 2.0})
    assert np.allclose(both.targets, np.concatenate([0.25 * np.eye(3)[both.labels] + 0.75 * soft, votes], 1))
    assert both.only(np.arange(6) < 2).targets.shape == (2, 6)


@pytest.fixture
def cfg(tmp_path):
    reader = {"_target_": "fer.data.synthetic.read", "_partial_": True, "train": 14, "val": 7, "test": 7}
    return OmegaConf.create(
        {
            "teachers": ["bundled"],
            "trust": False,
            "device": "cpu",
            "out": str(tmp_path / "soft.npz"),
            "data": {"reader": reader},
        }
    )


@pytest.mark.parametrize("teachers", [["bundled"], "bundled"])
def test_the_program_writes_soft_labels_of_the_training_images(teachers, cfg, capsys):
    cfg.teachers = teachers
    distil.run(cfg)
    assert "soft.npz: 14 images" in capsys.readouterr().err
    with np.load(cfg.out) as file:
        assert file["probabilities"].shape == (14, 7)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("teachers", [], "teachers= is empty"),
        ("teachers", None, "teachers= is empty"),
        ("teachers", [3], "teachers=3 must be a path"),
        ("out", "soft.txt", r"out=soft\.txt must end in \.npz"),
        ("trust", "x", "trust=x is unknown"),
        ("device", "tpu", "device=tpu is unknown; choose auto, cpu or cuda"),
    ],
)
def test_a_wrong_value_of_the_program_is_one_line(key, value, words, cfg):
    cfg[key] = value
    with pytest.raises(ConfigError, match=words):
        distil.run(cfg)


def test_data_without_training_images_is_one_line(cfg, monkeypatch):
    splits = synthetic.read(train=14, val=7, test=7)
    monkeypatch.setattr(config, "reader", lambda _: lambda: {"test": splits["test"]})
    with pytest.raises(DataError, match="has test but no train"):
        distil.run(cfg)
