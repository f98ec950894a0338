"""The library: emotions from a picture, a stream, or one frame after the other.

from fer.stream import Recognizer

recognizer = Recognizer()
for result in recognizer.stream("clip.mp4"):
    print(result.frame.time, result.emotions())
"""

import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fer.artifact.trust import accept
from fer.errors import ConfigError, SourceError
from fer.files import expand
from fer.stream import pipeline
from fer.stream.faces.classify import load_face_classifier
from fer.stream.faces.detect import Detector
from fer.stream.faces.smooth import Smoother
from fer.stream.pipeline import TemporalState
from fer.stream.sources import Source, open_source
from fer.stream.sources.stills import read_image
from fer.stream.stats import Stats
from fer.stream.types import Array, Faces, Frame, FrameResult

T = TypeVar("T")


class Recognizer:
    """A detector and an artifact, loaded once; every session and stream of it may run in a thread of its own.

    artifact: a model file; None is the bundled one. trust: run it although it was made elsewhere. device: auto, cpu or
    cuda. threads: of the CPU, for PyTorch and for OpenCV; None gives each of them half of the cores. detector,
    tracking, smoothing: arguments of `fer.stream.detect.Detector`, `fer.stream.track.Tracker` and
    `fer.stream.smooth.Smoother`.
    Raises `ArtifactError`, and `ConfigError` for values that cannot work.
    """

    def __init__(
        self,
        artifact: str | Path | None = None,
        *,
        trust: bool = False,
        device: str = "auto",
        threads: int | None = None,
        detector: Mapping[str, Any] | None = None,
        tracking: Mapping[str, Any] | None = None,
        smoothing: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(trust, bool):  # any word would do otherwise, "no" too
            raise ConfigError(f"trust={trust} must be true or false")
        self._detector, self._turn = _made(Detector, "detector", detector or {}), threading.Lock()
        self._tracking, self._smoothing = dict(tracking or {}), dict(smoothing or {})
        self.smoother()  # tells at once where its values cannot work
        self._threads = threads
        if trust and artifact is not None:
            accept([str(artifact)])
        self.classify = load_face_classifier(None if artifact is None else str(artifact), device, threads)
        self.classes: tuple[str, ...] = self.classify.classes

    def detect(self, frame: Frame) -> Faces:
        """The faces of one frame, without ids; threads take turns."""
        with self._turn:
            return self._detector(frame)

    def smoother(self) -> Smoother:
        """A new smoother, as configured."""
        return _made(Smoother, "smoothing", self._smoothing)

    def state(self, film: bool) -> TemporalState:
        """What one run remembers; for a `film` with ids."""
        if not film:
            return TemporalState(None, self.smoother())
        from fer.stream.faces.track import (
            Tracker,  # its library takes a second or two to import, which stills can do without
        )

        return TemporalState(_made(Tracker, "tracking", self._tracking), self.smoother())

    def __call__(self, image: str | Path | Array) -> FrameResult:
        """The faces of one picture: a file, or uint8 (H, W, 3) RGB. No ids, nothing smoothed.

        Raises `SourceError` for a file that is no picture, `ValueError` for an array of another kind.
        """
        if isinstance(image, np.ndarray):
            frame = Frame(np.ascontiguousarray(image), 0, 0.0, file="")
        else:
            path = expand(image)
            if not path.is_file():
                raise SourceError(f"no file {path}; give the path of a picture")
            frame = Frame(read_image(path), 0, 0.0, file=path.name)
        faces = self.detect(frame)
        return self.state(film=False).result(frame, faces, self.classes, self.classify([(frame, faces)])[0])

    def stream(
        self,
        source: int | str | Path | Source,
        *,
        every: int = 1,
        max_frames: int | None = None,
        stats: Stats | None = None,
    ) -> Iterator[FrameResult]:
        """The results of a camera, video, folder or URL, frame by frame; see `fer.stream.pipeline.results`.

        max_frames: end after so many. Closing the generator, or leaving it to the garbage, stops its threads. Raises
        `SourceError`, and `ConfigError` for values that cannot work.
        """
        if max_frames is not None and (type(max_frames) is not int or not 1 <= max_frames < 2**63):
            raise ConfigError(f"max_frames={max_frames} cannot work; give a whole number from 1, or null for all")
        opened = source if isinstance(source, Source) else open_source(_plain(source), self._threads)
        state = self.state(film=not opened.still)
        answers = pipeline.results(opened, self.detect, self.classify, self.classes, state, stats or Stats(), every)
        with closing(answers):
            yield from islice(answers, max_frames)

    def session(self) -> "Session":
        """One viewer's state, for frames that come from elsewhere, such as a browser."""
        return Session(self)


class Session:
    """`session(image, time)` → the result of one viewer's next frame, with that viewer's own ids and smoothing.

    A face is left out until it has been seen twice. Not for two threads at once.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        from fer.stream.faces.track import CutDetector

        self._recognizer, self._calm, self._is_cut = recognizer, recognizer.state(film=True), CutDetector()
        self._frames, self._start = 0, time.monotonic()

    def __call__(self, image: Array, time_: float | None = None) -> FrameResult:
        """image: uint8 (H, W, 3) RGB. time_: seconds, growing; None takes the clock. Raises `ValueError`."""
        now = time.monotonic() - self._start if time_ is None else time_
        frame = Frame(np.ascontiguousarray(image), self._frames, now)
        self._frames += 1
        tracker = self._calm.tracker
        assert tracker is not None
        if self._is_cut(frame.image):
            tracker.cut()
        faces = pipeline.with_ids(self._recognizer.detect(frame), tracker, now)
        answers: Sequence[Array] = self._recognizer.classify([(frame, faces)])
        return self._calm.result(frame, faces, self._recognizer.classes, answers[0])


def _made(kind: Callable[..., T], name: str, values: Mapping[str, Any]) -> T:
    """A `kind` with these values; `name` is what the config calls them."""
    taken = inspect.signature(kind)
    try:
        taken.bind(**values)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}; it takes {', '.join(taken.parameters)}") from error
    return kind(**values)


def _plain(source: int | str | Path) -> int | str:
    return str(source) if isinstance(source, Path) else source
