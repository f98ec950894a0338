"""The window's keys, with OpenCV's window replaced by one that presses them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.data import folder as image_folder
from fer.errors import ConfigError, SinkError
from fer.faces.crop import crop_face
from fer.labels import EMOTIONS
from fer.stream.draw.panel import WIDTH
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import results, run
from fer.stream.sinks import Context, Stop, window
from fer.stream.sinks.collect import Collector
from fer.stream.sources import Kind
from fer.stream.state import TemporalState
from fer.stream.stats import Stats

SMALL, LARGE = (4.0, 4.0, 14.0, 14.0), (20.0, 10.0, 50.0, 40.0)


class Screen:
    """Takes the place of OpenCV's window: presses `keys`, a string, one each time it is asked, "." for none."""

    def __init__(self, keys: str, visible: Iterator[float]) -> None:
        self.keys, self.visible = iter(keys), visible
        self.shown: list[np.ndarray] = []
        self.closed = False


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> type[Screen]:
    class Here(Screen):
        def __init__(self, keys: str, visible: Iterator[float] | None = None) -> None:
            super().__init__(keys, visible or itertools.repeat(1.0))
            for name in ("namedWindow", "resizeWindow", "setWindowTitle"):
                monkeypatch.setattr(window.cv2, name, lambda *_: None)
            monkeypatch.setattr(window.cv2, "destroyAllWindows", lambda: setattr(self, "closed", True))
            monkeypatch.setattr(window.cv2, "imshow", lambda _, image: self.shown.append(image))
            monkeypatch.setattr(window.cv2, "waitKey", lambda _: self.key())
            monkeypatch.setattr(window.cv2, "getWindowProperty", lambda *_: next(self.visible))

        def key(self) -> int:
            key = next(self.keys)
            return 255 if key == "." else ord(key)

    return Here


def watch(
    folder: Path, *faces: tuple[float, float, float, float], frames: int = 9, stills: bool = False, keeps: bool = True
) -> Stats:
    stats, source = Stats(), FakeSource(frames)
    outputs = (folder / "snapshots", Collector(folder / "faces", 0.1, 24)) if keeps else (None, None)
    view = window.Window("fake", stills, *outputs)
    state = TemporalState(Tracker(), Smoother())
    stream = results(source, FakeDetector(*faces), FakeFaceClassifier(EMOTIONS, 3), state, stats)
    run(stream, [view], stats)
    return stats


@pytest.mark.parametrize("keys", [".q", ".\x1b"])
def test_q_and_escape_stop_the_run(screen: type[Screen], keys: str, tmp_path: Path) -> None:
    here = screen(keys)
    assert watch(tmp_path).frames == 2
    assert len(here.shown) == 2 and here.closed


def test_closing_the_window_stops_the_run(screen: type[Screen], tmp_path: Path) -> None:
    here = screen("....", iter([1.0, 0.0]))
    assert watch(tmp_path).frames == 2 and here.closed


def test_space_pauses(screen: type[Screen], tmp_path: Path) -> None:
    here = screen(". .... .q")
    assert watch(tmp_path).frames == 4
    assert len(here.shown) == 9


def test_stills_wait_for_a_key_each(screen: type[Screen], tmp_path: Path) -> None:
    here = screen("...nh.s..nnn")
    assert watch(tmp_path, LARGE, frames=4, stills=True).frames == 4
    assert len(here.shown) == 12
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_s_saves_the_annotated_picture(screen: type[Screen], tmp_path: Path) -> None:
    screen("..s......")
    watch(tmp_path, LARGE)
    (path,) = (tmp_path / "snapshots").iterdir()
    saved = cv2.imread(str(path))
    assert saved.shape == (48, 64, 3) and len(np.unique(saved)) > 3, "a box is drawn on it"


def test_h_shows_the_keys(screen: type[Screen], tmp_path: Path) -> None:
    here = screen("..h..h...")
    watch(tmp_path, LARGE)
    # below the messages, which change from frame to frame
    strips = [image[60:, -WIDTH:] for image in here.shown]
    assert (strips[1] != strips[3]).any() and (strips[1] == strips[7]).all()


