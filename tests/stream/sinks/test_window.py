"""The window's keys, with OpenCV's window replaced by one that presses them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.data import folder as image_folder
from fer.labels import EMOTIONS
from fer.stream.faces.classify import crop_face
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import TemporalState, results, run
from fer.stream.sinks import window
from fer.stream.sinks.collect import Collector
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
    places = (folder / "snapshots", Collector(folder / "faces", 0.1, 24)) if keeps else (None, None)
    view = window.Window("fake", stills, *places)
    state = TemporalState(Tracker(), Smoother())
    answers = results(source, FakeDetector(*faces), FakeFaceClassifier(EMOTIONS, 3), EMOTIONS, state, stats)
    run(answers, [view], stats)
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
    strips = [image[60:, -window.WIDTH :] for image in here.shown]
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


def test_what_was_filed_is_a_dataset(screen: type[Screen], tmp_path: Path) -> None:
    for second in range(3):
        screen("..1234567" + 4 * "4" + "...")
        watch(tmp_path, LARGE, frames=16)
        (session,) = (tmp_path / "faces").glob("20*")
        session.rename(tmp_path / "faces" / f"session {second}")
    splits = image_folder.read(tmp_path / "faces", size=24)
    assert splits["train"].classes == EMOTIONS
    assert sum(len(split) for split in splits.values()) == 33
