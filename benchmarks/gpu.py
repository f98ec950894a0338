"""How fast train.py is on a GPU, against a bare loop on the same card; docs/speed.md has its tables.

    python benchmarks/gpu.py train      images/s by batch size, and of a bare loop: eager, compiled, CUDA graphs
    python benchmarks/gpu.py packed     several trainings side by side on one card
    python benchmarks/gpu.py recipe     experiment=fer2013 on the real data, in FER2013_ROOT or data/fer2013
    python benchmarks/gpu.py profile    where the host's time goes, and the kernels of a step

`--device cpu --rows 512 --steps 3` runs the same on a CPU. All but `recipe` use images of random numbers, as many and
as large as those of FER-2013. Every measurement has a process of its own. Times are taken with the device synchronised:
those of steps after a warm-up, and those of whole epochs with validation, moving average and checkpoints.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import lightning as L
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # this file is also the module of its reader

from fer import models
from fer.data.base import Split
from fer.labels import EMOTIONS
from fer.train import run as experiment

PAGE = ROOT / "docs" / "speed.md"
ROWS = 28_709
WARM = 20
"""Steps before the first that counts."""
READY = "ready\n"

Row = dict[str, float]


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["logger=csv", "callbacks.progress=null", *overrides])


def random_images(rows: int) -> dict[str, Split]:
    """Splits of random images and labels."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 48, 48), dtype=np.uint8)
        return Split(images, rng.integers(0, len(EMOTIONS), count), EMOTIONS)

    return {"train": split(rows), "val": split(max(32, rows // 8)), "test": split(32)}


def overrides_of(given: argparse.Namespace, batch: int, compiled: bool) -> list[str]:
    """Return the overrides of train.py for one measurement of speed: the first of its epochs warms up."""
    steps = max(1, given.rows // batch)
    epochs = 1 + max(2, -(-given.steps // steps))
    return [
        "data=synthetic",
        "data.reader._target_=gpu.random_images",
        f"+data.reader.rows={given.rows}",
        "~data.reader.size",
        f"data.batch_size={batch}",
        f"trainer={'gpu' if given.device == 'cuda' else 'cpu'}",
        f"trainer.max_epochs={epochs}",
        f"compile={bool(compiled)}",
        "progressive=[]",
        "callbacks.early_stopping=null",
        "+trainer.enable_progress_bar=false",
    ]


class Trained(BaseException):
    """The training is over; report and export are not measured."""


class Clock(L.Callback):
    """Images a second after the first epoch, of steps alone and of whole epochs.

    Args:
        begin: Called before the second epoch, such as to wait for others.
        stop: Whether to raise `Trained` at the end.
    """

    def __init__(self, begin: Callable[[], Any] = lambda: None, stop: bool = True) -> None:
        self.begin, self.stop = begin, stop
        self.images = self.step_images = self.epochs = 0
        self.step_seconds = self.warm_up = self.start = self.step_start = self.end = self.ended = 0.0

    def now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_start(self, *_: Any) -> None:
        self.start = self.now()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.epochs += 1
        if self.epochs == 2:
            self.warm_up = self.now() - self.start
            self.begin()
            self.start = self.now()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.epochs < 2:
            return
        self.images += len(batch[1])
        if batch_idx == 0:
            self.step_start = self.now()
        else:
            self.step_images += len(batch[1])
        if batch_idx + 1 == trainer.num_training_batches:
            self.step_seconds += self.now() - self.step_start

    def on_train_end(self, *_: Any) -> None:
        self.end, self.ended = self.now(), time.time()
        if self.stop:
            raise Trained

    def row(self) -> Row:
        epochs = self.images / (self.end - self.start)
        steps = self.step_images / self.step_seconds if self.step_images else epochs  # of one step an epoch
        return {"steps": steps, "epochs": epochs, "warm-up": self.warm_up, "images": self.images, "end": self.ended}


def train(overrides: list[str], clock: Clock, *callbacks: L.Callback) -> Row:
    """Train as train.py does, up to the end of the training, and return the clock's row."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            experiment.run(config(*overrides, f"run_dir='{folder}'"), watchers=[*callbacks, clock])
        except Trained:
            return clock.row()
    raise AssertionError("the training did not come to its end")


def augment(images: torch.Tensor) -> torch.Tensor:
    """Mirror, rotate, scale, shift and light, one draw an image: uint8 (N, 1, H, W) → float32, 0–1."""
    draws = torch.rand(7, len(images), device=images.device) * 2 - 1
    angle, scale, flip = 0.26 * draws[0], 1 + 0.15 * draws[1], draws[2].sign()
    cos, sin, zoomed = angle.cos() / scale, angle.sin() / scale, images.float() / 255
    rows = [torch.stack([cos * flip, -sin, 0.16 * draws[3]], 1), torch.stack([sin * flip, cos, 0.16 * draws[4]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    x = F.grid_sample(zoomed, grid, padding_mode="border", align_corners=False)
    contrast, brightness = 1 + 0.2 * draws[5], 0.2 * draws[6]
    return ((x - 0.5) * contrast.view(-1, 1, 1, 1) + 0.5 + brightness.view(-1, 1, 1, 1)).clamp(0, 1)


def bare(batch: int, kind: str, device: str, rows: int, steps: int) -> Row:
    """Train without a framework: data, augmentation and network on the device, no moving average, no metrics.

    Args:
        batch, rows, steps: Images a step, images in memory, and steps that count.
        kind: "eager", "compiled" or "graphs".
        device: "cuda" or "cpu".
    """
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    split = random_images(rows)["train"]
    images = torch.from_numpy(split.images)[:, None].to(device)
    labels = torch.from_numpy(split.labels).to(device)
    network = models.create(classes=len(EMOTIONS), channels=1, **config().model)
    network = network.to(device, memory_format=torch.channels_last).train()
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    optimizer = torch.optim.SGD(network.parameters(), fused=device == "cuda", **options)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = network(x)
        return F.cross_entropy(logits.float(), y, label_smoothing=0.1)

    loss, augmented = loss_of, augment
    if kind != "eager":
        augmented = torch.compile(augment)
        loss = torch.compile(loss_of, mode="reduce-overhead" if kind == "graphs" else None)

    def step() -> None:
        drawn = torch.randint(rows, (batch,), device=device)
        x = ((augmented(images[drawn]) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        loss(x, labels[drawn]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    warm_up = seconds(min(WARM, steps))
    return {"steps": batch * steps / seconds(steps), "warm-up": warm_up}


def missing(kind: str, device: str) -> str | None:
    """Return why a loop cannot be compiled here, None if it can."""
    if kind == "graphs" and device != "cuda":
        return "needs CUDA"
    if kind != "eager" and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "no C compiler"
    return None


def apart(given: argparse.Namespace, *words: Any) -> subprocess.Popen[str]:
    """Start one measurement in a process of its own, which prints its row as JSON in its last line."""
    options = [f"--{name}={getattr(given, name)}" for name in ("device", "rows", "steps")]
    command = [sys.executable, __file__, *options, *map(str, words)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(max(0.0, given.deadline - time.monotonic()), process.kill)
    timer.daemon = True
    timer.start()
    return process


def finished(process: subprocess.Popen[str]) -> Row | str:
    """Return the row that a process printed, or in a few words why there is none."""
    lines = (process.stdout or io.StringIO()).read().splitlines()
    if status := process.wait():
        return "out of time" if status < 0 else "failed"
    return json.loads(lines[-1])


def cell(value: Row | str, name: str = "steps") -> str:
    return value if isinstance(value, str) else f"{value[name]:,.0f}"


KINDS = {"eager": "bare, eager", "compiled": "bare, compiled", "graphs": "bare, CUDA graphs"}
TRAIN = (
    f"| batch | {' | '.join(KINDS.values())} | train.py, compile=false: steps, whole epochs | "
    "compile=true: steps, whole epochs | its warm-up, s | its steps, of the fastest bare loop |\n" + "| --- " * 8 + "|"
)


def train_table(given: argparse.Namespace) -> list[str]:
    """Measure train.py and the bare loop for every batch size. Each row is printed as soon as it is there."""
    lines = [*TRAIN.splitlines()]
    print(TRAIN, flush=True)
    for batch in given.batches:
        loops = {kind: missing(kind, given.device) or finished(apart(given, "one-bare", batch, kind)) for kind in KINDS}
        ours: dict[bool, Row | str] = {False: finished(apart(given, "one-train", batch, 0))}
        ours[True] = missing("compiled", given.device) or finished(apart(given, "one-train", batch, 1))
        best = max((loop["steps"] for loop in loops.values() if not isinstance(loop, str)), default=0.0)
        last = ours[True]
        share = "" if isinstance(last, str) or not best else f"{last['steps'] / best:.2f}"
        cells = [cell(loop) for loop in loops.values()]
        cells += [", ".join(dict.fromkeys([cell(row), cell(row, "epochs")])) for row in ours.values()]
        lines.append(f"| {' | '.join([str(batch), *cells, cell(last, 'warm-up'), share])} |")
        print(lines[-1], flush=True)
    return lines


def packed_table(given: argparse.Namespace) -> list[str]:
    """Measure trainings side by side, at the default batch size. They wait for each other after their first epochs."""
    lines = ["| trainings at once | images/s of all, by wall time | of one alone |", "| --- | --- | --- |"]
    print("\n".join(lines), flush=True)
    alone = 0.0
    for count in given.counts:
        jobs = [apart(given, "one-packed", given.batches[0], given.compiled) for _ in range(count)]
        ready = [any(line == READY for line in job.stdout or ()) for job in jobs]
        start = time.time()
        for job in jobs:
            if job.stdin:
                job.stdin.close()  # for which they wait
        rows = [finished(job) for job in jobs]
        if not all(ready) or any(isinstance(row, str) for row in rows):
            lines.append(f"| {count} | {next((row for row in rows if isinstance(row, str)), 'failed')} | |")
        else:
            rate = sum(row["images"] for row in rows) / (max(row["end"] for row in rows) - start)
            alone = rate if count == 1 else alone
            lines.append(f"| {count} | {rate:,.0f} | {f'{rate / alone:.2f}' if alone else ''} |")
        print(lines[-1], flush=True)
    return lines


def wait_for_others() -> None:
    print(READY, end="", flush=True)
    sys.stdin.read()


def recipe(given: argparse.Namespace) -> list[str]:
    """Train experiment=fer2013 on the real data, which costs what the recipe costs."""
    root = os.environ.get("FER2013_ROOT", str(ROOT / "data" / "fer2013"))
    if not Path(root).exists():
        raise SystemExit(f"no FER-2013 in {root}; put it there or set FER2013_ROOT")
    trainer = [] if given.device == "cuda" else ["trainer=cpu"]
    clock = Clock(stop=False)
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["experiment=fer2013", "evaluate.test=false", *trainer, *given.overrides]
        cfg = config(*overrides, f"data.root='{root}'", f"run_dir='{folder}'")
        metrics = experiment.run(cfg, watchers=[clock])
    row = clock.row()
    first = clock.images / (clock.epochs - 1) / row["epochs"]  # seconds that an epoch takes without warm-up
    lines = [
        "| epochs | training, s | warm-up of the compiler, s | images/s, whole epochs | PublicTest |",
        "| --- | --- | --- | --- | --- |",
        f"| {clock.epochs} | {clock.end - clock.start + first:.0f} | {max(0.0, row['warm-up'] - first):.0f} | "
        f"{row['epochs']:,.0f} | {100 * metrics['val/accuracy']:.2f} |",
    ]
    print("\n".join(lines))
    return lines


class Kernels(L.Callback):
    """Profile the operations of the second epoch's first steps, without the first."""

    def __init__(self, steps: int) -> None:
        self.steps, self.profile, self.done = steps, torch.profiler.profile(), 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            self.profile.start()
        elif trainer.current_epoch == 1 and self.done < self.steps:
            self.done += 1
            if self.done == self.steps or batch_idx + 1 == trainer.num_training_batches:
                self.profile.stop()
                self.steps = self.done

    def show(self) -> None:
        events = self.profile.key_averages()
        on_gpu = sum(e.count for e in events if e.device_type == torch.autograd.DeviceType.CUDA)
        operations = sum(e.count for e in events if e.key.startswith("aten::"))
        print(events.table(sort_by="self_cpu_time_total", row_limit=25))
        print(f"a step: {operations / self.steps:.0f} operations, {on_gpu / self.steps:.0f} kernels and copies")


class Parts(L.Callback):
    """Print the host's time by hook and part, as Lightning's profiler has it."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        print("\n".join(trainer.profiler.summary().splitlines()[:30]), flush=True)


def profile(given: argparse.Namespace) -> None:
    overrides = overrides_of(given, given.batches[0], given.compiled)
    train([*overrides, "+trainer.profiler=simple"], Clock(), Parts())
    kernels = Kernels(given.steps)
    train(overrides, Clock(), kernels)
    kernels.show()


def write(name: str, lines: list[str], page: Path) -> None:
    """Put a table between its markers in a page, with the day, the card and the versions."""
    begin, end = (f"<!-- benchmarks/gpu.py {name}: {word} -->\n" for word in ("begin", "end"))
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    text = "\n".join([f"{time.strftime('%Y-%m-%d')}, {machine()}:", "", *lines, ""])
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def machine() -> str:
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{card}, {os.cpu_count()} cores, torch {torch.__version__}, CUDA {torch.version.cuda}"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, default=ROWS, help="training images")
    parser.add_argument("--steps", type=int, default=200, help="steps that count, at least")
    parser.add_argument("--minutes", type=float, default=10, help="what is not measured by then is left out")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "packed", "profile"):
        command = commands.add_parser(name)
        command.add_argument(
            "--batches", type=int, nargs="+", default=[64, 256, 512, 1024][: 4 if name == "train" else 1]
        )
        command.add_argument("--compiled", type=int, default=0, help="1: with compile=true; for packed and profile")
        command.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 6, 8], help="for packed")
    commands.add_parser("recipe").add_argument("overrides", nargs="*")
    for name in ("one-bare", "one-train", "one-packed"):
        command = commands.add_parser(name)
        command.add_argument("batch", type=int)
        command.add_argument("kind", type=str)
    given = parser.parse_args(words)
    given.deadline = time.monotonic() + 60 * given.minutes
    return given


def main() -> None:
    given = arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU here; --device cpu --rows 512 --steps 3 shows that this works")
    if given.command == "one-bare":
        print(json.dumps(bare(given.batch, given.kind, given.device, given.rows, given.steps)))
    elif given.command.startswith("one-"):
        clock = Clock(wait_for_others) if given.command == "one-packed" else Clock()
        print(json.dumps(train(overrides_of(given, given.batch, given.kind == "1"), clock)))
    elif given.command == "profile":
        profile(given)
    else:
        print(machine(), flush=True)
        lines = {"train": train_table, "packed": packed_table, "recipe": recipe}[given.command](given)
        if given.device == "cuda":  # figures of a CPU are no figures of this page
            write(given.command, lines, PAGE)


if __name__ == "__main__":
    main()
