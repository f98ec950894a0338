import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fer import artifact, config
from fer.artifact import Metadata, golden_batch
from fer.data import synthetic
from fer.data.base import Split
from fer.errors import ArtifactError, ConfigError, DataError
from fer.models import create
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


def split_of(images, targets=None):
    return Split(images, np.arange(len(images), dtype=np.int64) % 3, CLASSES, targets)


def test_teachers_answer_with_their_mean(paths):
    images = golden_batch(1, 48)
    alone = [artifact.load(path)(images) for path in paths]
    assert torch.allclose(distil.teachers(paths, CLASSES)(images), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(*alone, atol=1e-3)


def test_other_classes_and_other_files_are_refused(paths, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.ts knows a, b, c; the data has a, c, b"):
        distil.teachers(paths, ("a", "c", "b"))
    with pytest.raises(ConfigError, match=r"soft\.npz .*distillation\.images=original"):
        distil.teachers(["soft.npz"], CLASSES)
    with pytest.raises(ArtifactError, match="nowhere"):
        distil.teachers([str(tmp_path / "nowhere.ts")], CLASSES)


def test_soft_labels_are_the_mean_over_originals_and_mirror_images(paths):
    images = golden_batch(1, 48, 300)
    both = distil.teachers(paths, CLASSES)
    wanted = (both(images) + both(images.flip(3))) / 2
    assert np.allclose(distil.soft_labels(paths, split_of(images[:, 0].numpy())), wanted.numpy(), atol=1e-5)


def test_written_soft_labels_are_read_back_for_the_same_images_only(paths, tmp_path):
    split, path = split_of(golden_batch(1, 48, 6)[:, 0].numpy()), str(tmp_path / "new" / "soft.npz")
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
        {"teachers": ["bundled"], "trust": False, "out": str(tmp_path / "soft.npz"), "data": {"reader": reader}}
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
