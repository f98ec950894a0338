"""The viewers of the camera tab, each with ids and smoothing of its own."""

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fer.stream.recognizer import Recognizer, Session
from fer.stream.types import Array

_IDLE = 10.0
"""Seconds without a frame after which a viewer is removed."""
_MOST = 32
"""Viewers at a time."""
_LARGEST = 1920
"""Pixels of a frame's longer side."""
_PREFIX = "data:image/jpeg;base64,"


class Models:
    """Recognizers by name, each loaded when it is first used.

    Args:
        names: The first one is used in place of an unknown name.
        load: Makes the recognizer of a name.
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
    last: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Viewers:
    """Recognizes the frames of many pages, which secret keys keep apart.

    Args:
        models: What they can choose from.
        clock: Seconds, never decreasing.
    """

    def __init__(self, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._models, self._clock = models, clock
        self._viewers: dict[str, _Viewer] = {}
        self._lock = threading.Lock()

    def recognize(self, request: Any) -> dict[str, Any]:
        """Process the next frame of a page.

        Args:
            request: `viewer`, 32 hexadecimal digits that only this page knows; `model`, a name; `image`, a JPEG as a
                data URL.

        Returns:
            The log row of the frame with its `width` and `height` in pixels, or an `error` in words.
        """
        values = request if isinstance(request, Mapping) else {}
        key, model, image = str(values.get("viewer")), values.get("model"), _decode(values.get("image"))
        if not re.fullmatch("[0-9a-f]{32}", key) or image is None:
            return {"error": f"that is not a JPEG of up to {_LARGEST} pixels from this page; load the page again"}
        recognizer = self._models[model]
        with self._lock:
            oldest = self._clock() - _IDLE
            self._viewers = {key: viewer for key, viewer in self._viewers.items() if viewer.last >= oldest}
            viewer = self._viewers.get(key)
            if viewer is None and len(self._viewers) >= _MOST:
                return {"error": f"{_MOST} people use this page already; try again later"}
            if viewer is None or viewer.model != model:
                viewer = self._viewers[key] = _Viewer(recognizer.session(), model)
            viewer.last = self._clock()
        with viewer.lock:
            result = viewer.session(image)
        return {**result.row(), "width": image.shape[1], "height": image.shape[0]}

    def disconnect(self, key: Any) -> None:
        """Remove a page that stops its camera."""
        with self._lock:
            self._viewers.pop(str(key), None)


def _decode(url: Any) -> Array | None:
    """Decode a data URL to uint8 (H, W, 3) RGB; None if it is not a JPEG, or too large."""
    if not isinstance(url, str) or not url.startswith(_PREFIX):
        return None
    try:
        data = base64.b64decode(url.removeprefix(_PREFIX), validate=True)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:  # reads only the header
            return np.array(image.convert("RGB")) if max(image.size) <= _LARGEST else None
    except Exception:  # whatever damaged data raises
        return None
