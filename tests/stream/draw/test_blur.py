from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer.errors import ConfigError, SourceError
from fer.faces.types import Array, Faces
from fer.stream.draw import blur
from fer.stream.draw.blur import Blur, hide
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import results
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Frame, FrameResult

LEFT, RIGHT = (20.0, 30.0, 40.0, 54.0), (130.0, 30.0, 160.0, 66.0)
NOISE = np.random.default_rng(0).integers(0, 256, (96, 192, 3), dtype=np.uint8)


class Noise(FakeSource):
    """Frames of noise, in which what is hidden stands out by being smooth."""

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            yield replace(frame, image=NOISE.copy())


def hidden(result: FrameResult, box: tuple[float, ...]) -> bool:
    x1, y1, x2, y2 = (int(v) for v in box)
    return bool(result.frame.image[y1:y2, x1:x2].std() < 30 and not is_noise(result, box))


def is_noise(result: FrameResult, box: tuple[float, ...]) -> bool:
    x1, y1, x2, y2 = (int(v) for v in box)
    return np.array_equal(result.frame.image[y1:y2, x1:x2], NOISE[y1:y2, x1:x2])


def watched(
    source: FakeSource, *boxes: tuple[float, ...], blind: Sequence[int] = (), every: int = 1
) -> Iterator[FrameResult]:
    detect = FakeDetector(*boxes, blind=frozenset(blind))
    classify = FakeFaceClassifier(("a", "b"))
    return results(source, detect, classify, TemporalState(Tracker(), Smoother()), Stats(), every)


def blurred(
    whom: str, *boxes: tuple[float, ...], blind: Sequence[int] = (), every: int = 1, live: bool = False
) -> list[FrameResult]:
    output = list(Blur(whom).over(watched(Noise(60), *boxes, blind=blind, every=every), live))
    assert [result.frame.index for result in output] == list(range(60))
    return output


def test_every_face_in_every_frame_and_nothing_else() -> None:
    for result in blurred("faces", LEFT, RIGHT):
        assert hidden(result, LEFT) and hidden(result, RIGHT)
        assert is_noise(result, (60, 0, 100, 96)), "nothing else changes"


def test_more_than_the_box_is_hidden() -> None:
    for result in blurred("faces", LEFT):
        assert hidden(result, (LEFT[0] - 6, LEFT[1] - 6, LEFT[2] + 6, LEFT[3] + 6))


@pytest.mark.parametrize("every", [1, 3])
def test_frames_in_which_the_detector_misses_a_face(every: int) -> None:
    output = blurred("faces", LEFT, blind=[0, 1, 20, 21, 22, 40, 41], every=every)
    for result in output:
        assert hidden(result, LEFT), result.frame.index


def test_a_face_is_hidden_before_it_is_first_detected_and_after_it_was_last_detected() -> None:
    output = blurred("faces", LEFT, blind=[*range(20), *range(30, 60)])
    shown = [i for i, result in enumerate(output) if is_noise(result, LEFT)]
    assert shown[:8] == list(range(8)), "half a second before, of frames that are 40 ms apart"
    assert shown[8:] in ([*range(54, 60)], [*range(55, 60)]), "one second after"


def test_live_frames_are_not_buffered() -> None:
    frames = iter(blurred("faces", LEFT, blind=range(20), live=True))
    assert [is_noise(result, LEFT) for result in frames][:21] == [True] * 20 + [False]

    def endless() -> Iterator[FrameResult]:
        frame = Frame(NOISE, 0, 0.0)
        yield FrameResult(frame, Faces.none(), ("a",), np.zeros((0, 1), np.float32))
        raise AssertionError("asked for another frame first")

    assert next(Blur("faces").over(endless(), live=True)).frame.index == 0


def test_an_unconfirmed_face_is_hidden_too() -> None:
    output = blurred("faces", LEFT, blind=[i for i in range(60) if i != 30])
    assert not len(output[30].faces), "it is not tracked"
    assert hidden(output[30], LEFT)
    assert all(
        hidden(result, LEFT) for result in blurred("others", LEFT, blind=[i for i in range(60) if i != 30])[28:40]
    )


def test_others_spares_the_main_face_alone() -> None:
    for result in blurred("others", LEFT, RIGHT):
        assert is_noise(result, RIGHT) and hidden(result, LEFT)
    for result in blurred("others", LEFT, RIGHT, every=4):
        assert is_noise(result, RIGHT) and hidden(result, LEFT)


def test_others_keeps_to_its_choice_and_waits_a_second_for_the_next() -> None:
    boxes = np.array([LEFT, RIGHT], np.float32)

    def frames() -> Iterator[FrameResult]:
        for i in range(60):
            ids = [2] if i < 10 else [1, 2] if i < 20 else [1]
            shown = boxes[[k - 1 for k in ids]] if i >= 10 else boxes[:1]  # 2 is small at first, 1 is larger later
            faces = Faces(shown, np.ones(len(ids), np.float32), ids=np.array(ids, np.int64))
            yield FrameResult(Frame(NOISE, i, i / 25), faces, ("a",), np.ones((len(ids), 1), np.float32))

    output = list(Blur("others").over(frames(), live=True))
    assert all(is_noise(result, LEFT) for result in output[:10])
    assert all(is_noise(result, RIGHT) for result in output[10:20]), "2 was there first"
    assert all(hidden(result, LEFT) for result in output[10:44])
    assert all(is_noise(result, LEFT) for result in output[46:])


