"""Small data that tests make themselves, and where the large data lies."""

import csv
from pathlib import Path

import numpy as np

SHARED = Path(__file__).parents[2] / "shared"
MEDIA = SHARED / "media"

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
