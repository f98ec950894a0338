"""From a camera, a video or pictures to emotions, without anything that only training needs.

    sources → Frame → detect → Detections → track, classify, smooth → FrameResult → sinks

`pipeline.run` joins the stages. `types` has the values that pass between them.
"""

import os

# The C libraries print messages of their own to standard error, where ours are one line each. OpenCV reads these
# variables when it is first imported, so they are set before any module of this package can import it.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.info=false;*.warning=false")

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer.stream.recognizer import Recognizer as Recognizer

__all__ = ["Recognizer"]


def __getattr__(name: str) -> Any:
    """Import `Recognizer` when it is asked for. Much of this package works without a model."""
    if name != "Recognizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fer.stream.recognizer import Recognizer

    return Recognizer
