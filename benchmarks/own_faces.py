"""What fine-tuning on a few pictures gains and what it forgets: the table of docs/own_faces.md.

    python benchmarks/own_faces.py --data jaffe_by_person --pictures 5 10 20 --experiments own_faces own_faces_quick

`--data` is a folder <person>/<class>/ or <class>/. Its groups are dealt to train, val and test; of train so many
pictures of each class are kept, and of val a third as many. FER-2013 in FER2013_ROOT or data/fer2013 is rehearsed. With
--votes, the change on PublicTest by the majority of the votes is what is forgotten.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fer import artifact
from fer.data import fer2013, layout, votes
from fer.data.groups import Image, cut
from fer.evaluate.predict import load_models, logits

ROOT = Path(__file__).resolve().parents[1]


def deal(root: Path, pictures: int, seed: int, folder: Path) -> dict[str, int]:
    """Link pictures into `folder`/{train,val,test}/<class>/ and return the number of each split."""
    _, folders = layout.split_folders(root, [])
    images = layout.labelled(root, folders or {"train": root}, [])["train"]
    parts = cut(images, {"val": 0.15, "test": 0.15}, seed, root)
    rng = np.random.default_rng(seed)
    parts["train"] = few(parts["train"], pictures, rng)
    parts["val"] = few(parts["val"], max(2, pictures // 3), rng)
    for split, kept in parts.items():
        for number, image in enumerate(kept):
            link = folder / split / image.label / f"{number:04}{image.path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(image.path.resolve())
    return {split: len(kept) for split, kept in parts.items()}


def few(images: list[Image], each: int, rng: np.random.Generator) -> list[Image]:
    """Return up to `each` images of every class."""
    shuffled = [images[k] for k in rng.permutation(len(images))]
    seen: dict[str, list[Image]] = {}
    for image in shuffled:
        seen.setdefault(image.label, []).append(image)
    return [image for own in seen.values() for image in own[:each]]


def by_votes(model: Path | str, table: Path) -> float:
    """Return the accuracy on PublicTest by the majority of the votes."""
    counts = votes.read(table)
    judged = votes.attach(fer2013.read(), counts, table)["val"].by_majority()
    (loaded,) = load_models([str(model)], "cpu")
    order = [loaded.metadata.classes.index(name) for name in judged.classes]
    return float((logits(loaded.network, judged.images)[:, order].argmax(1) == judged.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--experiments", nargs="+", default=["own_faces", "own_faces_quick"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--votes", type=Path, help="fer2013new.csv")
    parser.add_argument("overrides", nargs="*", help="of train.py, such as threads=1")
    arguments = parser.parse_args()
    start = artifact.find("bundled")
    known = by_votes(start, arguments.votes) if arguments.votes else float("nan")
    for pictures in arguments.pictures:
        for experiment in arguments.experiments:
            rows = []
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as work:
                    data, run = Path(work, "data"), Path(work, "run")
                    deal(arguments.data.resolve(), pictures, seed, data)
                    words = [f"experiment={experiment}", f"data.root={data}", f"hydra.run.dir={run}", f"seed={seed}"]
                    began = time.perf_counter()
                    command = [sys.executable, str(ROOT / "train.py"), *words, "logger=csv", *arguments.overrides]
                    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
                    seconds = time.perf_counter() - began
                    metrics = json.loads((run / "metrics.json").read_text())
                    now = by_votes(run / "model.ts", arguments.votes) if arguments.votes else float("nan")
                    rows.append((metrics["test/accuracy"], now - known, seconds))
            accuracy, forgotten, seconds = np.mean(rows, axis=0)
            low, high = np.min(rows, axis=0)[0], np.max(rows, axis=0)[0]
            print(
                f"{pictures} a class, {experiment}: test {accuracy:.1%} ({low:.1%} to {high:.1%}), "
                f"PublicTest by votes {100 * forgotten:+.1f} points, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
