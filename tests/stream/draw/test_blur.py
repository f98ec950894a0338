from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer.errors import ConfigError, SourceError
from fer.stream.draw.blur import Blur, hide
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import TemporalState, results
from fer.stream.stats import Stats
from fer.stream.types import Array, Faces, Frame, FrameResult

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
    assert shown[:14] == list(range(14)), "a quarter of a second before, of frames that are 40 ms apart"
    assert shown[14:] in ([*range(54, 60)], [*range(55, 60)]), "one second after"


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
    from fer.stream.faces.detect import Detector
    from fer.stream.sources import open_source

    find, search = Detector(), Detector(width=640, score=0.3)
    source = open_source(str(shared / "single_face.mp4"))
    stream = results(
        source, find, FakeFaceClassifier(("a", "b")), TemporalState(Tracker(), Smoother()), Stats(), every=5
    )
    assert sum(len(search(result.frame)) for result in Blur("faces").over(stream)) == 0
