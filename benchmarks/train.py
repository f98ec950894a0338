"""How fast the training half is, as ratios within one run; docs/speed.md comes from here.

    python benchmarks/train.py loader     images a second of each augmentation, against bare albumentations, ImageFolder
    python benchmarks/train.py training   real training against the same loop over one batch in memory
    python benchmarks/train.py overhead   a step of train.py against a bare loop: a tiny network, one batch
    python benchmarks/train.py start      from process start to the first optimiser step, and the first parse of the CSV
    python benchmarks/train.py memory     resident memory and time at 1, 3 and 10 times the data of FER-2013
    python benchmarks/train.py artifact   the artifact against the bare network

Images are of random numbers, as many and as large as those of FER-2013: how fast they are does not depend on what they
show, and nothing has to be fetched.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from timm.optim import param_groups_weight_decay
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer import artifact, models
from fer.data import cache, fer2013
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.labels import EMOTIONS
from fer.models.classifier import EmotionClassifier
from fer.train import run as experiment
from fer.train.callbacks import Compile, FiniteWeights, History
from fer.train.trainer import build

COUNTS = {"train": 28_709, "val": 3_589, "test": 3_589}
PIPELINES = ("none", "light", "standard", "camera")


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["logger=csv", "callbacks.progress=null", *overrides])


def pipeline(name: str) -> Any:
    return instantiate(config(f"augment={name}").augment.pipeline, _convert_="all")


def split(rows: int, seed: int = 0) -> Split:
    """Random images and labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, 48, 48), dtype=np.uint8)
    return Split(images, rng.integers(0, len(EMOTIONS), rows), EMOTIONS)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def paired(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Median seconds of two calls that take turns, and the median of the ratios of the first to the second."""
    one(), other()
    times = [(seconds(one), seconds(other)) for _ in range(rounds)]
    return *(statistics.median(column) for column in zip(*times, strict=True)), statistics.median(
        a / b for a, b in times
    )


def loader(rounds: int, rows: int = 2_000) -> None:
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)  # figures are for one core
    data = split(rows)

    def ours(augment: Any) -> Callable[[], None]:
        module = EmotionDataModule(lambda: {"train": data, "val": data, "test": data}, "random", augment, workers=0)
        module.setup()
        made = module.train_dataloader()

        def epoch() -> None:
            for _ in made:
                pass

        return epoch

    with tempfile.TemporaryDirectory() as folder:
        plain = _image_folder(data, Path(folder))
        a, b, ratio = paired(ours(None), lambda: [None for _ in plain], rounds)
    print("| pipeline | images/s per core | against | its images/s | ratio of times |\n| --- | --- | --- | --- | --- |")
    print(f"| none | {rows / a:,.0f} | ImageFolder over PNG | {rows / b:,.0f} | {ratio:.4f} |", flush=True)
    for name in PIPELINES[1:]:
        augment = pipeline(name)
        bare = [image[..., None] for image in data.images]
        a, b, ratio = paired(ours(pipeline(name)), lambda t=augment, i=bare: [t(image=image) for image in i], rounds)
        print(f"| {name} | {rows / a:,.0f} | bare albumentations | {rows / b:,.0f} | {ratio:.2f} |", flush=True)


def _image_folder(data: Split, folder: Path) -> DataLoader:
    """What people write who have the Kaggle folders."""
    from PIL import Image
    from torchvision import datasets, transforms

    for row, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        (folder / EMOTIONS[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / EMOTIONS[label] / f"{row}.png")
    transform = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])
    return DataLoader(datasets.ImageFolder(str(folder), transform), batch_size=64, shuffle=True)


class _Clock(L.Callback):
    """Images a second of the steps after the first few."""

    WARM = 5

    def __init__(self) -> None:
        self.images, self.start, self.end = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.end = time.perf_counter()
        if batch_idx < self.WARM:
            self.start = self.end
        else:
            self.images += len(batch[1])


class _Same:
    """One batch, so many times; Lightning would take a list for several loaders."""

    def __init__(self, batch: Any, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.batch, self.count)


class _Repeated(EmotionDataModule):
    """The same data module, whose batches are all the first one."""

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()
        return _Same(next(iter(loader)), len(loader))


def training(rounds: int, steps: int, size: int) -> None:
    data = {name: split(count, seed) for seed, (name, count) in enumerate(COUNTS.items())}
    kinds: dict[str, tuple[type[EmotionDataModule], int]] = {
        "one batch in memory": (_Repeated, 0),
        "workers=0": (EmotionDataModule, 0),
        "workers=2": (EmotionDataModule, 2),
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    cfg = config(f"input_size={size}", "progressive=[]", "trainer=cpu", "run_dir=none")
    for _ in range(rounds + 1):
        for name, (kind, workers) in kinds.items():
            module = kind(lambda: dict(data), "random", pipeline("standard"), workers=workers)
            module.setup()
            clock = _Clock()
            model, _ = experiment.classifier(cfg, module)
            trainer = L.Trainer(
                accelerator="cpu",
                precision=cfg.trainer.precision,
                max_steps=steps,
                limit_val_batches=0,
                callbacks=[clock, instantiate(cfg.callbacks.ema)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            trainer.fit(model, module)
            rates[name].append(clock.images / (clock.end - clock.start))
    memory, *loaders = ([*values[1:]] for values in rates.values())  # the first round warms
    print(f"resnet_small at {size} pixels, {statistics.median(memory):.0f} images/s over one batch in memory")
    for name, values in zip([*kinds][1:], loaders, strict=True):
        ratio = statistics.median(a / b for a, b in zip(values, memory, strict=True))
        print(f"{name}: {statistics.median(values):.0f} images/s, {ratio:.3f} of that", flush=True)


class _Blocks(L.Callback):
    """Seconds of a step: the median over blocks of ten steps, each of which has one update of the moving average."""

    WARM, BLOCK = 20, 10

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def seconds(self) -> float:
        ends = self.times[self.WARM :: self.BLOCK]
        return statistics.median(b - a for a, b in itertools.pairwise(ends)) / self.BLOCK


class _Operations(TorchDispatchMode):
    """Counts the operations that are dispatched."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return operation(*args, **(kwargs or {}))


def _tiny(*overrides: str) -> tuple[DictConfig, EmotionDataModule, EmotionClassifier]:
    cfg = config("model.widths=[4,8,8]", "data.size=16", "progressive=[]", "trainer=cpu", "run_dir=none", *overrides)
    few = {name: split(64 * 1000 if name == "train" else 64) for name in COUNTS}
    few = {name: replace(s, images=np.ascontiguousarray(s.images[:, 16:32, 16:32])) for name, s in few.items()}
    module = _Repeated(lambda: dict(few), "random", batch_size=cfg.data.batch_size, workers=0)
    module.setup()
    return cfg, module, experiment.classifier(cfg, module)[0]


def _train_py(steps: int, *overrides: str) -> float:
    """Train as train.py does it: with its callbacks, its CSV and its progress bar."""
    with tempfile.TemporaryDirectory() as folder:
        cfg, module, model = _tiny(f"+trainer.max_steps={steps}", "+trainer.limit_val_batches=0", *overrides)
        cfg.run_dir = folder
        loggers = [instantiate(node) for node in cfg.logger.values()]
        blocks = _Blocks()
        build(cfg, [History(), FiniteWeights(), Compile(cfg.compile), blocks], loggers).fit(model, module)
    return blocks.seconds()


def _bare(steps: int, *overrides: str) -> float:
    """Forward, loss, zero_grad, backward, clipping, optimiser and scheduler, without a moving average."""
    cfg, module, model = _tiny(*overrides)
    images, labels = next(iter(module.train_dataloader()))
    x, network = model.prepare(images).contiguous(memory_format=torch.channels_last), model.backbone.train()
    optimizer = instantiate(cfg.optimizer, param_groups_weight_decay(network, cfg.optimizer.weight_decay))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=cfg.optimizer.lr, total_steps=steps + 1)
    blocks = _Blocks()
    for _ in range(steps):
        loss = F.cross_entropy(network(x), labels, label_smoothing=cfg.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        schedule.step()
        blocks.on_train_batch_end()
    return blocks.seconds()


def overhead(rounds: int, steps: int) -> None:
    torch.set_num_threads(1)

    def operations(loop: Callable[[int], float], count: int) -> int:
        with _Operations() as counter:
            loop(count)
        return counter.count

    # those before and after the steps cancel
    ours, bare = ((operations(loop, 230) - operations(loop, 130)) / 100 for loop in (_train_py, _bare))
    print(
        f"operations dispatched in a step: {ours:.1f}, in the bare loop {bare:.1f}, ratio {ours / bare:.2f}", flush=True
    )
    for name, overrides in (("defaults", []), ("no moving average", ["callbacks.ema=null"])):
        pairs = [[1000 * loop(steps, *overrides) for loop in (_train_py, _bare)] for _ in range(rounds + 1)][1:]
        ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        more = statistics.median(a - b for a, b in pairs)
        print(f"{name}: {ours:.2f} ms a step, bare loop {bare:.2f} ms, difference {more:.2f} ms", flush=True)


def write_csv(path: Path) -> None:
    """A fer2013.csv of random pixels, as long as the real one."""
    usage = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
    with path.open("w", encoding="utf-8") as file:
        file.write("emotion,pixels,Usage\n")
        for seed, (name, count) in enumerate(COUNTS.items()):
            data = split(count, seed)
            for image, label in zip(data.images, data.labels, strict=True):
                file.write(f"{label},{' '.join(map(str, image.ravel().tolist()))},{usage[name]}\n")


FIRST_STEP = """
import os, time, lightning
class FirstStep(lightning.Callback):
    def on_train_batch_end(self, *_):
        print(time.time(), flush=True)
        os._exit(0)
"""
"""A module with a callback that tells when the first optimiser step was done, and ends the process."""


def start(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_csv(folder / "fer2013.csv")
        size = (folder / "fer2013.csv").stat().st_size / 1e6
        os.environ["FER_CACHE"] = str(folder / "cache")
        took = seconds(lambda: fer2013.read(folder))
        print(f"first parse of a fer2013.csv of {size:.0f} MB: {took:.1f} s", flush=True)
        bare = [sys.executable, "-c", "import time, torch, lightning; print(time.time())"]
        (folder / "first_step.py").write_text(FIRST_STEP)
        switches = ["logger=csv", "callbacks.progress=null", "+callbacks.first._target_=first_step.FirstStep"]
        ours = [sys.executable, str(ROOT / "train.py"), f"data.root={folder}", *switches, f"hydra.run.dir={folder}/run"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([name, os.environ.get("PYTHONPATH", "")])}
        beyond = []
        for _ in range(rounds + 1):
            took_each = []
            for command in (bare, ours):
                begin = time.time()
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                took_each.append(float(answer.stdout.split()[-1]) - begin)
            beyond.append((took_each[1] - took_each[0], took_each[0]))
        times = [statistics.median(column) for column in zip(*beyond[1:], strict=True)]
        print(f"start to the first optimiser step, warm cache: {times[0]:.1f} s beyond the {times[1]:.1f} s of "
              "importing torch and lightning")  # fmt: skip


def pss() -> dict[str, float]:
    """Megabytes that this process and its children hold: their own memory, and their shares of mapped files."""
    memory_used = {"own": 0.0, "files": 0.0}
    fields = {"Pss_Anon:": "own", "Pss_Shmem:": "own", "Pss_File:": "files"}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for process in [str(os.getpid()), *children]:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            key, *rest = line.split()
            if key in fields:
                memory_used[fields[key]] += int(rest[0]) / 1024
    return memory_used


def grown(times: int, workers: int) -> None:
    """One epoch over `times` the data of FER-2013, from the cache as a reader gives it; a process of its own."""
    key = f"benchmark-{times}"

    def made() -> dict[str, Split]:
        one, few = split(COUNTS["train"]), split(64)
        train = Split(np.tile(one.images, (times, 1, 1)), np.tile(one.labels, times), EMOTIONS)
        return {"train": train, "val": few, "test": few}

    cache.cached(key, made, [])
    before = pss()
    module = EmotionDataModule(lambda: cache.cached(key, dict, []), "random", None, workers=workers)
    begin = time.perf_counter()
    module.setup()
    module.statistics()
    ready = time.perf_counter()
    loader = module.train_dataloader()
    for batch in loader:
        assert len(batch[1])
    end = time.perf_counter()
    after = pss()
    copy = module.splits["train"].images.nbytes / 2**20
    own, files = (after[key] - before[key] for key in ("own", "files"))
    print(f"| {times} | {copy:.0f} | {workers} | {own:.0f} | {files:.0f} | {ready - begin:.2f} | {end - ready:.2f} |")


def memory() -> None:
    print("| times FER-2013 | one copy, MB | workers | own memory, MB more | mapped file, MB more | to be ready, s | "
          "an epoch, s |\n" + "| --- " * 7 + "|", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 3, 10):
            for workers in (0, 2, 4):
                subprocess.run(
                    [sys.executable, __file__, "grown", str(times), str(workers)],
                    check=True,
                    env=os.environ | {"FER_CACHE": folder},
                )


def artifacts(rounds: int) -> None:
    torch.set_num_threads(2)
    loaded = artifact.load()
    metadata = loaded.metadata
    backbone = models.create(classes=len(metadata.classes), channels=metadata.channels, **metadata.config["model"])
    backbone.load_state_dict(artifact.backbone_weights(artifact.BUNDLED))
    backbone.eval()
    for count in (1, 32):
        images = artifact.golden_batch(1, metadata.input_size, count)
        ready = torch.randn(images.shape)

        def bare(ready: torch.Tensor = ready) -> None:
            with torch.inference_mode():
                backbone(ready)

        a, b, ratio = paired(
            lambda images=images: [loaded(images) for _ in range(20)],
            lambda bare=bare: [bare() for _ in range(20)],
            rounds,
        )
        print(f"{count} faces: {a * 50:.2f} ms, the bare network {b * 50:.2f} ms, ratio {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=48)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("loader", "training", "overhead", "start", "memory", "artifact"):
        commands.add_parser(name)
    one = commands.add_parser("grown")
    one.add_argument("times", type=int)
    one.add_argument("workers", type=int)
    given = parser.parse_args()
    {
        "loader": lambda: loader(given.rounds),
        "training": lambda: training(given.rounds, given.steps, given.size),
        "overhead": lambda: overhead(given.rounds, 5 * given.steps),
        "start": lambda: start(given.rounds),
        "memory": memory,
        "artifact": lambda: artifacts(given.rounds),
        "grown": lambda: grown(given.times, given.workers),
    }[given.command]()


if __name__ == "__main__":
    main()
