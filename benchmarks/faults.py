"""What is left after kills, full disks, too little memory, no home, a clock that jumps and a shared cache.

    python benchmarks/faults.py [kills disk memory home clock cache] [--count 20] [--seed 1]

Trains a small network and reads a small film, again and again, each time disturbed at random, then runs the same
command once more and compares what is there with what an undisturbed run leaves: the weights to the last bit, every row
of the log, every frame of the film. One line for each kind of fault; anything else than what was to be is listed under
it, and the exit status is then 1. Disks are small tmpfs mounts, which only root may make.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}

import av
import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer.data import fer2013, synthetic
from fer.labels import EMOTIONS

PATIENCE = 600  # seconds after which a run is called hung
TRAIN = [
    "data=synthetic", "+data.reader.train=112", "+data.reader.val=21", "+data.reader.test=21", "data.batch_size=16",
    "+model={widths:[8,16],depths:[1,1]}", "trainer=cpu", "trainer.max_epochs=4", "threads=1", "logger=csv",
    "callbacks.progress=null", "resume=auto",
]  # fmt: skip


@dataclass
class Tally:
    """What was tried, and what went wrong."""

    tried: int = 0
    notes: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def expect(self, good: bool, what: str) -> None:
        if not good:
            self.defects.append(what)


@dataclass
class Job:
    """A command that ends by itself, and how to tell that what it left is whole."""

    name: str
    command: Callable[[Path], list[str]]
    same: Callable[[Path, Path], bool]

    def start(self, folder: Path, env: Mapping[str, str] | None = None, limit: int | None = None) -> subprocess.Popen:
        def limited() -> None:
            if limit:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        return subprocess.Popen(
            [sys.executable, *self.command(folder)],
            cwd=ROOT,
            env=os.environ if env is None else env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=limited,
        )

    def run(self, folder: Path, **options: object) -> tuple[int, str]:
        """Its status and what it output; -1 where it had to be ended."""
        process = self.start(folder, **options)  # type: ignore[arg-type]
        try:
            output = process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            kill(process)
            return -1, "it hung"
        return process.returncode, output


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def training() -> Job:
    def same(folder: Path, other: Path) -> bool:
        one, two = (
            torch.load(f / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
            for f in (folder, other)
        )
        scores = [
            {k: v for k, v in json.loads((f / "metrics.json").read_text()).items() if not k.startswith("train/")}
            for f in (folder, other)
        ]
        return (
            one.keys() == two.keys()
            and all(torch.equal(one[key], two[key]) for key in one)
            and scores[0] == scores[1]
            and (folder / "model.ts").exists()
        )

    return Job("training", lambda folder: ["train.py", *TRAIN, f"hydra.run.dir='{folder}'"], same)


def inference(film: Path) -> Job:
    def command(folder: Path) -> list[str]:
        keys = [f"source={film}", "view=none", f"save={folder}/out.mp4", f"log={folder}/out.jsonl"]
        return ["infer.py", *keys, "threads=1"]

    def same(folder: Path, other: Path) -> bool:
        logs = [(f / "out.jsonl").read_text() for f in (folder, other)]
        return logs[0] == logs[1] and frames(folder / "out.mp4") == frames(other / "out.mp4")

    return Job("inference", command, same)


def frames(path: Path) -> int:
    with av.open(str(path)) as film:
        return sum(1 for _ in film.decode(video=0))


def draw_film(path: Path, count: int = 240) -> Path:
    """Drawn faces that change their emotions and move."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(count):
            if number % 40 == 0:
                face = synthetic.draw(EMOTIONS[number // 40 % len(EMOTIONS)], rng, 160)
            canvas = np.full((240, 320, 3), 120, np.uint8)
            left = 60 + int(30 * np.sin(number / 20))
            canvas[40:200, left : left + 160] = face[..., None]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def is_clean(output: str) -> bool:
    return "Traceback" not in output and "Segmentation" not in output


def last(output: str) -> str:
    return " ".join(output.split())[-300:]


def kills(job: Job, whole: Path, took: float, count: int, workspace: Path, tally: Tally) -> None:
    """`count` kills, up to five of one run before it may end."""
    while tally.tried < count:
        folder = workspace / f"{job.name}_{tally.tried}"
        folder.mkdir()
        for _ in range(min(5, count - tally.tried)):
            process = job.start(folder)
            time.sleep(random.uniform(0.2, 1.1) * took)
            kill(process)
            tally.tried += 1
        status, output = job.run(folder)
        good = status == 0 and is_clean(output) and job.same(folder, whole)
        tally.expect(good, f"{folder.name}: {status} {last(output)}")


@contextmanager
def disk(workspace: Path, size: int) -> Iterator[Path]:
    workspace.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(workspace)], check=True)
    try:
        yield workspace
    finally:
        subprocess.run(["umount", "-l", str(workspace)], check=True)


