"""Small data that the tests make themselves, and an environment that touches nothing of the user's."""

import csv
import os
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import numpy as np
import pytest

SHARED = Path(__file__).parent.parent.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason="../shared is not on this machine"))


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("FER2013_ROOT", "WANDB_API_KEY", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


Row = tuple[int, np.ndarray, str]
"""(label, uint8 (48, 48), Usage)"""


def fer_rows(seed: int = 0) -> list[Row]:
    """Three images of each class in Training, two in PublicTest and PrivateTest, in mixed order."""
    rng = np.random.default_rng(seed)
    usages = ["Training"] * 3 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
    rows = [(label, rng.integers(0, 256, (48, 48), dtype=np.uint8), usage) for label in range(7) for usage in usages]
    return [rows[k] for k in rng.permutation(len(rows))]


def write_csv(path: Path, rows: list[Row], icml: bool = False) -> Path:
    """fer2013.csv, or icml_face_data.csv with its other order and its spaces in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", " Usage", " pixels"] if icml else ["emotion", "pixels", "Usage"])
        for label, image, usage in rows:
            text = " ".join(map(str, image.ravel()))
            writer.writerow([label, usage, text] if icml else [label, text, usage])
    return path
