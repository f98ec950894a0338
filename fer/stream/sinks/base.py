"""What a sink is, and the registry of sinks by config key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import av

from fer.errors import SinkError
from fer.files import write_file
from fer.stream.sources.base import Kind, Source
from fer.stream.stats import Stats
from fer.stream.types import Array, FrameResult

FILMS: tuple[Kind, ...] = ("video", "camera", "network")
STILLS: tuple[Kind, ...] = ("image", "folder")


class Stop(Exception):
    """Raised by a sink to end the run in good order, as when the user closes the window."""


class Sink:
    """Receives results one by one and writes as they come. Used as a context manager.

    Attributes:
        stage: Its name in the statistics.
        draws: Whether `write` needs the annotated picture.
        inline: Whether it runs in the main thread, as windows must, instead of a thread of its own.
        frames: Whether it receives results at all; otherwise it is only opened and closed.
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
            SinkError: It cannot be written.
            Stop: The run shall end.
        """
        raise NotImplementedError

    def close(self, complete: bool) -> None:
        """Finish. Called once; `complete` is False if the run failed, but True if the user stopped it."""


@dataclass
class Context:
    """What a sink can know about its run.

    Attributes:
        source: Where the frames come from.
        classes: Names of the classes; set before a sink is entered.
        model: What reports call the model.
        stats: What the run counts.
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
    """One way in which a key can be fulfilled; see `sink`."""

    make: Callable[[Any, Context], Sink]
    endings: tuple[str, ...]
    sources: tuple[Kind, ...]
    value: Literal["file", "folder", "other"]


SINKS: dict[str, list[SinkType]] = {}
"""All sinks by config key. A key may have several, which differ in the sources or the endings that they fit."""

T = TypeVar("T", bound=Callable[..., Sink])


def sink(
    key: str,
    *endings: str,
    sources: tuple[Kind, ...] = (*STILLS, *FILMS),
    value: Literal["file", "folder", "other"] = "file",
) -> Callable[[T], T]:
    """Register a sink class, or a function that makes one, under a config key.

    It is called with the key's value and a `Context`. One that is registered under several keys is made once per run.

    Args:
        key: The config key, such as "log".
        endings: The file endings that it writes, such as ".csv"; none for any.
        sources: The kinds of source that it fits.
        value: What the key's value is. A "file" or "folder" is passed as a `Path`, after its ending, its folder and
            whether it can be written have been checked; anything "other" is passed as it is.
    """

    def register(make: T) -> T:
        SINKS.setdefault(key, []).append(SinkType(make, endings, sources, value))
        return make

    return register


@contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the system and of FFmpeg into a `SinkError` that names the path."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        why = getattr(error, "strerror", None) or error
        raise SinkError(f"cannot write {path}: {why}; choose another path, or make room and permit writing") from None


def write_output(path: Path, content: bytes | str) -> None:
    """Write a whole file, and its folder if there is none. Raise `SinkError` if that fails."""
    with sink_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
