"""How time and memory grow with the work, as docs/growth.png and two tables: python benchmarks/growth.py

The data of FER-2013 once, three times and ten times, without and with two workers, an epoch of loading each; and films
with 1, 2, 5 and 20 faces in every frame. Each is measured in a process of its own (benchmarks/train.py grown,
benchmarks/stream.py faces). The films need ../shared/media.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
TIMES, WORKERS, FACES = (1, 3, 10), (0, 2), (1, 2, 5, 20)


def row(*command: str, **environment: str) -> list[float]:
    """The figures of a row that another benchmark prints; it is shown too."""
    answer = subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ).stdout
    line = answer.splitlines()[-1]
    print(line, flush=True)
    return [float(cell) for cell in line.strip("| ").split("|")]


def main() -> None:
    print("| times FER-2013 | one copy, MB | workers | own memory, MB more | mapped file, MB more | to be ready, s | "
          "an epoch, s |\n" + "| --- " * 7 + "|", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        data = {
            workers: [row(str(HERE / "train.py"), "grown", str(t), str(workers), FER_CACHE=cache) for t in TIMES]
            for workers in WORKERS
        }
    print("| faces a frame | seen | ms a frame | peak memory, MB |\n" + "| --- " * 4 + "|", flush=True)
    faces = [row(str(HERE / "stream.py"), "faces", "--count", str(n), "--frames", "90") for n in FACES]

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for workers, rows in data.items():
        axes[0, 0].plot(TIMES, [r[6] for r in rows], "o-", label=f"{workers} workers")
        axes[0, 1].plot(TIMES, [r[3] for r in rows], "o-", label=f"own memory, {workers} workers")
    axes[0, 1].plot(TIMES, [r[1] for r in data[0]], "k:", label="one copy of the images")
    axes[0, 0].set(title="an epoch of loading", xlabel="times FER-2013", ylabel="seconds")
    axes[0, 1].set(title="memory beside the mapped cache", xlabel="times FER-2013", ylabel="MB")
    axes[1, 0].plot(FACES, [r[2] for r in faces], "o-", color="tab:green")
    axes[1, 0].set(title="a frame of 1280 × 720", xlabel="faces a frame", ylabel="milliseconds")
    axes[1, 1].plot(FACES, [r[3] for r in faces], "o-", color="tab:green")
    axes[1, 1].set(title="peak memory of the program", xlabel="faces a frame", ylabel="MB")
    for ax in axes.flat:
        ax.set_ylim(0, None)
        ax.grid(alpha=0.3)
    axes[0, 0].legend()
    axes[0, 1].legend()
    figure.savefig(HERE.parent / "docs" / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
