import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from fer import artifact
from fer.artifact import Metadata

META = Metadata(classes=("a", "b", "c"), channels=1, input_size=24, mean=(0.5,), std=(0.25,), temperature=1.7)


def network(channels: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).eval()


@pytest.fixture(scope="session")
def meta() -> Metadata:
    return META


@pytest.fixture(scope="session")
def net() -> nn.Module:
    return network()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of `net` and `meta`."""
    return artifact.save(network(), META, tmp_path_factory.mktemp("model") / "m.ts")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two artifacts of different weights and the same classes."""
    folder = tmp_path_factory.mktemp("pair")
    return [artifact.save(network(seed=seed), META, folder / f"{seed}.ts") for seed in (0, 1)]


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of `model` as ONNX."""
    return artifact.save(network(), META, tmp_path_factory.mktemp("onnx") / "m.onnx", "onnx")


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose network sees three channels."""
    meta = dataclasses.replace(META, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    return artifact.save(network(3), meta, tmp_path_factory.mktemp("colour") / "m.ts")
