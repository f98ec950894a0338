"""The base class of all sinks, and the registry of sinks by config key."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import av

from fer.errors import SinkError
from fer.faces.types import Array
from fer.files import write_file
from fer.stream.sources.base import Kind, Source
from fer.stream.stats import Stats
from fer.stream.types import FrameResult

FILMS: tuple[Kind, ...] = ("video", "camera", "network")
STILLS: tuple[Kind, ...] = ("image", "folder")


class Stop(Exception):
    """Raised by a sink to end the run normally, for example when the user closes the window."""


class Sink:
    """Receives the results of a run one by one and writes them at once. Used as a context manager.

    Attributes:
        stage: Name of its time in the statistics.
        draws: Whether `write` needs the annotated picture.
        inline: Whether it runs in the main thread, as windows must, instead of its own thread.
        frames: Whether it receives results; if not, it is only opened and closed.
    """

    stage = "write"
    draws = False
    inline = False
    frames = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(kind is None or issubclass(kind, KeyboardInterrupt))

    def write(self, result: FrameResult, picture: Array | None) -> None:
        """Handle one result.

        Args:
            result: The next frame and its faces.
            picture: The annotated frame, uint8 (H, W, 3) RGB; None unless `draws`, and for frames without an image.

        Raises:
            SinkError: The result cannot be written.
            Stop: The user ends the run.
        """
        raise NotImplementedError

    def close(self, complete: bool) -> None:
        """Finish. Called once; `complete` is False if the run failed, and True if it ended or the user stopped it."""


@dataclass
class Context:
    """The run that a sink belongs to.

    Attributes:
        source: The source of the frames.
        classes: Names of the classes; set before a sink is entered.
        model: Name of the model file, such as fast.int8.onnx; set before a sink is entered.
        stats: Counts and times of the run.
        threads: Number of encoding threads, None for the encoder's default.
        paths: The file or folder of each sink that writes one, by key.
    """

    source: Source
    classes: tuple[str, ...] = ()
    model: str = ""
    stats: Stats = field(default_factory=Stats)
    threads: int | None = None
    paths: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class SinkType:
    """A sink as it was registered; see `sink` for the attributes."""

    make: Callable[[Any, Context], Sink]
    endings: tuple[str, ...]
    sources: tuple[Kind, ...]
    value: Literal["file", "folder", "other"]


SINKS: dict[str, list[SinkType]] = {}
"""All sinks by config key. Several sinks of one key differ in the sources or the endings that they fit."""

T = TypeVar("T", bound=Callable[..., Sink])


def sink(
    key: str,
    *endings: str,
    sources: tuple[Kind, ...] = (*STILLS, *FILMS),
    value: Literal["file", "folder", "other"] = "file",
) -> Callable[[T], T]:
    """Register a sink class, or a function that makes one, under a config key.

    It is called with the key's value and a `Context`. If it is registered under several keys, a run makes it only once.

    Args:
        key: The config key, such as "log".
        endings: The file endings that it writes, such as ".csv"; none for any.
        sources: The kinds of source that it fits.
        value: The type of the key's value. A "file" or "folder" is checked and passed as a `Path`; any "other" value is
            passed unchanged.
    """

    def register(make: T) -> T:
        SINKS.setdefault(key, []).append(SinkType(make, endings, sources, value))
        return make

    return register


_FIXES = {
    (errno.ENOSPC, errno.EDQUOT): "make room on its disk, or choose a path on another",
    (errno.EFBIG,): "its disk holds no files so large; choose a path on another",
    (errno.EACCES, errno.EPERM, errno.EROFS): "permit writing there, or choose another path",
    (errno.ENOENT, errno.ENOTDIR): "its folder is gone; make it again, or choose another path",
    (errno.ENAMETOOLONG,): "choose a shorter name",
}


@contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system and of FFmpeg into a `SinkError` that names the path and the fix."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        why = getattr(error, "strerror", None) or error
        fixes = (fix for numbers, fix in _FIXES.items() if getattr(error, "errno", None) in numbers)
        raise SinkError(f"cannot write {path}: {why}; {next(fixes, 'choose another path')}") from None


def write_output(path: Path, content: bytes | str) -> None:
    """Write a file, creating its folder if necessary. Raise `SinkError` if that fails."""
    with sink_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
