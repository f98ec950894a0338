"""The viewers of the camera tab, each with ids and smoothing of its own."""

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer.artifact.trust import INCLUDED
from fer.stream.recognizer import Recognizer, Session
from fer.stream.types import Array

_IDLE = 10.0
"""Seconds without a frame after which a viewer is removed."""
_MOST = 32
"""Viewers at a time."""
_LARGEST = 1920
"""Pixels of a frame's longer side."""
_PREFIX = "data:image/jpeg;base64,"

Load = Callable[[str], Recognizer]


def models(chosen: Path | None, settings: Mapping[str, Any]) -> tuple[list[str], Load]:
    """Return the names of the chosen artifact, if any, and of the bundled ones, and a function that loads them.

    The function loads each artifact once, and the first one for an unknown name.
    """
    paths = {f"{path.stem} (bundled)": path for path in sorted(INCLUDED.glob("*.ts"))}
    if chosen is not None:
        paths = {chosen.name: chosen, **paths}
    names, load = list(paths), cache(partial(Recognizer, **settings))
    return names, lambda name: load(paths.get(name, paths[names[0]]))


@dataclass(eq=False)
class _Viewer:
    session: Session
    last: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Viewers:
    """Recognizes the frames of many pages, which secret keys keep apart.

    Args:
        load: Returns the recognizer of a model by its name.
        clock: Seconds, never decreasing.
    """

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._load, self._clock = load, clock
        self._viewers: dict[tuple[str, str], _Viewer] = {}
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
        page, model, image = str(values.get("viewer")), str(values.get("model")), _decode(values.get("image"))
        if not re.fullmatch("[0-9a-f]{32}", page) or image is None:
            return {"error": f"that is not a JPEG of up to {_LARGEST} pixels from this page; load the page again"}
        recognizer = self._load(model)
        with self._lock:
            oldest = self._clock() - _IDLE
            self._viewers = {key: viewer for key, viewer in self._viewers.items() if viewer.last >= oldest}
            if (page, model) not in self._viewers:
                if len(self._viewers) >= _MOST:
                    return {"error": f"{_MOST} people use this page already; try again later"}
                self._viewers[page, model] = _Viewer(recognizer.session())
            viewer = self._viewers[page, model]
            viewer.last = self._clock()
        with viewer.lock:
            result = viewer.session(image)
        return {**result.row(), "width": image.shape[1], "height": image.shape[0]}


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