def full_disks(job: Job, whole: Path, took: float, count: int, workspace: Path, tally: Tally) -> None:
    """Disks with room for a part of what a run writes, each another part; then there is room."""
    need = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for number in range(count):
        size = max(4096, int(need * 1.2 * number / count))
        with disk(workspace / f"{job.name}_{number}", size) as folder:
            status, output = job.run(folder)
            tally.tried += 1
            full = status != 0
            tally.expect(is_clean(output) and status in (0, 1, 2), f"{size} bytes: {status} {last(output)}")
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
            status, output = job.run(folder)
            good = status == 0 and is_clean(output) and job.same(folder, whole)
            tally.expect(good, f"{size} bytes, then room: {status} {last(output)}")
            tally.notes += ["full"] if full else []


def little_memory(job: Job, whole: Path, took: float, count: int, workspace: Path, tally: Tally) -> None:
    """Address spaces from 0.5 to 8 GB."""
    for number in range(count):
        limit = int(0.5e9 * 16 ** (number / count))
        folder = workspace / f"{job.name}_{number}"
        folder.mkdir()
        status, output = job.run(folder, limit=limit)
        tally.tried += 1
        tally.expect(output != "it hung", f"{limit / 1e9:.1f} GB: it hung")
        tally.notes += [] if status == 0 else ["ended early" if is_clean(output) else "ended with a traceback"]
        status, output = job.run(folder)
        good = status == 0 and is_clean(output) and job.same(folder, whole)
        tally.expect(good, f"{limit / 1e9:.1f} GB, then enough: {status} {last(output)}")


def no_home(job: Job, whole: Path, took: float, count: int, workspace: Path, tally: Tally) -> None:
    """A home that does not exist, one that cannot be written, none at all."""
    for name in ("missing", "read_only", "unset"):
        env = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "FER_CACHE", "FER_TRUST")}
        folder = workspace / f"{job.name}_{name}"
        folder.mkdir()
        with disk(workspace / f"{job.name}_home", 4096) as home:
            subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
            homes = {"missing": "/nonexistent/home", "read_only": str(home)}
            status, output = job.run(folder, env=env | ({"HOME": homes[name]} if name in homes else {}))
        (workspace / f"{job.name}_home").rmdir()
        tally.tried += 1
        good = status == 0 and is_clean(output) and job.same(folder, whole)
        tally.expect(good, f"home {name}: {status} {last(output)}")


CLOCK = """
import time
_now, _start = time.time, time.monotonic()
time.time = lambda: _now() - 86400.0 * int((time.monotonic() - _start) / {every})
"""


def jumping_clock(job: Job, whole: Path, took: float, count: int, workspace: Path, tally: Tally) -> None:
    """The clock goes back by a day, again and again; the second time the run is killed and goes on."""
    for number in range(4):
        folder, site = workspace / f"{job.name}_{number}", workspace / f"{job.name}_site_{number}"
        folder.mkdir()
        site.mkdir()
        (site / "sitecustomize.py").write_text(CLOCK.format(every=took / (4 + number)))
        env = {**os.environ, "PYTHONPATH": str(site)}
        if number % 2:
            process = job.start(folder, env=env)
            time.sleep(random.uniform(0.4, 0.9) * took)
            kill(process)
        status, output = job.run(folder, env=env)
        tally.tried += 1
        good = status == 0 and is_clean(output) and job.same(folder, whole)
        tally.expect(good, f"clock {number}: {status} {last(output)}")


