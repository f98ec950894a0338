"""A window that shows the annotated frames, where there is a screen to show it on."""

import os
import subprocess
import sys
import time
from collections import deque
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from fer.errors import SinkError
from fer.stream.draw.panel import WIDTH, panel
from fer.stream.sinks.base import Sink, Stop, write_whole
from fer.stream.sinks.collect import Collector
from fer.stream.types import Array, FrameResult

_TITLE = "fer"
_LARGEST = 1280, 720
_LOWEST = 420
"""Pixels of height that the panel needs for the keys."""
_NO_KEY = 0xFF

_INSTEAD = "use view=none with save=<file>"
_NO_GUI = (
    "this OpenCV was built without windows (opencv-python-headless lies over opencv-python); "
    "pip install --force-reinstall --no-deps opencv-python, or " + _INSTEAD
)


def why_no_window() -> str | None:
    """Why no window can be opened here, with the fix, in one line; None where it can."""
    build = cv2.getBuildInformation().split("GUI:", 1)[-1].lstrip().split("\n", 1)[0]
    if build.startswith("NONE"):
        return _NO_GUI
    if not sys.platform.startswith("linux"):
        return None
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "there is no screen (DISPLAY is not set); log in with a desktop or ssh -X, or " + _INSTEAD
    # Qt ends the whole process where it cannot reach the screen, so another process tries it first.
    probe = "import cv2; cv2.namedWindow('fer', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"
    try:
        answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=20)
        failed = answer.returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        failed = True
    if failed:
        return "no window opens on this screen; check DISPLAY with xdpyinfo, or " + _INSTEAD
    return None


class Window(Sink):
    """Shows each annotated frame, with a panel of every face's probabilities beside it.

    Keys: q or Escape quits, as closing the window does; space pauses; s saves a snapshot; h shows the keys; 1 to 7 (as
    many as the model has classes, up to 9) file the largest face as training data, u takes the last of them back.

    name: of the source. stills: wait for a key after each frame. snapshots: the folder of pictures. collector: files
    the faces. Where one of these is None its keys mean nothing. Raises `SinkError` where there is no screen.
    """

    stage = "show"
    draws = True
    inline = True

    def __init__(self, name: str, stills: bool, snapshots: Path | None, collector: Collector | None) -> None:
        self._name, self._stills, self._snapshots, self._collector = name, stills, snapshots, collector
        self._open = self._help = False
        self._said: tuple[str, float] = ("h shows the keys", time.monotonic() + 5)
        self._times: deque[float] = deque(maxlen=30)

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        self._times.append(time.monotonic())
        paused = self._stills
        try:
            if not self._open:
                self._size(picture)
            while True:
                cv2.imshow(_TITLE, cv2.cvtColor(self._composed(result, picture, paused), cv2.COLOR_RGB2BGR))
                key = cv2.waitKey(50 if paused else 1) & 0xFF
                if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1 or key in (ord("q"), 27):
                    raise Stop
                if key == ord(" ") and not self._stills:
                    paused = not paused
                elif key != _NO_KEY and not self._pressed(chr(key), result, picture) and self._stills:
                    return  # any other key shows the next picture
                if not paused:
                    return
        except cv2.error:
            raise SinkError(f"the window cannot be shown; {why_no_window() or 'use view=none'}") from None

    def _pressed(self, key: str, result: FrameResult, picture: Array) -> bool:
        """Do what a key means; False for one that means nothing."""
        if key == "h":
            self._help = not self._help
        elif key == "s" and self._snapshots:
            path = self._snapshots / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.png"
            _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            write_whole(path, data.tobytes(), new_folder=True)
            self._say(f"saved {path}")
        elif key == "u" and self._collector:
            taken = self._collector.undo()
            self._say(f"took back {taken.parent.name}/{taken.name}" if taken else "nothing to take back")
        elif self._collector and key.isdecimal() and 1 <= int(key) <= len(result.classes):
            filed = self._collector.file(result, result.classes[int(key) - 1])
            self._say(f"filed {filed.parent.name}/{filed.name}" if filed else "no face to file")
        else:
            return False
        return True

    def _say(self, text: str) -> None:
        self._said = text, time.monotonic() + 3

    def _composed(self, result: FrameResult, picture: Array, paused: bool) -> Array:
        height, width = picture.shape[:2]
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        shown = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tall = max(shown.shape[0], _LOWEST)
        if tall > shown.shape[0]:
            shown = cv2.copyMakeBorder(shown, 0, tall - shown.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(24, 26, 30))
        text, until = self._said
        lines = [self._speed(result, paused), text if time.monotonic() < until else ""]
        return np.hstack([shown, panel(result, tall, lines, self._keys(result.classes) if self._help else None)])

    def _speed(self, result: FrameResult, paused: bool) -> str:
        if paused:
            return "any key: next   q quits" if self._stills else "paused   space goes on"
        span = self._times[-1] - self._times[0]
        words = [f"{(len(self._times) - 1) / span:.0f} frames/s"] if span > 0 else []
        if result.frame.captured is not None:
            words.append(f"{(time.monotonic() - result.frame.captured) * 1000:.0f} ms")
        return "   ".join(words)

    def _keys(self, classes: tuple[str, ...]) -> list[str]:
        keys = ["q  quit", "space  pause", *(["s  snapshot"] if self._snapshots else []), "h  hide this"]
        if self._collector:
            keys += [f"{k}  file as {name}" for k, name in enumerate(classes[:9], 1)]
            keys += ["u  take the last back", f"filed under {self._collector.root}/"]
        return keys

    def _size(self, picture: Array) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.setWindowTitle(_TITLE, f"{self._name} – fer")
        height, width = picture.shape[:2]
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        cv2.resizeWindow(_TITLE, max(1, round(width * scale)) + WIDTH, max(_LOWEST, round(height * scale)))
        self._open = True

    def close(self, whole: bool) -> None:
        if self._open:
            cv2.destroyAllWindows()
