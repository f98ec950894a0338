"""One small training that the tests of this folder share."""

from pathlib import Path

import pytest
from samples import config

from fer.train import run as experiment

# 112 images are 7 steps of an epoch; all that is random in a step takes part.
RUN = [
    "data=synthetic",
    "+data.reader.train=112",
    "+data.reader.val=21",
    "+data.reader.test=21",
    "data.batch_size=16",
    "+model={widths:[8,16],depths:[1,1],drop_rate:0.2}",
    "augment=camera",
    "mixup=0.4",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "threads=1",
    "callbacks.progress=null",
]


@pytest.fixture(scope="session")
def overrides() -> list[str]:
    """The command line of the shared training; its loggers are W&B and CSV."""
    return [*RUN, "export.onnx=false"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared training, which is not to be changed."""
    folder = tmp_path_factory.mktemp("run with = in it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        experiment.run(config(*RUN, run_dir=folder))
    return folder
