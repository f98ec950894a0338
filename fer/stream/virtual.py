"""A virtual camera that shows the annotated frames to other programs, such as a video call."""

from fractions import Fraction
from typing import Any

import cv2

from fer.errors import SinkError
from fer.stream.sinks.base import Sink
from fer.stream.types import Array, FrameResult


class VirtualCamera(Sink):
    """Sends each annotated frame to a virtual camera of this system, by way of `pyvirtualcam`.

    device: its name, such as /dev/video10 or "OBS Virtual Camera"; auto takes the first. rate: frames a second. Frames
    of another size than the first are scaled to it. Raises `SinkError` where there is none.
    """

    stage = "camera"
    draws = True

    def __init__(self, device: str, rate: Fraction) -> None:
        self._device, self._rate = device, rate
        self._camera: Any = None

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        if self._camera is None:
            self._camera = self._open(picture.shape[1], picture.shape[0])
        size = self._camera.width, self._camera.height
        if (picture.shape[1], picture.shape[0]) != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._camera.send(picture)

    def _open(self, width: int, height: int) -> Any:
        try:
            import pyvirtualcam
        except ImportError:
            raise SinkError('virtual_camera= needs pyvirtualcam; pip install -e ".[camera]"') from None
        device = None if self._device == "auto" else self._device
        try:
            return pyvirtualcam.Camera(width, height, float(self._rate), device=device)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise SinkError(
                f"virtual_camera={self._device}: {why}; make one with `modprobe v4l2loopback` on Linux, or install OBS"
            ) from None

    def close(self, whole: bool) -> None:
        if self._camera is not None:
            self._camera.close()