def test_numbers_file_the_largest_face_and_u_takes_it_back(screen: type[Screen], tmp_path: Path) -> None:
    screen("..4.15u..")
    watch(tmp_path, SMALL, LARGE)
    files = sorted((tmp_path / "faces").rglob("*.png"))
    assert [(path.parent.name, path.name) for path in files] == [("angry", "0002.png"), ("happy", "0001.png")]
    assert files[0].parents[1] == files[1].parents[1], "one session"
    grey = FakeSource(9)
    image = next(itertools.islice(iter(grey), 2, None)).image
    expected = crop_face(image, np.array(LARGE, np.float32), 0.1, 24)
    np.testing.assert_array_equal(cv2.imread(str(files[1])), expected)


def test_keys_without_a_class_or_a_face_file_nothing(screen: type[Screen], tmp_path: Path) -> None:
    screen("..890u4..")
    watch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keys_without_a_folder_do_nothing(screen: type[Screen], tmp_path: Path) -> None:
    here = screen("..hs4u...")
    assert watch(tmp_path, LARGE, keeps=False).frames == len(here.shown) == 9
    assert list(tmp_path.iterdir()) == []
    screen("s4n")
    assert watch(tmp_path, LARGE, frames=3, stills=True, keeps=False).frames == 3, "as other keys, they go on"


def test_filed_faces_are_a_dataset(screen: type[Screen], tmp_path: Path) -> None:
    for second in range(3):
        screen("..1234567" + 4 * "4" + "...")
        watch(tmp_path, LARGE, frames=16)
        (session,) = (tmp_path / "faces").glob("20*")
        session.rename(tmp_path / "faces" / f"session {second}")
    splits = image_folder.read(tmp_path / "faces", size=24)
    assert splits["train"].classes == EMOTIONS
    assert sum(len(split) for split in splits.values()) == 33


def test_a_key_of_ones_own(screen: type[Screen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "KEYS", window.KEYS.copy())
    seen = []

    @window.key("x", "end at a face", when=lambda shown: len(shown.result.faces))
    def end(shown: window.Window) -> None:
        seen.append((shown.result.frame.index, shown.picture.shape))
        raise Stop

    screen("..x......")
    assert watch(tmp_path).frames == 9, "it means nothing without a face"
    screen("..x......")
    assert watch(tmp_path, LARGE).frames == 3 and seen == [(2, (48, 64, 3))]


class Terminal:
    def isatty(self) -> bool:
        return True


def wanted(view: str, kind: Kind = "video", **paths: Path) -> bool:
    source = FakeSource()
    source.kind = kind
    return window.wants_window(view, Context(source, paths=paths))


def test_when_a_window_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "why_no_window", lambda: None)
    assert not wanted("none")
    assert wanted("window")
    monkeypatch.setattr(window.sys, "stdin", None)
    assert not wanted("auto"), "nobody is there"
    monkeypatch.setattr(window.sys, "stdin", Terminal())
    assert wanted("auto") and wanted("auto", log=Path("a.csv"))
    assert wanted("auto", "image") and not wanted("auto", "image", log=Path("a.csv"))
    with pytest.raises(ConfigError, match=r"view=big.*auto, window or none"):
        wanted("big")
    monkeypatch.setattr(window, "why_no_window", lambda: "no screen")
    assert not wanted("auto")
    with pytest.raises(SinkError, match="view=window: no screen"):
        wanted("window")


def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "DISPLAY is not set" in str(window.why_no_window())
    monkeypatch.setenv("DISPLAY", ":97")
    reason = str(window.why_no_window())
    assert "check DISPLAY" in reason and "pip install --force-reinstall --no-deps opencv-python" in reason


def test_t_trains_and_its_progress_is_shown(screen: type[Screen], tmp_path: Path, monkeypatch) -> None:
    calls: list[str] = []

    class Training:
        def start(self) -> str:
            calls.append("start")
            return "training starts"

        def poll(self) -> str | None:
            return f"training, {calls.count('poll')} s" if calls and not calls.append("poll") else None

        def stop(self) -> None:
            calls.append("stop")

    real = window.Window.__init__
    monkeypatch.setattr(window.Window, "__init__", lambda self, *given: real(self, *given, Training()))
    screen(".t..q")
    watch(tmp_path)
    assert calls == ["start", "poll", "poll", "poll", "stop"]
