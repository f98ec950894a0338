"""The browser page, in Chromium where it is installed."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import PROGRAM, Chromium, Page
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from fer import artifact
from fer.errors import ConfigError, SinkError
from fer.faces.types import Array
from fer.labels import EMOTIONS
from fer.stream.browser import page as browser

ROOT = Path(__file__).parents[3]

chromium = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed (apt-get install chromium)")


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("infer", ["source=browser", *overrides])


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("browser.host=0.0.0.0", "set browser.password=user:password"),
        ("browser.host=192.168.1.5", "set browser.password=user:password"),
        ("browser.host=example.org", "set browser.password=user:password"),
        ("browser.password=secret", "must be user:password"),
        ("browser.password='user:'", "must be user:password"),
        ("browser.port=0", r"browser\.port=0"),
        ("browser.max_mb=-1", r"browser\.max_mb"),
        ("browser.max_mb=0.5", r"browser\.max_mb=0\.5 must be a whole number from 1"),
        ("browser.max_mb=1e3", r"browser\.max_mb=1000\.0"),
        ("browser.max_seconds=long", r"browser\.max_seconds"),
        ("save=out.mp4", "save= does not go with source=browser"),
        ("blur=all", "faces, others"),
    ],
)
def test_a_value_that_cannot_work_is_refused_before_anything_is_loaded(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        browser.check(config(override))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "'::1'"])
def test_only_other_computers_need_a_password(host: str) -> None:
    browser.check(config(f"browser.host={host}"))
    browser.check(config("browser.host=0.0.0.0", "browser.password='me:se:cret'"))


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        with pytest.raises(SinkError, match=r"cannot listen on 127\.0\.0\.1:\d+; set another browser\.port"):
            browser.serve(config(f"browser.port={used.getsockname()[1]}"))


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_host_that_does_not_exist_is_one_line(host: str) -> None:
    with pytest.raises(SinkError, match=r"cannot listen on .*; set another browser\.port= or browser\.host="):
        browser.serve(config(f"browser.host={host}", "browser.password='me:secret'"))


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "fer.stream.browser.app", raising=False)
    monkeypatch.delattr("fer.stream.browser.app", raising=False)
    with pytest.raises(ConfigError, match="pip install 'gradio"):
        browser.serve(config(f"browser.port={free_port()}"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    return artifact.save(
        network, artifact.Metadata(EMOTIONS, 1, 48, (0.5,), (0.25,)), tmp_path_factory.mktemp("model") / "own.ts"
    )


class Server:
    def __init__(self, port: int, folder: Path, *arguments: str) -> None:
        self.url, self.port, self.folder, self.output = f"http://127.0.0.1:{port}/", port, folder, ""
        command = [sys.executable, "infer.py", "source=browser", f"browser.port={port}", *arguments]
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait until it prints its address."""
        watchdog = threading.Timer(90, self.kill)
        watchdog.start()
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if line.startswith("open http"):
                break
        watchdog.cancel()
        if "open http" not in self.output:
            raise TimeoutError(self.output)

    def stop(self) -> tuple[int, str]:
        """Send Ctrl-C and return the exit status and the output."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.output += self.process.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, self.output

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=10)

    def files(self) -> set[str]:
        """Names of the files in the folder; Gradio leaves an empty one for each upload."""
        return {path.name for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size}


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    server = Server(free_port(), folder, *arguments)
    try:
        server.wait()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def test_a_password_is_required_and_ctrl_c_ends_it(tmp_path: Path, model: Path) -> None:
    with serving(tmp_path, f"artifact={model}", "browser.password=me:secret") as server:

        def status(method: str, path: str) -> int:
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
                connection.request(method, path, "{}", {"Content-Type": "application/json"})
                with connection.getresponse() as response:
                    return response.status

        assert status("GET", "/config") == 401
        assert status("POST", "/gradio_api/component_server") == 401
        assert status("POST", "/gradio_api/upload") == 401
        code, output = server.stop()
    assert code == 130 and f"open http://127.0.0.1:{server.port}" in output and "Traceback" not in output
    assert not list(tmp_path.glob("fer_browser_*")), "everything is deleted"


def test_other_programs_call_the_page(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the two examples of docs/share.md, and what they would do wrong."""
    clip = make_clip("clip.mp4", frames=40)
    assert clip == tmp_path / "clip.mp4"
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((48, 64, 3), 90, np.uint8))
    page = (ROOT / "docs" / "share.md").read_text(encoding="utf-8")
    in_python, with_curl = page.partition("## The web page")[2].split("```")[1:4:2]
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving(folder, f"artifact={model}", "browser.password=me:secret") as server:
        at = server.url.rstrip("/")
        names: dict[str, Any] = {}
        exec(in_python.removeprefix("python").replace("http://127.0.0.1:7860", at), names)
        assert names["recognized"]["summary"].startswith("40 frames, 0 with faces")
        assert [row["frame"] for row in names["recognized"]["rows"]] == list(range(40))
        assert [Path(file).name for file in names["files"]] == ["result.mp4", "log.jsonl", "timeline.png"]
        shell = with_curl.removeprefix("bash").replace("http://127.0.0.1:7860", at)
        printed = subprocess.run(["bash", "-ec", shell], capture_output=True, text=True, timeout=60).stdout
        event, _, data = printed.partition("event: ")[2].partition("\ndata: ")
        assert event == "complete", printed
        recognized, files = json.loads(data)
        assert len(recognized["rows"]) == 40 and [file["orig_name"] for file in files][1] == "log.jsonl"
        assert not [name for name in server.files() if "clip" in name], "uploads are deleted"

        client, handle = names["client"], names["handle_file"]
        jobs = [client.submit(handle(str(clip)), api_name="/recognize") for _ in range(5)]  # equal ones
        ranks = set()
        while not all(job.done() for job in jobs):
            ranks |= {job.status().rank for job in jobs}
            time.sleep(0.02)
        assert {job.result()[0]["summary"] for job in jobs} == {names["recognized"]["summary"]}
        assert len(ranks - {None}) > 1, "each job knows its place in the queue"
        (tmp_path / "note.txt").write_text("x")
        with pytest.raises(Exception, match="not a picture or video that can be read"):
            client.predict(handle("note.txt"), api_name="/recognize")
        with pytest.raises(ValueError, match="login"):
            type(client)(server.url, auth=("me", "wrong"), verbose=False)
        assert not any(key in str(client.view_api(return_format="dict")) for key in ("/process", "/delete"))
        foreign = shell.replace("'$file'", str(tmp_path / "photo.jpg"))
        printed = subprocess.run(["bash", "-ec", foreign], capture_output=True, text=True, timeout=60).stdout
        assert "event: error" in printed and (tmp_path / "photo.jpg").exists(), "only uploads are read"
        client.close()