def shared_cache(workspace: Path, tally: Tally) -> None:
    """Two trainings that start at once on a CSV that neither has read before; of every second pair one is killed."""
    rng = np.random.default_rng(0)
    for number in range(5):
        root, env = workspace / f"data_{number}", {**os.environ, "FER_CACHE": str(workspace / f"cache_{number}")}
        root.mkdir()
        with (root / "fer2013.csv").open("w") as file:
            file.write("emotion,pixels,Usage\n")
            for usage, rows in (("Training", 700), ("PublicTest", 70), ("PrivateTest", 70)):
                for row in range(rows):
                    pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
                    file.write(f"{row % 7},{pixels},{usage}\n")
        words = [word for word in TRAIN if not word.startswith(("data=", "+data"))]
        words += ["trainer.max_epochs=1", f"data.root='{root}'"]
        job = Job("pair", lambda f, words=words: ["train.py", *words, f"hydra.run.dir='{f}'"], training().same)
        pair = [workspace / f"pair_{number}_{which}" for which in "ab"]
        running = [job.start(folder, env=env) for folder in pair]
        if number % 2:
            time.sleep(random.uniform(1, 6))
            kill(running.pop())
        for process in running:
            process.communicate()
        ends = [job.run(folder, env=env) for folder in pair]
        tally.tried += 1
        good = all(status == 0 and is_clean(output) for status, output in ends) and job.same(*pair)
        tally.expect(good, f"pair {number}: {[(status, last(output)) for status, output in ends]}")
        os.environ["FER_CACHE"] = env["FER_CACHE"]
        try:
            tally.expect(
                len(fer2013.read(root)["train"].labels) == 700, f"pair {number}: images are missing from the cache"
            )
        finally:
            del os.environ["FER_CACHE"]


KINDS = {"kills": kills, "disk": full_disks, "memory": little_memory, "home": no_home, "clock": jumping_clock}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[], help=f"of {', '.join(KINDS)}, cache; all without any")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random.seed(given.seed)
    kinds, defects = given.kinds or [*KINDS, "cache"], 0

    def report(name: str, tally: Tally) -> int:
        seen = {note: tally.notes.count(note) for note in dict.fromkeys(tally.notes)}
        more = "".join(f", {count} {note}" for note, count in seen.items())
        print(f"{name}: {tally.tried} tried{more}, {len(tally.defects)} defects", flush=True)
        for defect in tally.defects:
            print(f"    {defect}", flush=True)
        return len(tally.defects)

    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        os.environ["FER_TRUST"] = str(workspace / "trusted.txt")
        os.environ["FER_CACHE"] = str(workspace / "cache")
        for job in (training(), inference(draw_film(workspace / "film.mp4"))):
            if not set(kinds) & set(KINDS):
                break
            whole = workspace / f"{job.name}_whole"
            whole.mkdir()
            begin = time.monotonic()
            status, output = job.run(whole)
            if status:
                sys.exit(f"{job.name} does not even run undisturbed: {output}")
            took = time.monotonic() - begin
            for kind in (kind for kind in KINDS if kind in kinds):
                tally = Tally()
                (workspace / f"{job.name}_{kind}").mkdir()
                KINDS[kind](job, whole, took, given.count, workspace / f"{job.name}_{kind}", tally)
                defects += report(f"{kind} of {job.name}", tally)
        if "cache" in kinds:
            tally = Tally()
            (workspace / "shared").mkdir()
            shared_cache(workspace / "shared", tally)
            defects += report("two runs, one cache", tally)
    return int(defects > 0)


if __name__ == "__main__":
    sys.exit(main())
