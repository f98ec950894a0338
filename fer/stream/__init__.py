"""From a camera, a video or pictures to emotions, with nothing of training in it.

    sources → Frame → detect → Faces → classify → FrameResult → sinks

`pipeline.run` joins the stages; every value that passes between them is one of `types`.
"""

import os

# The C libraries write their own complaints to standard error; ours are one line each. OpenCV reads these
# once, when it is first imported, so they are set before any module of this package can import it.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.info=false;*.warning=false")

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer.stream.recognizer import Recognizer as Recognizer

__all__ = ["Recognizer"]


def __getattr__(name: str) -> Any:
    """`Recognizer`, imported when it is asked for: much of this package is used without a model."""
    if name != "Recognizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fer.stream.recognizer import Recognizer

    return Recognizer
