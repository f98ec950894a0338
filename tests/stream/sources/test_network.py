import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import SOCK_DGRAM, socket

import pytest
from PIL import Image as PIL
from samples import as_a_browser_records, served, served_folder

from fer.errors import SourceError
from fer.stream.sources import live, network, open_source


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
    monkeypatch.setattr(network, "_SILENCE", 1.0)
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
    monkeypatch.setattr(network, "_SILENCE", 0.5)
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
    with served_folder(tmp_path) as address:
        yield address


def test_a_film_on_a_server_is_read_to_its_end(site: str, make_clip: Callable[..., Path]) -> None:
    clip = make_clip("film.mp4", frames=12)
    with open_source(f"{site}/{clip.name}") as source:
        assert (source.kind, source.live, source.path, source.total) == ("video", False, None, 12)
        assert len(list(source)) == 12


@pytest.mark.parametrize("path", ["none.mp4", "notes.txt"])
def test_what_a_server_does_not_have_is_one_line(site: str, tmp_path: Path, path: str) -> None:
    (tmp_path / "notes.txt").write_text("only text\n" * 99)
    with pytest.raises(SourceError, match=r"cannot open http://127|holds no video|neither a video nor"):
        open_source(f"{site}/{path}")


def test_passwords_are_not_shown() -> None:
    with pytest.raises(SourceError) as error:
        open_source("rtsp://me:secret@127.0.0.1:9/cam")
    assert "secret" not in str(error.value) and "127.0.0.1:9/cam" in str(error.value)
    assert network.without_password("rtsp://me:sec@ret@host:9/a@b") == "rtsp://host:9/a@b"


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
    with served(type("Handler", (Server,), {"folder": tmp_path})) as address:
        yield address


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


@pytest.mark.parametrize("way", ["length", "chunked"])
@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_on_a_server_is_played_once(way: str, form: str, web: str, tmp_path: Path) -> None:
    pictures = [PIL.new("RGB", (32, 32), (60 * i, 0, 0)) for i in range(4)]
    pictures[0].save(tmp_path / "a", form, save_all=True, append_images=pictures[1:], duration=100)
    with open_source(f"{web}/{way}/a") as source:
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
