from collections.abc import Iterator

import numpy as np
import pytest
from samples import frame_result

from fer.faces.types import Faces
from fer.stream.faces import missing
from fer.stream.faces.missing import Samples
from fer.stream.fakes import FakeDetector
from fer.stream.stats import Stats
from fer.stream.types import Frame, FrameResult

SETTINGS = {"width": 320, "still_width": 2880, "score": 0.6}


def results(frames: int, level: int = 200, size: tuple[int, int] = (36, 64), faces: int = 0) -> Iterator[FrameResult]:
    for index in range(frames):
        image = np.full((*size, 3), level, np.uint8)
        image[: size[0] // 2] = min(level, 250) + 5  # the upper half is the lighter one
        yield (
            FrameResult(Frame(image, index, index / 25), Faces.none(), ("a", "b"), np.zeros((0, 2), np.float32))
            if not faces
            else frame_result(index)
        )


def why(samples: Samples, given: Iterator[FrameResult], stats: Stats | None = None, **settings: object) -> str | None:
    stats = stats or Stats()
    for result in samples.over(each for each in given):
        stats.count(result)
    return samples.why(SETTINGS | settings, stats)


def sees(monkeypatch: pytest.MonkeyPatch, condition: str) -> None:
    """A detector that finds one face where an expression of the image, the width and the least score is true."""

    def make(width: int, still_width: int | None, score: float) -> FakeDetector | object:
        def detect(frame: Frame) -> Faces:
            names = {"image": frame.image, "width": width, "score": score, "still_width": still_width}
            return FakeDetector((1.0, 1.0, 9.0, 9.0))(frame) if eval(condition, names) else Faces.none()

        return detect

    monkeypatch.setattr(missing, "Detector", make)


@pytest.mark.parametrize(
    ("condition", "still", "words"),
    [
        ("width >= 600", False, "detector.width=640"),
        ("width >= 900", False, "detector.width=1280"),
        ("width >= 5000", True, "detector.still_width=5760"),
        ("score < 0.5", False, "detector.score=0.85"),
        ("image[0, 0, 0] < image[-1, 0, 0]", False, "hflip,vflip"),
        ("image[0, 0, 0] < image[0, -1, 0]", False, "transpose=1"),
        ("image[0, 0, 0] > image[0, -1, 0]", False, "transpose=2"),
        ("image[0, 0, 0] > image[0, -1, 0]", True, "anticlockwise; turn it first"),
    ],
)
def test_the_likeliest_cause_is_named(condition: str, still: bool, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, condition)
    said = why(Samples(still), results(9))
    assert said is not None and words in said and said.startswith("no face was found") and "\n" not in said


def test_dark_pictures_and_unconfirmed_faces_are_named() -> None:
    assert "dark" in str(why(Samples(False), results(3, level=10)))
    stats = Stats()
    stats.unconfirmed = 3
    assert "3 were found in a single search" in str(why(Samples(False), results(3), stats))


def test_there_is_nothing_to_say_without_a_cause_or_with_a_face() -> None:
    assert why(Samples(False), results(3)) is None
    assert why(Samples(False), results(3, faces=1)) is None
    assert why(Samples(True), iter([frame_result(0, faces=0, error="broken")])) is None
    assert why(Samples(False), iter([])) is None


def test_one_doubtful_frame_is_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, "width > 320 and image.shape[0] == 37")
    odd = results(1, size=(37, 64))
    assert why(Samples(False), (each for given in (odd, results(3)) for each in given)) is None


def test_few_frames_are_kept_however_long_the_film_is() -> None:
    samples = Samples(False)
    for k, _ in enumerate(samples.over(results(500, size=(50, 4000)))):
        assert len(samples._images) <= 4
        assert k < 100 or len(samples._images) >= 2
    assert {image.shape for image in samples._images} == {(24, 1920, 3)}
    for _ in samples.over(results(2, faces=1)):
        assert not samples._images
