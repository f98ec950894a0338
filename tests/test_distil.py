import copy

import numpy as np
import pytest
import torch

from fer import artifact
from fer.artifact import Metadata, golden_batch
from fer.data.dataset import Split
from fer.distil import Teachers, taught
from fer.errors import ArtifactError, ConfigError
from fer.models import create

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for seed in (0, 1):
        torch.manual_seed(seed)
        backbone = create("resnet_small", 3, 1, widths=[8, 16], depths=[1, 1])
        meta = Metadata(classes=CLASSES, channels=1, input_size=48, mean=(0.5,), std=(0.25,))
        artifact.save(backbone, meta, folder / f"{seed}.ts")
    return [str(folder / f"{seed}.ts") for seed in (0, 1)]


def test_teachers_answer_with_their_mean(teachers):
    images = golden_batch(1, 48)
    alone = [artifact.load(path)(images) for path in teachers]
    assert torch.allclose(Teachers(teachers, CLASSES)(images), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(*alone, atol=1e-3)


def test_they_are_not_copied_with_a_model(teachers):
    both = Teachers(teachers, CLASSES)
    both(golden_batch(1, 48))
    assert copy.deepcopy(both) is both


def test_other_classes_and_other_files_are_refused(teachers, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.ts knows a, b, c, but the data has a, c, b"):
        Teachers(teachers, ("a", "c", "b"))
    with pytest.raises(ArtifactError, match="nowhere"):
        Teachers([str(tmp_path / "nowhere.ts")], CLASSES)


def _split(images, targets=None):
    labels = np.arange(len(images), dtype=np.int64) % 3
    return Split(images, labels, CLASSES, targets)


def test_taught_mixes_the_labels_with_what_the_teachers_say_of_originals_and_mirror_images(teachers):
    images = golden_batch(1, 48, 300)
    both = Teachers(teachers, CLASSES)
    wanted = (both(images) + both(images.flip(3))) / 2
    split = _split(images[:, 0].numpy())
    found = taught(split, both, 0.75, {"use": "targets", "weight": 0.5})
    labels = np.eye(3, dtype=np.float32)[split.labels]
    assert np.allclose(found.targets, 0.25 * labels + 0.75 * wanted.numpy(), atol=1e-5)
    assert split.targets is None


def test_taught_keeps_the_votes_share(teachers):
    images = golden_batch(1, 48, 6)
    votes = np.full((6, 3), 1 / 3, dtype=np.float32)
    found = taught(
        _split(images[:, 0].numpy(), votes), Teachers(teachers, CLASSES), 0.5, {"use": "targets", "weight": 1}
    )
    alone = taught(_split(images[:, 0].numpy()), Teachers(teachers, CLASSES), 1.0, {"use": "targets", "weight": 1})
    assert np.allclose(found.targets, 0.5 * votes + 0.5 * alone.targets, atol=1e-6)


def test_taught_refuses_a_second_head_and_a_weight_out_of_range(teachers):
    split = _split(golden_batch(1, 48, 6)[:, 0].numpy(), np.full((6, 3), 1 / 3, dtype=np.float32))
    with pytest.raises(ConfigError, match=r"give votes\.use=targets"):
        taught(split, Teachers(teachers, CLASSES), 0.5, {"use": "auxiliary", "weight": 0.5})
    with pytest.raises(ConfigError, match=r"teacher_weight=1\.5"):
        taught(split, Teachers(teachers, CLASSES), 1.5, {"use": "targets", "weight": 0.5})
