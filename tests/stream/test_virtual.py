import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from test_logs import picture, result

from fer.errors import SinkError
from fer.stream.virtual import VirtualCamera


class Loopback:
    """In place of a camera of the system."""

    made: ClassVar[list["Loopback"]] = []

    def __init__(self, width: int, height: int, fps: float, device: str | None) -> None:
        self.width, self.height, self.fps, self.device = width, height, fps, device
        self.sent: list[np.ndarray] = []
        self.closed = False
        Loopback.made.append(self)

    def send(self, image: np.ndarray) -> None:
        self.sent.append(image)

    def close(self) -> None:
        self.closed = True


def test_frames_are_sent_at_the_size_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Loopback))
    with VirtualCamera("/dev/video10", Fraction(25)) as camera:
        camera.write(result(0), picture(64, 48))
        camera.write(result(1), None)
        camera.write(result(2), picture(31, 77))
    (made,) = Loopback.made
    assert (made.width, made.height, made.fps, made.device, made.closed) == (64, 48, 25.0, "/dev/video10", True)
    assert [image.shape for image in made.sent] == [(48, 64, 3)] * 2


def test_no_such_camera_and_no_library_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise RuntimeError("'v4l2loopback' backend:\n No v4l2 loopback device found")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=none))
    with (
        pytest.raises(SinkError, match="No v4l2 loopback device found; make one"),
        VirtualCamera("auto", Fraction(25)) as c,
    ):
        c.write(result(0), picture(64, 48))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"\[camera\]"), VirtualCamera("auto", Fraction(25)) as c:
        c.write(result(0), picture(64, 48))
