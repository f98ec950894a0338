"""A window that shows the annotated frames, and the registry of its keys."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from fer.checks import check_choice
from fer.errors import SinkError
from fer.faces.types import Array
from fer.stream.draw.panel import panel
from fer.stream.sinks.base import Context, Sink, Stop, write_output
from fer.stream.sinks.collect import Collector
from fer.stream.sinks.pictures import encode
from fer.stream.sinks.retrain import Retraining
from fer.stream.types import FrameResult

_TITLE = "fer"
_LARGEST = 1280, 720
_LOWEST = 420
"""Height in pixels that the panel needs to list the keys."""
_NO_KEY = 0xFF
_INSTEAD = "use view=none with save=<file>"


def wants_window(view: str, context: Context) -> bool:
    """Whether to open a window.

    Args:
        view: "none", "window", or "auto": in a terminal with a screen, and for stills only if nothing is written,
            because each of them waits for a key.
        context: The run, with its `paths`.

    Raises:
        SinkError: `view` is "window", and no window can be opened.
    """
    check_choice("view", view, ("auto", "window", "none"))
    unattended = not sys.stdin or not sys.stdin.isatty() or (context.source.still and context.paths)
    if view == "none" or (view == "auto" and unattended):
        return False
    why = why_no_window()
    if why and view == "window":
        raise SinkError(f"view=window: {why}")
    return why is None


def why_no_window() -> str | None:
    """Return in one line why no window can be opened here, with the fix; None if one can."""
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return f"there is no screen (DISPLAY is not set); log in with a desktop or ssh -X, or {_INSTEAD}"
    # Another process tries first, because Qt ends the whole process if it cannot reach the screen.
    probe = "import cv2; cv2.namedWindow('fer', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"
    try:
        subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return (
            "OpenCV cannot open one; check DISPLAY with xdpyinfo, or pip install --force-reinstall --no-deps "
            f"opencv-python if opencv-python-headless has replaced it, or {_INSTEAD}"
        )
    return None


class Window(Sink):
    """Shows each annotated frame, with a panel of every face's probabilities beside it. See `KEYS` for its keys.

    Args:
        name: Name of the source for the title bar.
        stills: Wait after each frame for a key that is not in `KEYS`.
        snapshots: Folder for saved pictures, None for no snapshots.
        collector: Files faces as training data; None to file none.
        retraining: Trains on them; None for no training.

    Attributes:
        result, picture: Faces and annotated image of the current frame.
        paused: Whether the next frame waits.
        helping: Whether the panel lists the keys.
    """

    stage = "show"
    draws = True
    inline = True
    result: FrameResult
    picture: Array

    def __init__(
        self,
        name: str,
        stills: bool,
        snapshots: Path | None,
        collector: Collector | None,
        retraining: Retraining | None = None,
    ) -> None:
        self.name, self.stills, self.snapshots, self.collector = name, stills, snapshots, collector
        self.retraining = retraining
        self.paused, self.helping, self._open = stills, False, False
        self._message: tuple[str, float] = ("h shows the keys", time.monotonic() + 5)
        self._times: deque[float] = deque(maxlen=30)

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        self.result, self.picture = result, picture
        self._times.append(time.monotonic())
        try:
            while True:
                if self.retraining and (message := self.retraining.poll()):
                    self._message = message, time.monotonic() + 8
                shown = self.compose()
                if not self._open:
                    cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
                    cv2.setWindowTitle(_TITLE, f"{self.name} – fer")
                    cv2.resizeWindow(_TITLE, shown.shape[1], shown.shape[0])
                    self._open = True
                cv2.imshow(_TITLE, cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
                pressed = cv2.waitKey(50 if self.paused else 1) & 0xFF
                if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
                    raise Stop
                unused = pressed != _NO_KEY and not self._press(chr(pressed))
                if not self.paused or (self.stills and unused):
                    return
        except cv2.error:
            raise SinkError(f"the window cannot be shown; {why_no_window() or 'use view=none'}") from None

    def _press(self, pressed: str) -> bool:
        """Run the action of a key. Return False if it has none in this window."""
        if pressed not in KEYS or not KEYS[pressed][2](self):
            return False
        if message := KEYS[pressed][0](self):
            self._message = message, time.monotonic() + 3
        return True

    def compose(self) -> Array:
        """Return the content of the window, uint8 (H, W, 3) RGB: the picture, scaled to fit, and the panel."""
        scale = min(1.0, _LARGEST[0] / self.picture.shape[1], _LARGEST[1] / self.picture.shape[0])
        shown = cv2.resize(self.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        below = max(0, _LOWEST - shown.shape[0])
        shown = cv2.copyMakeBorder(shown, 0, below, 0, 0, cv2.BORDER_CONSTANT, value=(24, 26, 30))
        message, until = self._message
        lines = [self._speed(), message if time.monotonic() < until else ""]
        return np.hstack([shown, panel(self.result, shown.shape[0], lines, self._help() if self.helping else None)])

    def _speed(self) -> str:
        if self.paused:
            return "any key: next   q quits" if self.stills else "paused   space continues"
        span = self._times[-1] - self._times[0]
        speed = f"{(len(self._times) - 1) / span:.0f} frames/s" if span > 0 else ""
        captured = self.result.frame.captured
        return speed if captured is None else f"{speed}   {(time.monotonic() - captured) * 1000:.0f} ms"

    def _help(self) -> list[str]:
        names, classes = {" ": "space", "\x1b": "Esc"}, self.result.classes
        return [f"{names.get(k, k)}  {label.format(*classes)}" for k, (_, label, when) in KEYS.items() if when(self)]

    def close(self, complete: bool) -> None:
        if self.retraining:
            self.retraining.stop()
        if self._open:
            cv2.destroyAllWindows()


Action = Callable[[Window], str | None]
When = Callable[[Window], object]
KEYS: dict[str, tuple[Action, str, When]] = {}
"""The keys of the window: action, label in the help, and condition."""


def key(character: str, label: str, when: When = lambda window: True) -> Callable[[Action], Action]:
    """Register the action of a key of the window. It replaces an earlier action of the same key.

    The function gets the `Window`. It may return a message to show, and raise `Stop` to end the run.

    Args:
        character: The key.
        label: Its description in the help; "{0}" is the name of the first class, and so on.
        when: Whether the key is active in a given window. An inactive key is not listed, and shows the next still.
    """

    def register(action: Action) -> Action:
        KEYS[character] = action, label, when
        return action

    return register


@key("\x1b", "quit")
@key("q", "quit")
def quit_run(window: Window) -> None:
    """End the run."""
    raise Stop


@key(" ", "pause", when=lambda window: not window.stills)
def pause(window: Window) -> None:
    """Pause at this frame, or continue."""
    window.paused = not window.paused


@key("s", "snapshot", when=lambda window: window.snapshots)
def save_snapshot(window: Window) -> str:
    """Save the annotated picture."""
    assert window.snapshots
    path = window.snapshots / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.png"
    write_output(path, encode(window.picture, path))
    return f"saved {path}"


@key("h", "hide this")
def show_keys(window: Window) -> None:
    """Show or hide the list of keys in the panel."""
    window.helping = not window.helping


def _file(number: int) -> None:
    """Register the key that files the largest face under the class with this number, counted from 1."""

    @key(
        str(number),
        f"file as {{{number - 1}}}",
        lambda window: window.collector and number <= len(window.result.classes),
    )
    def file_face(window: Window) -> str:
        assert window.collector
        path = window.collector.file(window.result, window.result.classes[number - 1])
        return f"filed {path}" if path else "no face to file"


for _number in range(1, 10):
    _file(_number)


@key("u", "undo the last one", when=lambda window: window.collector)
def undo_file(window: Window) -> str:
    """Delete the face that was filed last."""
    assert window.collector
    path = window.collector.undo()
    return f"removed {path}" if path else "nothing to undo"


@key("t", "train on filed faces", when=lambda window: window.retraining)
def train(window: Window) -> str:
    """Train on all filed faces, and go on with the new model."""
    assert window.retraining
    return window.retraining.start()
