import copy

import pytest
import torch

from fer import artifact
from fer.artifact import Metadata, golden_batch
from fer.distil import Teachers
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
