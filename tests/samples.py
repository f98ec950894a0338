"""Small data and small trainings for tests, and where the large data is."""

import csv
import importlib.util
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from fer.artifact.parity import golden_batch
from fer.config import CONF
from fer.data.votes import COLUMNS
from fer.faces.types import Faces
from fer.labels import EMOTIONS
from fer.stream.types import Frame, FrameResult

if TYPE_CHECKING:
    from torch import Tensor

    from fer.models.classifier import EmotionClassifier

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
MEDIA = SHARED / "media"

TINY = [
    "data=synthetic",
    "+data.reader.train=64",
    "+data.reader.val=21",
    "+data.reader.test=21",
    "data.batch_size=16",
    "+model={widths:[8,16],depths:[1,1]}",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "logger=csv",
    "export.onnx=false",
]
"""Overrides of train.py for a training that takes a second."""


def config(*overrides: str, run_dir: Path | None = None) -> DictConfig:
    """Compose conf/train.yaml as train.py does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*overrides, f"run_dir='{run_dir or 'none'}'"])


class Reached(BaseException):
    """Raised in tests in place of a training: it would begin."""


def run_program(words: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Run one of the six programs in this process, as `train.py …`, `infer.py …` or `-m fer.evaluate …` would."""
    program, *arguments = words[1:] if words[0] == "-m" else words
    module = {"train.py": "fer.train", "infer.py": "fer.stream"}.get(program, program)
    if module not in ("fer.train.distil", "fer.data.audit"):
        module += ".__main__"
    GlobalHydra.instance().clear()
    patch.setattr(sys, "argv", [program, *arguments])
    patch.setattr(signal, "signal", lambda *_: None)
    importlib.import_module(module).main()


@contextmanager
def benchmark(name: str) -> Iterator[ModuleType]:
    """benchmarks/<name>.py as a module; `sys.path` and `sys.modules` are restored afterwards."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)  # configs may name its functions
        patch.setattr(sys, "path", sys.path[:])
        spec.loader.exec_module(module)
        yield module


def black_clip(path: Path) -> None:
    """Write a video of five black frames, 64×48, at 25 frames per second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))


def as_a_browser_records(path: Path) -> Path:
    """150 frames in 5 seconds, at uneven times, of which the file does not tell how long they last."""
    times = np.arange(150) * 1000 / 30 + np.random.default_rng(0).integers(0, 30, 150)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # DefaultDuration of Matroska, which becomes Void
    length = data[at + 3] & 0x7F
    path.write_bytes(data[:at] + bytes([0xEC, 0x80 | length + 2]) + bytes(length + 2) + data[at + 4 + length :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].guessed_rate == 1000
    return path


def options(group: str) -> list[str]:
    """Return the names of the options of a config group."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def tiny(run_dir: Path, *overrides: str) -> dict[str, float]:
    """Train for one epoch on a few images and return the metrics of the run."""
    from fer.train import run as experiment

    return experiment.run(config(*TINY, *overrides, run_dir=run_dir))


SMALL = {"name": "resnet_small", "widths": [8, 16], "depths": [1, 1], "drop_rate": 0.0}
"""Arguments of a network of a few thousand parameters."""


def small_classifier(seed: int = 0, **options: Any) -> "EmotionClassifier":
    """Create an untrained classifier of grey images with the classes a, b and c."""
    import torch

    from fer.models.classifier import EmotionClassifier

    torch.manual_seed(seed)
    values = {"model": SMALL, "classes": ["a", "b", "c"], "channels": 1, "input_size": 48, "mean": [0.4], "std": [0.3]}
    return EmotionClassifier(**(values | options))


def golden_images(channels: int, size: int, count: int = 5) -> "Tensor":
    """Return the images of all parity checks as a tensor."""
    import torch

    return torch.from_numpy(golden_batch(channels, size, count))


def operations(function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    """Call a function and count the operations of PyTorch that it dispatches, by name."""
    from torch.utils._python_dispatch import TorchDispatchMode

    counts: Counter[str] = Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            counts[operation.overloadpacket.__name__] += 1
            return operation(*args, **(kwargs or {}))

    with Counting():
        function(*arguments)
    return counts


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


def write_votes(path: Path, rows: list[Row], no_faces: Sequence[int] = ()) -> Path:
    """fer2013new.csv: six taggers agree with each label, and seven more see no face in the rows `no_faces`."""
    names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["Usage", "Image name", *COLUMNS], restval=0)
        writer.writeheader()
        for k, (label, _, usage) in enumerate(rows):
            writer.writerow({"Usage": usage, names[label]: 6, "NF": 7 if k in no_faces else 0})
    return path


def frame_result(
    index: int, faces: int = 1, time: float = 0.0, file: str | None = None, error: str | None = None
) -> FrameResult:
    """A black frame with faces of two classes, "b" with 75 %."""
    side = 0 if error else 4
    frame = Frame(np.zeros((side, side, 3), np.uint8), index, time, file, error)
    boxes = np.array([[0, 0, 2, 2 + i / 2] for i in range(faces)], np.float32).reshape(-1, 4)
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (faces, 1))
    return FrameResult(frame, Faces(boxes, np.full(faces, 0.5, np.float32)), ("a", "b"), probabilities)


def flat(width: int, height: int, red: int = 100) -> np.ndarray:
    """An image of one colour, uint8 (H, W, 3) RGB."""
    return np.full((height, width, 3), (red, 50, 200), np.uint8)


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server on this computer; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def served_folder(folder: Path) -> AbstractContextManager[str]:
    """A web server with the files of a folder."""
    return served(partial(_Files, directory=str(folder)))


def faces_in(folder: Path, per_class: int = 2, classes: Sequence[str] = EMOTIONS) -> Path:
    """Write images of noise into class folders, alike within a class, and return the folder."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(per_class):
            cv2.imwrite(str(folder / name / f"{n}.png"), np.random.default_rng(k).integers(0, 256, (60, 50), np.uint8))
    return folder
