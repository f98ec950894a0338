"""Draws the pictures of docs/pictures/, from drawn faces and the model that the quickstart trains:

    python train.py experiment=quickstart hydra.run.dir=runs/quickstart
    python docs/pictures.py runs/quickstart

Those of pages are taken in a headless Chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chromium import Chromium, Page

from fer import artifact
from fer.data import synthetic
from fer.faces.types import Array, Faces
from fer.labels import EMOTIONS
from fer.stream import Recognizer
from fer.stream.draw.annotate import annotate
from fer.stream.sinks.collect import Collector
from fer.stream.sinks.window import Window
from fer.stream.types import Frame, FrameResult

OUT = Path(__file__).with_name("pictures")
OF_A_RUN = ("curves.png", "confusion_matrix.png", "reliability.png", "mistakes.png", "gradcam.png")
PORT = 7871


def people(seed: int, side: int) -> list[Array]:
    """One person with each emotion, uint8 (side, side) grey."""
    return [synthetic.draw(emotion, np.random.default_rng(seed), side) for emotion in EMOTIONS]


def seven_emotions(model: Path) -> Array:
    """The faces of two people with what the model says of them."""
    side, gap = 200, 34
    faces = [people(seed, side) for seed in (2, 31)]
    small = np.stack([cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA) for row in faces for face in row])
    loaded = artifact.load(model)
    probabilities = loaded(torch.from_numpy(small)[:, None]).numpy()
    canvas = np.full((2 * (side + gap), len(EMOTIONS) * side, 3), 245, np.uint8)
    boxes = []
    for row, person in enumerate(faces):
        for column, face in enumerate(person):
            x, y = column * side, row * (side + gap) + gap
            canvas[y : y + side, x : x + side] = face[..., None]
            boxes.append([x + 6, y + 6, x + side - 6, y + side - 6])
    detected = Faces(np.array(boxes, np.float32), np.ones(len(boxes), np.float32))
    return annotate(FrameResult(Frame(canvas, 0, 0.0), detected, loaded.metadata.classes, probabilities))


def film(path: Path, frames: int = 300, rate: int = 25) -> Path:
    """Two drawn people, each of whom changes between three emotions."""
    cast = [(people(2, 200), (3, 6, 5), 80), (people(31, 200), (6, 0, 4), 380)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(frames):
            canvas = np.full((360, 640, 3), (206, 213, 219), np.uint8)
            for faces, emotions, x in cast:
                at = x + round(20 * np.sin(number / 25 + x))
                canvas[90:290, at : at + 200] = faces[emotions[number * len(emotions) // frames]][..., None]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def window(model: Path, clip: Path) -> Array:
    """What `infer.py` shows, in the middle of the film; composed as for a screen."""
    shown = Window(clip.name, False, Path("snapshots"), Collector(Path("faces"), 0.0, 48))
    for result in Recognizer(model).stream(clip, max_frames=120):
        shown._times.append(result.frame.time)
    shown.result, shown.picture = result, annotate(result)
    return shown.compose()


def written(model: Path, clip: Path, folder: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "infer.py", f"source={clip}", f"artifact={model}", "view=none",
         f"timeline={OUT / 'timeline.png'}", f"report={folder / 'report.html'}"], check=True, cwd=folder,
    )  # fmt: skip


def browser(model: Path, clip: Path, folder: Path, chrome: Chromium) -> None:
    server = subprocess.Popen(
        [sys.executable, ROOT / "infer.py", "source=browser", f"artifact={model}", f"browser.port={PORT}"],
        cwd=folder, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout and "open http" in server.stdout.readline()
        page = chrome.page(f"http://127.0.0.1:{PORT}/")
        page.until("document.querySelector('.fer-live button')")
        page.evaluate("document.querySelector('.fer-live button').click()")
        page.until("document.querySelector('.fer-live').dataset.results > 40", seconds=120)
        page.screenshot(OUT / "browser.png")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def report(folder: Path, chrome: Chromium) -> None:
    page: Page = chrome.page((folder / "report.html").as_uri())
    page.until("document.readyState == 'complete'")
    page.screenshot(OUT / "report.png")


def main(run: Path) -> None:
    model = run / "model.ts"
    OUT.mkdir(exist_ok=True)
    write(OUT / "emotions.jpg", seven_emotions(model))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = film(folder / "film.mp4")
        write(OUT / "window.png", window(model, clip))
        written(model, clip, folder)
        camera = folder / "camera.mjpeg"
        with av.open(str(clip)) as opened, camera.open("wb") as file:
            for frame in opened.decode(video=0):
                file.write(cv2.imencode(".jpg", frame.to_ndarray(format="bgr24"))[1].tobytes())
        with Chromium(camera) as chrome:
            browser(model, clip, folder, chrome)
            report(folder, chrome)
    for name in OF_A_RUN:
        shutil.copy(run / name, OUT / name)


def write(path: Path, picture: Array) -> None:
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute())
