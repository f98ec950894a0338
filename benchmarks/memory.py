"""Peak resident memory of a run with all outputs, against a bare decode and encode of the same film.

    python benchmarks/memory.py [--size 3840x2160] [--frames 120] [--clip ../shared/media/single_face.mp4]

Each measurement is a process of its own, started by one that is small, because a process inherits the peak of the one
that starts it. `plain` decodes and encodes with the settings of the preset, `loaded` does the same after loading the
libraries and models; `own` uses the settings of `save=`, which look less far ahead; `load` only loads libraries.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
OUTPUTS = {"save": "out.mp4", "log": "out.jsonl", "stats": "out.json", "timeline": "out.png", "report": "out.html"}


def peak(*command: object) -> int:
    """Run a Python program and return its peak resident memory in MB."""
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return usage.ru_maxrss // 1024


def make(clip: str, path: str, size: str, frames: str) -> None:
    from stream import make_clip

    width, height = size.split("x")
    make_clip(Path(clip), Path(path), (int(width), int(height)), 5, int(frames))


def encode(path: str, out: str, settings: str) -> None:
    """Decode and encode, with nothing in between."""
    import av

    from fer.stream.queues import room
    from fer.stream.sinks import video

    with av.open(path) as source, av.open(out, "w") as target:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        bytes_of_image = 3 * stream.width * stream.height
        own = {**video.ENCODER, "rc-lookahead": str(room(video.LOOKAHEAD, bytes_of_image))}
        if settings == "loaded":
            load()
        options = own if settings == "own" else {"preset": "veryfast", "crf": "20"}
        encoder = target.add_stream("libx264", rate=30, options=options)
        encoder.width, encoder.height, encoder.pix_fmt = stream.width, stream.height, "yuv420p"
        for frame in source.decode(stream):
            target.mux(encoder.encode(frame.reformat(format="yuv420p")))
        target.mux(encoder.encode(None))


def load() -> None:
    import numpy as np

    from fer.stream import Recognizer

    Recognizer().session()(np.zeros((360, 640, 3), np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT.parent / "shared" / "media" / "single_face.mp4")
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--frames", type=int, default=120)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        film, folder = Path(name) / "film.mp4", Path(name)
        peak(__file__, "make", given.clip, film, given.size, given.frames)
        kinds = ("own", "plain", "loaded")
        own, plain, loaded = (peak(__file__, "encode", film, folder / "bare.mp4", kind) for kind in kinds)
        libraries = peak(__file__, "load")
        outputs = [f"{key}={folder / file}" for key, file in OUTPUTS.items()]
        whole = peak(ROOT / "infer.py", f"source={film}", "view=none", *outputs)
    print(f"{given.size}, {given.frames} frames, peaks in MB")
    print(f"{whole} with all outputs")
    print(f"{plain} decode and encode as the preset does, {loaded} with the libraries and models loaded")
    print(f"{own} decode and encode with the settings of save=")
    print(f"{libraries} libraries and models alone")


if __name__ == "__main__":
    steps = {"make": make, "encode": encode, "load": load}
    if sys.argv[1:] and sys.argv[1] in steps:
        steps[sys.argv[1]](*sys.argv[2:])
        os._exit(0)  # libraries that are unloaded in order touch 100 MB that they have not used
    else:
        main()
