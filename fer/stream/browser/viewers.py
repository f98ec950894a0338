"""The viewers of the camera tab, each with ids and smoothing of its own."""

import base64
import io
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer.faces.types import Array
from fer.stream.draw.blur import Blur
from fer.stream.recognizer import Recognizer
from fer.stream.sinks.pictures import encode
from fer.stream.types import FrameResult

_Session = Callable[[Array], FrameResult]

_IDLE = 10.0
"""Seconds without a frame after which a viewer is removed."""
_MOST = 32
"""Viewers at a time."""
_LARGEST = 1920
"""Pixels of a frame's longer side."""


class Viewers:
    """Recognizes the frames of many pages, which secret keys keep apart.

    Args:
        recognizer: The model.
        clock: Seconds, never decreasing.
        every: Search every k-th frame of a viewer; not used with `blur`, which searches every frame.
        blur: Makes the `Blur` of a viewer, whose page then shows frames with hidden faces; None for nothing.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        clock: Callable[[], float] = time.monotonic,
        every: int = 1,
        blur: Callable[[], Blur] | None = None,
    ) -> None:
        self._recognizer, self._clock = recognizer, clock
        self._every, self._blur = 1 if blur else every, blur
        self._sessions: dict[str, tuple[_Session, float]] = {}  # with the time of their last frame
        self._lock = threading.Lock()

    def recognize(self, request: Mapping[str, str]) -> dict[str, Any]:
        """Process the next frame of a page.

        Args:
            request: `viewer`, a secret key that only this page knows, and `image`, a JPEG as a data URL.

        Returns:
            The log row of the frame with its `width` and `height` in pixels, and with `blur` the `picture` to show, a
            JPEG as a data URL; or an `error` in words.
        """
        page, image = request["viewer"], _decode(request["image"])
        if image is None:
            return {"error": f"this is not a JPEG of up to {_LARGEST} pixels; load the page again"}
        with self._lock:
            now = self._clock()
            self._sessions = {key: pair for key, pair in self._sessions.items() if pair[1] >= now - _IDLE}
            if page not in self._sessions and len(self._sessions) >= _MOST:
                return {"error": f"{_MOST} people use this page already; try again later"}
            session = self._sessions[page][0] if page in self._sessions else self._session()
            self._sessions[page] = session, now
        result = session(image)
        shown = {"picture": _encode(result.frame.image)} if self._blur else {}
        return {**result.row(), "width": image.shape[1], "height": image.shape[0], **shown}

    def _session(self) -> "_Session":
        session = self._recognizer.session(self._every)
        return _hiding(session, self._blur()) if self._blur else session

    def disconnect(self, page: str) -> None:
        """Remove a page that stops its camera."""
        with self._lock:
            self._sessions.pop(page, None)


def _hiding(session: _Session, blur: Blur) -> _Session:
    """Return a session whose results have frames in which faces are hidden."""
    waiting: list[FrameResult] = []
    lock = threading.Lock()

    def results() -> Generator[FrameResult]:
        while True:
            yield waiting.pop()

    hidden = blur.over(results(), live=True)

    def recognize(image: Array) -> FrameResult:
        with lock:
            waiting.append(session(image))
            return next(hidden)

    return recognize


def _encode(image: Array) -> str:
    """Return a data URL of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(encode(image, Path("frame.jpg"))).decode()


def _decode(url: str) -> Array | None:
    """Decode a data URL to uint8 (H, W, 3) RGB; None if it is not a JPEG, or too large."""
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:  # reads only the header
            return np.array(image.convert("RGB")) if max(image.size) <= _LARGEST else None
    except Exception:  # damaged data raises many kinds
        return None