class Search:
    """In place of the detector of `Blur`: detects the next boxes at each call."""

    score = 0.6

    def __init__(self, *boxes: Sequence[tuple[float, ...]]) -> None:
        self._boxes = iter(boxes)

    def widths(self, frame: Frame) -> list[int]:
        return []

    def search(self, image: Array, widths: Sequence[int]) -> Faces:
        boxes = np.array(next(self._boxes), np.float32).reshape(-1, 4)
        return Faces(boxes, np.ones(len(boxes), np.float32))


def shift(box: tuple[float, ...], by: float) -> tuple[float, ...]:
    return box[0] + by, box[1], box[2] + by, box[3]


def over(
    patch: pytest.MonkeyPatch,
    boxes: Sequence[Sequence[tuple[float, ...]]],
    rate: float = 25,
    cut: int = -1,
    **more: object,
) -> list[FrameResult]:
    """Blur frames in which only the search of `Blur` detects anything, these boxes in each frame."""
    search = Search(*boxes)
    patch.setattr(blur, "Detector", lambda **_: search)
    nothing = Faces.none(), ("a",), np.zeros((0, 1), np.float32)
    frames = (FrameResult(Frame(NOISE, k, k / rate), *nothing, cut=k == cut) for k in range(len(boxes)))
    return list(Blur("faces").over(frames))


