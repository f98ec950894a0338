"""A window that shows the annotated frames, where there is a screen to show it on."""

import os
import subprocess
import sys

import cv2

from fer.errors import SinkError
from fer.stream.sinks import Sink, Stop
from fer.stream.types import Array, FrameResult

_TITLE = "fer (q quits)"
_LARGEST = 1280, 720

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
    """Shows each annotated frame. `q`, Escape or closing the window ends the run in good order.

    stills: wait for a key after each frame. Raises `SinkError` where there is no screen.
    """

    stage = "show"
    draws = True
    inline = True

    def __init__(self, stills: bool) -> None:
        self._stills = stills
        self._open = False

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        try:
            if not self._open:
                self._size(picture)
            cv2.imshow(_TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            while True:
                key = cv2.waitKey(50 if self._stills else 1) & 0xFF
                closed = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1
                if closed or key in (ord("q"), 27):
                    raise Stop
                if key != 0xFF or not self._stills:
                    return
        except cv2.error:
            raise SinkError(f"the window cannot be shown; {why_no_window() or 'use view=none'}") from None

    def _size(self, picture: Array) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        height, width = picture.shape[:2]
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        cv2.resizeWindow(_TITLE, max(1, round(width * scale)), max(1, round(height * scale)))
        self._open = True

    def close(self, whole: bool) -> None:
        if self._open:
            cv2.destroyAllWindows()