@chromium
def test_an_upload_is_processed_and_nothing_of_it_stays(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path]
) -> None:
    clip, picture = make_clip(frames=8), tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.full((48, 64, 3), 90, np.uint8))
    long = make_clip("long.mp4", frames=80)
    folder = tmp_path / "server"
    folder.mkdir()
    with (
        serving(folder, f"artifact={model}", "browser.max_seconds=2", "browser.max_mb=1") as server,
        Chromium() as chrome,
    ):
        page = chrome.page(server.url)
        page.until("document.querySelector('.fer-live button')")
        page.evaluate("[...document.querySelectorAll('[role=tab]')].find(t => t.innerText.trim() == 'Upload').click()")
        assert "8 frames, 0 with faces" in uploaded(page, clip)
        page.until("document.querySelectorAll('#files a').length >= 3 && document.querySelector('#video video')")
        names = page.evaluate("[...document.querySelectorAll('#files a')].map(a => a.href.split('/').pop())")
        assert {"log.jsonl", "timeline.png", "result.mp4"} <= set(names)
        address = page.evaluate("[...document.querySelectorAll('#files a')].find(a => /jsonl/.test(a.href)).href")
        rows = page.evaluate(f"fetch({json.dumps(address)}).then(r => r.text())").splitlines()
        assert [json.loads(row)["frame"] for row in rows] == list(range(8))
        assert server.files() == {"log.jsonl", "timeline.png", "result.mp4"}, "the upload itself is deleted"
        assert "0 faces" in uploaded(page, picture)
        assert server.files() == {"log.jsonl", "result.png"}, "and so are the results before"
        assert "limit of 2 seconds" in uploaded(page, long)
        assert not server.files(), "a refused upload leaves nothing"
        assert "0 faces" in uploaded(page, picture) and server.files()
        page.close()
        end = time.monotonic() + 20
        while server.files() and time.monotonic() < end:
            time.sleep(0.2)
        assert not server.files(), "the page was closed"
        ours = [url for url in chrome.requests if not url.startswith((server.url, "data:", "blob:", "about:"))]
        assert not ours, "no other computer is contacted"
        assert server.stop()[0] == 130
    assert not list(folder.iterdir())


