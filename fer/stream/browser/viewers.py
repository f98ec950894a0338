"""The people who look at the browser page: each with ids and smoothing of their own, gone when they go."""

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fer.stream.recognizer import Recognizer, Session
from fer.stream.types import Array

_IDLE = 10.0
"""Seconds without a frame after which a viewer has gone."""

_MOST = 32
"""Viewers at a time."""

_LARGEST = 4 * 2**20, 1920
"""Characters of a frame's text, pixels of its longer side."""

_PREFIX = "data:image/jpeg;base64,"


class Models:
    """The recognizers that may be chosen, each loaded when it is first asked for.

    load: makes the recognizer of a name. names: the first one is taken where a name is unknown.
    """

    def __init__(self, names: list[str], load: Callable[[str], Recognizer]) -> None:
        self.names = names
        self._load, self._loaded, self._lock = load, dict[str, Recognizer](), threading.Lock()

    def __getitem__(self, name: object) -> Recognizer:
        known = str(name) if name in self.names else self.names[0]
        with self._lock:
            if known not in self._loaded:
                self._loaded[known] = self._load(known)
            return self._loaded[known]


@dataclass(eq=False)
class _Viewer:
    session: Session
    model: object
    seen: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Viewers:
    """Predictions the frames of many pages, whose secret keys keep them apart.

    clock: seconds, growing.
    """

    def __init__(self, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._models, self._clock = models, clock
        self._viewers: dict[str, _Viewer] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many pages are looking."""
        with self._lock:
            self._forget()
            return len(self._viewers)

    def look(self, asked: object) -> dict[str, Any]:
        """The log row of a page's next frame, with its `width` and `height` in pixels, or an `error` in words.

        asked: `viewer`, 32 hexadecimal digits that only this page knows; `model`, a name; `image`, a JPEG as a data
        address.
        """
        if not isinstance(asked, Mapping) or not re.fullmatch("[0-9a-f]{32}", str(asked.get("viewer"))):
            return {"error": "this is not a page of this program; load it again"}
        image = _image(asked.get("image"))
        if image is None:
            return {"error": "that is no JPEG of up to 1920 pixels; load the page again"}
        viewer = self._viewer(str(asked["viewer"]), asked.get("model"))
        if viewer is None:
            return {"error": f"{_MOST} people are looking already; try again later"}
        with viewer.lock:
            result = viewer.session(image)
        return {**result.row(), "width": image.shape[1], "height": image.shape[0]}

    def leave(self, key: object) -> None:
        """Forget a page that says it closes."""
        with self._lock:
            self._viewers.pop(str(key), None)

    def _viewer(self, key: str, model: object) -> _Viewer | None:
        recognizer = self._models[model]
        with self._lock:
            self._forget()
            viewer = self._viewers.get(key)
            if viewer is None or viewer.model != model:
                if viewer is None and len(self._viewers) >= _MOST:
                    return None
                viewer = self._viewers[key] = _Viewer(recognizer.session(), model, 0.0)
            viewer.seen = self._clock()
            return viewer

    def _forget(self) -> None:
        now = self._clock()
        self._viewers = {key: viewer for key, viewer in self._viewers.items() if now - viewer.seen <= _IDLE}


def _image(text: object) -> Array | None:
    """A data address as uint8 (H, W, 3) RGB; None where it is no JPEG, or too large."""
    if not isinstance(text, str) or not text.startswith(_PREFIX) or len(text) > _LARGEST[0]:
        return None
    try:
        data = base64.b64decode(text[len(_PREFIX) :], validate=True)
        size = _jpeg_size(data)
        if size is None or max(size) > _LARGEST[1]:
            return None
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (binascii.Error, cv2.error):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG's header gives, before anything of that size is made."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[place + k : place + k + 2], "big") for k in (5, 7))
            return (width, height) if width and height else None
        place += 2 + length
    return None