@pytest.mark.parametrize("every", [2, 5, 16, 30, 60, 90])
def test_every_frame_is_searched_whatever_every_is(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    boxes = [shift(LEFT, k) for k in range(100)]
    search = Search(*[[box] for box in boxes])
    monkeypatch.setattr(blur, "Detector", lambda **_: search)
    output = list(Blur("faces").over(watched(Noise(100), every=every)))
    assert all(hidden(result, box) for result, box in zip(output, boxes, strict=True))
    assert all(is_noise(result, (170, 0, 192, 96)) for result in output[:10]), "where it comes to, later"


@pytest.mark.parametrize("rate", [0.5, 5, 25, 240])
@pytest.mark.parametrize("missed", [1, 2, 4])
def test_a_face_is_hidden_between_two_detections(monkeypatch: pytest.MonkeyPatch, rate: float, missed: int) -> None:
    boxes = [shift(LEFT, 5 * k if k < 6 else 30 + 60 * (k - 5) / (missed + 1)) for k in range(6 + missed)]
    seen = [[box] if k < 6 else [] for k, box in enumerate(boxes)] + [[shift(LEFT, 90)]] * 3
    output = over(monkeypatch, seen, rate)
    for result, box in zip(output, boxes, strict=False):
        assert hidden(result, box), result.frame.index


@pytest.mark.parametrize("rate", [0.5, 2, 30])
def test_the_frame_before_the_first_detection_and_those_after_the_last_are_hidden(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    output = over(monkeypatch, [[]] * 3 + [[LEFT]] + [[]] * 3, rate)
    assert all(hidden(output[k], LEFT) for k in (2, 3, 4, 5))


def test_nothing_is_carried_over_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    output = over(monkeypatch, [[LEFT]] * 5 + [[RIGHT]] * 5, cut=5)
    assert all(hidden(r, LEFT) and is_noise(r, RIGHT) for r in output[:5])
    assert all(hidden(r, RIGHT) and is_noise(r, LEFT) for r in output[5:])


def test_a_face_that_is_there_for_one_frame_is_hidden_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    output = over(monkeypatch, [[LEFT]])
    assert hidden(output[0], LEFT)
    assert hidden(over(monkeypatch, [[]] * 9 + [[RIGHT]])[9], RIGHT)


def test_two_faces_side_by_side_do_not_take_each_others_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """The left one is missed while the right one comes close, and leaves again."""
    near = shift(LEFT, 22)
    seen = [[LEFT, shift(near, 30 - 10 * k)] for k in range(4)] + [[shift(near, 10 * k)] for k in range(6)]
    assert all(hidden(result, LEFT) for result in over(monkeypatch, seen))


def test_large_frames_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    search, made = Search(*[[]] * 9), 0
    monkeypatch.setattr(blur, "Detector", lambda **_: search)
    image = np.zeros((2160, 3840, 3), np.uint8)

    def frames() -> Iterator[FrameResult]:
        nonlocal made
        for k in range(9):
            made += 1
            yield FrameResult(Frame(image, k, k / 60), Faces.none(), ("a",), np.zeros((0, 1), np.float32))

    next(Blur("faces").over(frames()))
    assert made == 5, "96 MB of frames, and the next"


def test_of_others_whoever_is_in_doubt_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main face is shown where the results say so; elsewhere it may be somebody else's."""
    search = Search(*[[LEFT, RIGHT]] * 12)
    monkeypatch.setattr(blur, "Detector", lambda **_: search)

    def frames() -> Iterator[FrameResult]:
        for k in range(12):
            ids = [1] if k < 6 else [] if k < 8 else [1]
            faces = Faces(
                np.array([RIGHT] * len(ids), np.float32).reshape(-1, 4),
                np.ones(len(ids), np.float32),
                np.array(ids, np.int64),
            )
            result = FrameResult(Frame(NOISE, k, k / 25), faces, ("a",), np.ones((len(ids), 1), np.float32))
            yield replace(result, searched=k not in (2, 3))

    output = list(Blur("others").over(frames(), live=True))
    assert all(hidden(result, LEFT) for result in output)
    assert [is_noise(result, RIGHT) for result in output] == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2 + [
        True
    ] * 4


@pytest.mark.parametrize("rate", [0.5, 2, 25])
def test_the_next_largest_does_not_take_the_place_of_a_main_face_that_is_missed_once(rate: float) -> None:
    boxes = np.array([RIGHT, LEFT], np.float32)

    def frames() -> Iterator[FrameResult]:
        for k in range(6):
            shown = [1] if k == 3 else [0, 1]
            faces = Faces(boxes[shown], np.ones(len(shown), np.float32), np.array(shown) + 1)
            yield FrameResult(Frame(NOISE, k, k / rate), faces, ("a",), np.ones((len(shown), 1), np.float32))

    output = list(Blur("others").over(frames()))
    assert all(hidden(result, LEFT) for result in output)
    assert all(is_noise(result, RIGHT) for result in output if result.frame.index not in (2, 3, 4))


def test_what_every_means_is_said_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"every=2 .*blur=faces.*every=1"):
        Blur("faces").check(True, 2)
    assert "first detected" in str(Blur("others").check(True, 1))
    assert "every=30 is not used" in str(Blur("faces").check(False, 30))
    assert Blur("faces").check(False, 1) is None


def test_a_wrong_value_of_the_detector_is_named() -> None:
    with pytest.raises(ConfigError, match=r"detector\.width"):
        Blur("faces", {"width": 0})


def test_stills() -> None:
    boxes = np.array([LEFT, RIGHT], np.float32)

    def stills() -> Iterator[FrameResult]:
        for i in range(2):
            faces = Faces(boxes[i:], np.ones(2 - i, np.float32))
            yield FrameResult(Frame(NOISE, i, 0.0, f"{i}.png"), faces, ("a",), np.ones((2 - i, 1), np.float32))
        nothing = Faces.none(), ("a",), np.zeros((0, 1), np.float32)
        yield FrameResult(Frame(np.zeros((0, 0, 3), np.uint8), 2, 0.0, "2.png", "broken"), *nothing)

    first, second, broken = Blur("faces").over(stills())
    assert hidden(first, LEFT) and hidden(first, RIGHT)
    assert hidden(second, RIGHT) and is_noise(second, LEFT), "another picture is another scene"
    assert broken.frame.error == "broken"
    first, second, broken = Blur("others").over(stills())
    assert hidden(first, LEFT) and is_noise(first, RIGHT) and is_noise(second, RIGHT)


def test_hidden_faces_cannot_be_recovered() -> None:
    """Two faces whose coarse colours agree look the same once they are hidden."""
    rows, columns = np.mgrid[:96, :192]
    chess = np.where((rows + columns) % 2, 90, 130).astype(np.uint8)
    one, other = np.dstack([chess] * 3), np.full((96, 192, 3), 110, np.uint8)
    boxes: Array = np.array([(40, 20, 80, 68), (-5, -5, 10, 12), (180, 90, 400, 300), (300, 0, 310, 9)], np.float32)
    a, b = (hide(image, boxes, np.full(4, 0.3)) for image in (one, other))
    assert np.array_equal(a[20:68, 40:80], b[20:68, 40:80])
    assert np.array_equal(a[:10, :8], b[:10, :8]) and np.array_equal(one, np.dstack([chess] * 3))


def test_frames_before_an_error_come_first_and_closing_reaches_the_source() -> None:
    count = 0
    with pytest.raises(SourceError):
        for _ in Blur("faces").over(watched(Noise(20, fails_at=10), LEFT)):
            count += 1
    assert count == 10
    source = Noise(1000)
    over = Blur("faces").over(watched(source, LEFT))
    next(over)
    over.close()
    assert source.closed


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ConfigError, match="blur=all is unknown; choose faces, others or null"):
        Blur("all")


@pytest.mark.shared
def test_no_face_is_left_for_the_detector(shared: Path) -> None:
    from fer.faces.detect import Detector
    from fer.stream.sources import open_source

    find, search = Detector(), Detector(width=640, score=0.3)
    source = open_source(str(shared / "single_face.mp4"))
    stream = results(
        source, find, FakeFaceClassifier(("a", "b")), TemporalState(Tracker(), Smoother()), Stats(), every=5
    )
    assert sum(len(search(result.frame)) for result in Blur("faces").over(stream)) == 0
