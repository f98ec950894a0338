import base64
import threading
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch import nn

from fer import artifact
from fer.errors import ConfigError
from fer.faces.types import Faces
from fer.stream import Recognizer, recognizer
from fer.stream.browser.viewers import Viewers
from fer.stream.draw.blur import Blur
from fer.stream.types import Frame, FrameResult

ALICE, BOB = "a" * 32, "b" * 32


class Bright:
    """Finds a face wherever a frame is bright."""

    def __call__(self, frame: Frame) -> Faces:
        rows, columns = np.nonzero(frame.image[..., 0] > 200)
        if not len(rows):
            return Faces.none()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Faces(np.array([box], np.float32), np.full(1, 0.9, np.float32))


def jpeg(left: int | None, size: tuple[int, int] = (160, 120), ending: str = ".jpg") -> str:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    if left is not None:
        image[30:80, left : left + 40] = 255
    return "data:image/jpeg;base64," + base64.b64encode(cv2.imencode(ending, image)[1].tobytes()).decode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 3))
    metadata = artifact.Metadata(("a", "b", "c"), 1, 16, (0.5,), (0.25,))
    return artifact.save(network, metadata, tmp_path_factory.mktemp("model") / "model.ts")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def one_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    monkeypatch.setattr(recognizer, "Detector", lambda **_: Bright())
    return Recognizer(model)


@pytest.fixture
def viewers(one_model: Recognizer, clock: Clock) -> Viewers:
    return Viewers(one_model, clock)


def look(viewers: Viewers, key: str, left: int | None, times: int = 3) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for _ in range(times):
        result = viewers.recognize({"viewer": key, "image": jpeg(left)})
    return result


def test_a_result_has_the_row_and_the_size(viewers: Viewers) -> None:
    result = look(viewers, ALICE, 20)
    (face,) = result["faces"]
    assert (result["width"], result["height"], face["id"]) == (160, 120, 1)
    assert face["box"] == pytest.approx([20, 30, 60, 80], abs=2)
    assert set(face["probabilities"]) == {"a", "b", "c"}


def test_with_blur_each_result_has_the_picture_to_show(one_model: Recognizer) -> None:
    class Everything(Blur):
        def over(self, results: Generator[FrameResult], live: bool = False) -> Generator[FrameResult]:
            assert live
            for result in results:
                yield replace(result, frame=replace(result.frame, image=np.full_like(result.frame.image, 77)))

    viewers = Viewers(one_model, every=3, blur=partial(Everything, "faces"))
    for _ in range(3):
        result = look(viewers, ALICE, 20, times=1)
        data = np.frombuffer(base64.b64decode(result["picture"].partition(",")[2]), np.uint8)
        shown = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert shown.shape == (120, 160, 3) and np.abs(shown.astype(int) - 77).max() <= 2
        assert "carried" not in result, "blur searches every frame"
    look(viewers, BOB, 20)


def test_of_every_third_frame_the_others_keep_the_faces(one_model: Recognizer) -> None:
    viewers = Viewers(one_model, every=3)
    rows = [look(viewers, ALICE, 20, times=1) for _ in range(9)]
    carried = [row.get("carried", False) for row in rows]
    assert carried[3:] == [False, True, True] * 2 and not carried[0]
    assert all(row["faces"] == rows[3]["faces"] for row in rows[4:6]) and "picture" not in rows[0]
    with pytest.raises(ConfigError, match="every=0"):
        one_model.session(every=0)


def test_nobody_sees_the_ids_or_faces_of_others(viewers: Viewers) -> None:
    for _ in range(4):
        mine, theirs = look(viewers, ALICE, 10, times=1), look(viewers, BOB, 110, times=1)
    assert [face["id"] for face in mine["faces"]] == [1] and mine["faces"][0]["box"][0] < 20
    assert [face["id"] for face in theirs["faces"]] == [1] and theirs["faces"][0]["box"][0] > 100
    assert look(viewers, "c" * 32, None)["faces"] == []


def test_no_more_than_32_at_a_time_until_one_disconnects_or_is_idle(viewers: Viewers, clock: Clock) -> None:
    for i in range(32):
        assert "error" not in look(viewers, f"{i:032x}", None, times=1)
    assert "try again later" in look(viewers, ALICE, None, times=1)["error"]
    assert "error" not in look(viewers, f"{0:032x}", None, times=1)
    viewers.disconnect(f"{0:032x}")
    viewers.disconnect("unknown")
    assert "error" not in look(viewers, ALICE, None, times=1)
    assert "error" in look(viewers, BOB, None, times=1)
    clock.now = 10.5
    assert "error" not in look(viewers, BOB, None, times=1)


@pytest.mark.parametrize(
    "request_",
    [
        {"viewer": ALICE, "image": "data:image/jpeg;base64,%%"},
        {"viewer": ALICE, "image": "http://example.org/a.jpg"},
        {"viewer": ALICE, "image": jpeg(None, ending=".png")},
        {"viewer": ALICE, "image": jpeg(None, (2000, 10))},
        {"viewer": ALICE, "image": jpeg(None)[:80]},
        {"viewer": ALICE, "image": "data:image/jpeg;base64," + "A" * 5_000_000},
    ],
)
def test_an_image_that_is_no_jpeg_is_refused_in_words(viewers: Viewers, request_: dict[str, str]) -> None:
    assert "load" in viewers.recognize(request_)["error"]


def test_many_threads(viewers: Viewers) -> None:
    bad: list[object] = []

    def watch(key: str, left: int) -> None:
        for _ in range(20):
            faces = look(viewers, key, left, times=1)["faces"]
            if any(face["id"] != 1 or abs(face["box"][0] - left) > 3 for face in faces):
                bad.append(faces)

    threads = [threading.Thread(target=watch, args=(key, left)) for key, left in ((ALICE, 10), (BOB, 100))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not bad