def uploaded(page: Page, path: Path) -> str:
    """Upload a file and return the text of the result."""
    page.until("document.querySelector('#upload input[type=file]')")
    before = page.evaluate("document.querySelector('#words').innerText")
    page.choose("#upload input[type=file]", path)
    page.until(f"document.querySelector('#upload').innerText.includes({json.dumps(path.stem)})")
    page.evaluate("document.querySelector('#read').click()")
    page.until(f"![{json.dumps(before)}, ''].includes(document.querySelector('#words').innerText)")
    page.until("document.querySelector('#upload input[type=file]')")
    return str(page.evaluate("document.querySelector('#words').innerText"))


@chromium
@pytest.mark.shared
def test_the_camera_shows_emotions_and_pages_keep_to_themselves(tmp_path: Path, shared: Path) -> None:
    from fer.faces.detect import Detector
    from fer.stream.sources import open_source
    from fer.stream.types import Frame

    images = [frame.image for frame in open_source(str(shared / "single_face.mp4"))]
    here, there = film(tmp_path / "here.mjpeg", images), film(tmp_path / "there.mjpeg", images, shift=-200)
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder) as server, Chromium(here) as one, Chromium(there) as other:
        pages = watching(one, server), watching(other, server)
        for page in pages:
            page.until("document.querySelector('.fer-live').dataset.results > 5 && window.ferFaces().length")
        start = [int(page.evaluate("document.querySelector('.fer-live').dataset.results")) for page in pages]
        begun = time.monotonic()
        time.sleep(4)
        done = [int(page.evaluate("document.querySelector('.fer-live').dataset.results")) for page in pages]
        rates = [(b - a) / (time.monotonic() - begun) for a, b in zip(start, done, strict=True)]
        assert min(rates) > 1.5, f"{rates} results a second; 5 or more where nothing else runs"
        find = Detector()
        lefts = []
        for page in pages:
            last = page.evaluate(
                "(({lastImage, lastResult}) => ({lastImage, lastResult}))(document.querySelector('.fer-live'))"
            )
            (face,) = last["lastResult"]["faces"]
            assert face["id"] == 1, "each page has a first face of its own"
            assert face["emotion"] in page.evaluate("document.querySelector('.fer-people').innerText")
            data = np.frombuffer(base64.b64decode(last["lastImage"].split(",")[1]), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
            assert image is not None
            faces = find(Frame(image, 0, 0.0))
            assert iou(faces.boxes[0], np.array(face["box"])) > 0.5
            lefts.append(face["box"][0])
        assert lefts[0] - lefts[1] > 100, "and sees its own camera"
        assert server.files() == set(), "no frame is written"
        foreign = [url for url in one.requests if not url.startswith((server.url, "data:", "blob:", "about:"))]
        assert not foreign
    print(f"results a second: {rates}")


@chromium
@pytest.mark.shared
def test_with_blur_the_camera_is_shown_by_the_program_with_its_faces_hidden(tmp_path: Path, shared: Path) -> None:
    from fer.faces.detect import Detector
    from fer.stream.sources import open_source

    images = [frame.image for frame in open_source(str(shared / "single_face.mp4"))][:30]
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder, "blur=faces") as server, Chromium(film(tmp_path / "here.mjpeg", images)) as chrome:
        page = watching(chrome, server)
        page.until("document.querySelector('.fer-live').dataset.results > 3 && window.ferFaces().length")
        assert page.evaluate("getComputedStyle(document.querySelector('.fer-live video')).visibility") == "hidden"
        shown = page.evaluate("document.querySelector('.fer-live canvas').toDataURL('image/png')")
        image = cv2.imdecode(np.frombuffer(base64.b64decode(shown.split(",")[1]), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image is not None and image.std() > 20, "a picture is drawn"
        assert len(Detector()(image)) == 0


def film(path: Path, images: list[Array], shift: int = 0) -> Path:
    """Write a Motion JPEG for Chromium's camera, shifted sideways by `shift` pixels."""
    moved = [cv2.cvtColor(np.roll(image, shift, axis=1), cv2.COLOR_RGB2BGR) for image in images]
    path.write_bytes(b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in moved))
    return path


def watching(chrome: Chromium, server: Server) -> Page:
    page = chrome.page(server.url)
    page.until("document.querySelector('.fer-live button')")
    page.evaluate("window.ferFaces = () => JSON.parse(document.querySelector('.fer-live').dataset.faces || '[]')")
    page.evaluate("document.querySelector('.fer-live button').click()")
    return page


def iou(a: Array, b: Array) -> float:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))
