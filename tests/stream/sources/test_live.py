import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from socket import SOCK_DGRAM, socket

import cv2
import numpy as np
import pytest
from PIL import Image as PIL
from samples import as_a_browser_records

from fer.errors import SourceError
from fer.stream import pipeline
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeFaceClassifier
from fer.stream.pipeline import TemporalState
from fer.stream.sources import live, open_source
from fer.stream.stats import Stats
from fer.stream.types import Faces, Frame


def test_a_missing_camera_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for source in (97, "/dev/video97"):
        with pytest.raises(SourceError, match=r"no camera 97; .*source="):
            open_source(source)
    assert capfd.readouterr() == ("", "")


class FakeCapture:
    """A camera of three frames, then a pulled cable."""

    last: "FakeCapture"

    def __init__(self, index: int) -> None:
        self.left = 3
        self.released = False
        FakeCapture.last = self

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> None: ...

    def get(self, key: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((4, 4, 3), (255, 0, 0), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_camera_gives_rgb_and_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    source = open_source(0)
    frames = []
    with pytest.raises(SourceError, match="camera 0 stopped"):
        for frame in source:
            frames.append(frame)
    assert len(frames) == 3
    assert frames[0].image[0, 0].tolist() == [0, 0, 255]
    assert frames[0].time == 0 and frames[2].time >= frames[1].time
    assert FakeCapture.last.released and source.rate == 30


def test_a_camera_is_released_by_the_thread_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    released: list[threading.Thread] = []

    class Slow(FakeCapture):
        def read(self) -> tuple[bool, np.ndarray | None]:
            reading.set()
            go_on.wait(10)
            return super().read()

        def release(self) -> None:
            released.append(threading.current_thread())

    monkeypatch.setattr(cv2, "VideoCapture", Slow)
    source = open_source(0)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    assert reading.wait(10)
    source.close()
    assert not released, "the camera is in the middle of a read"
    go_on.set()
    reader.join(10)
    assert released == [reader]


@pytest.mark.parametrize(
    "end", ["enough frames", "Ctrl-C", "an error of the detector", "an error of a sink", "unplugged"]
)
def test_a_camera_is_released_by_its_reader_however_a_run_ends(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[tuple[str, bool]] = []  # the thread, and whether it happened within a read

    class Camera(FakeCapture):
        def __init__(self, index: int) -> None:
            super().__init__(index)
            self.left, self.reading = 6 if end == "unplugged" else 10_000, False

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.reading = True
            time.sleep(0.03)
            self.reading = False
            return super().read()

        def release(self) -> None:
            released.append((threading.current_thread().name, self.reading))

    def detect(frame: Frame) -> Faces:
        if end == "an error of the detector" and frame.index >= 3:
            raise RuntimeError(end)
        return Faces.none()

    def after_frame() -> None:
        if stats.frames >= 3 and end == "Ctrl-C":
            raise KeyboardInterrupt
        if stats.frames >= 3 and end == "an error of a sink":
            raise RuntimeError(end)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    source, stats, state = open_source(0), Stats(), TemporalState(Tracker(), Smoother())
    results = pipeline.results(source, detect, FakeFaceClassifier(("a", "b")), state, stats)
    try:
        with source:
            pipeline.run(islice(results, 3 if end == "enough frames" else None), [], stats, after_frame)
            results.close()
    except (RuntimeError, SourceError, KeyboardInterrupt):
        assert end != "enough frames"
    finally:
        results.close()
    assert released == [("read", False)]


def test_a_camera_that_nobody_reads_is_released_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    with open_source(0):
        assert not FakeCapture.last.released
    assert FakeCapture.last.released


class Flaky(FakeCapture):
    """Each connection gives three pictures; of the attempts to connect again the first two fail."""

    attempts = 0

    def __init__(self, index: int) -> None:
        super().__init__(index)
        Flaky.attempts += 1

    def isOpened(self) -> bool:
        return Flaky.attempts not in (2, 3)


def test_a_camera_that_drops_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Flaky.attempts = 0
    monkeypatch.setattr(cv2, "VideoCapture", Flaky)
    monkeypatch.setattr(live, "_FIRST_WAIT", 0.02)
    source = open_source(0, retry_for=5)
    frames = [frame for frame, _ in zip(source, range(5), strict=False)]
    source.close()
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.event is None for frame in frames] == [True, True, True, False, True]
    assert re.fullmatch(r"camera 0 was away for \d\.\d s", str(frames[3].event))
    assert frames[3].time - frames[2].time > 0.1
    assert source.notes and "dropped; trying to reconnect for 5 s" in capsys.readouterr().err


def test_a_camera_without_pictures_is_away_and_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connections: list[FakeCapture] = []

    class Dark(FakeCapture):
        """Connects always; only its first connection has pictures."""

        def __init__(self, index: int) -> None:
            super().__init__(index)
            self.left = 0 if connections else 3
            connections.append(self)

    monkeypatch.setattr(cv2, "VideoCapture", Dark)
    monkeypatch.setattr(live, "_FIRST_WAIT", 0.05)
    with pytest.raises(SourceError, match="did not come back"):
        list(open_source(0, retry_for=1))
    assert capsys.readouterr().err.count("dropped") == 1
    assert len(connections) <= 7, "after 0.05, 0.15, 0.35, 0.75 and 1 second, and at most once more"


def test_a_camera_that_stays_away_is_an_error_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Flaky.attempts = 0
    monkeypatch.setattr(cv2, "VideoCapture", Flaky)
    monkeypatch.setattr(Flaky, "isOpened", lambda self: Flaky.attempts == 1)
    source, start = open_source(0, retry_for=0.6), time.monotonic()
    with pytest.raises(SourceError, match=r"did not come back within 0.6 s.*retry_for="):
        list(source)
    assert time.monotonic() - start > 0.6


@pytest.fixture
def ffmpeg() -> str:
    return str(pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe())


@pytest.fixture
def port() -> int:
    with socket(type=SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sender(ffmpeg: str, port: int) -> subprocess.Popen[bytes]:
    pictures = ["-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25"]
    encoded = ["-c:v", "libx264", "-tune", "zerolatency", "-g", "5", "-f", "mpegts"]
    command = [ffmpeg, "-loglevel", "quiet", *pictures, *encoded, f"udp://127.0.0.1:{port}"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def test_a_stream_of_the_network_is_killed_and_comes_back(
    ffmpeg: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_SILENCE", 1.0)
    processes = [sender(ffmpeg, port)]
    later = threading.Timer(2.5, lambda: processes.append(sender(ffmpeg, port)))
    source = open_source(f"udp://127.0.0.1:{port}", retry_for=20)
    frames = []
    try:
        assert (source.kind, source.live) == ("network", True)
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                processes[0].kill()
                later.start()
            if frame.event or len(frames) > 200:
                break
    finally:
        later.cancel()
        later.join()
        source.close()
        for process in processes:
            process.kill()
            process.wait()
    assert "was away for" in str(frames[-1].event)
    times = [frame.time for frame in frames]
    assert times == sorted(times) and times[-1] - times[-2] > 2
    assert frames[0].image.shape == (120, 160, 3)


def test_a_silent_stream_ends_after_its_time(ffmpeg: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SILENCE", 0.5)
    process = sender(ffmpeg, port)
    try:
        source = open_source(f"udp://127.0.0.1:{port}", retry_for=0)
        with pytest.raises(SourceError, match="stopped answering"):
            for frame in source:
                if frame.index == 3:
                    process.kill()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_film_on_a_server_is_read_to_its_end(site: str, make_clip: Callable[..., Path]) -> None:
    clip = make_clip("film.mp4", frames=12)
    with open_source(f"{site}/{clip.name}") as source:
        assert (source.kind, source.live, source.path, source.total) == ("video", False, None, 12)
        assert len(list(source)) == 12


@pytest.mark.parametrize("path", ["none.mp4", "notes.txt"])
def test_what_a_server_does_not_have_is_one_line(site: str, tmp_path: Path, path: str) -> None:
    (tmp_path / "notes.txt").write_text("only text\n" * 99)
    with pytest.raises(SourceError, match=r"cannot open http://127|holds no video"):
        open_source(f"{site}/{path}")


def test_passwords_are_not_shown() -> None:
    with pytest.raises(SourceError) as error:
        open_source("rtsp://me:secret@127.0.0.1:9/cam")
    assert "secret" not in str(error.value) and "127.0.0.1:9/cam" in str(error.value)
    assert live.without_password("rtsp://me:sec@ret@host:9/a@b") == "rtsp://host:9/a@b"


def test_a_playlist_of_the_network_names_no_files_of_this_computer(
    site: str, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip("film.ts", frames=30)
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n"
    (tmp_path / "list.m3u8").write_text(f"{head}file://{clip}\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError), open_source(f"{site}/list.m3u8") as source:
        list(source)


class Server(BaseHTTPRequestHandler):
    """Sends `folder/<name>` for `/<way>/<name>?anything`, in different ways, and never a part that is asked for."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        _, way, name = self.path.partition("?")[0].split("/")
        self.close_connection = True
        if way == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/length/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = (self.folder / name).read_bytes()
        self.send_response(200)
        if way == "camera":
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            body = b"".join([b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + body + b"\r\n"] * 5)
        if way == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        if way in ("length", "broken"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if way == "broken" else body)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Server,), {"folder": tmp_path}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("way", ["length", "chunked", "closing", "redirect"])
@pytest.mark.parametrize("name", ["film.mkv", "film.ts", "film.mp4", "film"])
def test_a_film_on_a_server_is_read_once_however_it_is_sent(
    way: str, name: str, web: str, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip("film.mkv" if name == "film" else name, frames=60, size=(320, 240))
    clip.rename(clip.with_name(name))
    with open_source(f"{web}/{way}/{name}?t=0&x=a.jpg") as source:
        frames = list(source)
        assert (source.kind, source.live, len(frames), source.notes) == ("video", False, 60, [])
    with source.reopen() as again:
        assert len(again.streams.video) == 1


def test_a_film_of_unknown_length_is_read_once(web: str, tmp_path: Path) -> None:
    as_a_browser_records(tmp_path / "a.webm")
    for way in ("length", "chunked", "closing"):
        with open_source(f"{web}/{way}/a.webm") as source:
            assert len(list(source)) == 150 and not source.live and source.notes == []


@pytest.mark.parametrize("name", ["film.mkv", "film.ts", "film.flv"])
def test_a_film_whose_connection_breaks_says_so(name: str, web: str, make_clip: Callable[..., Path]) -> None:
    make_clip(name, frames=100, size=(320, 240))
    with open_source(f"{web}/broken/{name}") as source:
        frames = list(source)
    assert 20 < len(frames) < 90
    assert any(f"/broken/{name}: reading broke off after" in note for note in source.notes)


@pytest.mark.parametrize("way", ["length", "chunked", "closing", "redirect"])
@pytest.mark.parametrize(
    ("name", "form"), [("a.jpg", "JPEG"), ("b", "PNG"), ("c.gif", "GIF"), ("d", "WEBP"), ("e", "AVIF")]
)
def test_a_picture_on_a_server_is_a_still(way: str, name: str, form: str, web: str, tmp_path: Path) -> None:
    PIL.new("RGB", (64, 48), (200, 40, 40)).save(tmp_path / name, form)
    with open_source(f"{web}/{way}/{name}?size=big") as source:
        (frame,) = source
    assert source.kind == "image" and frame.image.shape == (48, 64, 3)
    assert frame.image[9, 9].tolist() == pytest.approx([200, 40, 40], abs=8)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_on_a_server_is_played_once(form: str, web: str, tmp_path: Path) -> None:
    pictures = [PIL.new("RGB", (32, 32), (60 * i, 0, 0)) for i in range(4)]
    pictures[0].save(tmp_path / "a", form, save_all=True, append_images=pictures[1:], duration=100)
    with open_source(f"{web}/length/a") as source:
        assert [round(frame.time, 1) for frame in source] == [0.0, 0.1, 0.2, 0.3]


def test_a_camera_on_a_web_server_is_live(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_FIRST_WAIT", 0.02)
    PIL.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    with open_source(f"{web}/camera/a.jpg", retry_for=5) as source:
        frames = [frame for frame, _ in zip(source, range(12), strict=False)]
    assert source.live and sum(frame.event is not None for frame in frames) >= 1
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("ended", [True, False])
def test_a_playlist_is_a_film_if_it_has_an_end(
    ended: bool, web: str, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    for name, first in (("a.ts", 0), ("b.ts", 30)):
        make_clip(name, frames=30, times=[(first + i) / 25 for i in range(30)])
    parts = "".join(f"#EXTINF:1.2,\n{name}\n" for name in ("a.ts", "b.ts"))
    end = "#EXT-X-ENDLIST\n" if ended else ""
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{parts}{end}")
    with open_source(f"{web}/length/list.m3u8", retry_for=0) as source:
        assert source.live is not ended
        if ended:
            assert [frame.time for frame in source] == pytest.approx([i / 25 for i in range(60)], abs=1e-3)
