"""The library: emotions from a picture, a stream, or single frames.

from fer.stream import Recognizer

recognizer = Recognizer()
for result in recognizer.stream("clip.mp4"):
    print(result.frame.time, result.emotions())
"""

import logging
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from inspect import signature
from itertools import count, islice
from math import inf
from os import PathLike
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import cv2

from fer import ort
from fer.artifact.trust import accept
from fer.checks import check_flag, check_number, check_path
from fer.errors import ArtifactError, ConfigError, SourceError
from fer.faces.detect import Detector
from fer.faces.types import Faces
from fer.stream import pipeline
from fer.stream.faces.baseline import Baseline
from fer.stream.faces.classify import load_face_classifier
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.sources import Source, open_source
from fer.stream.sources.memory import as_rgb, check_time
from fer.stream.state import TemporalState
from fer.stream.stats import Stats
from fer.stream.types import Detections, Frame, FrameResult

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Recognizer:
    """A detector and an artifact, loaded once. Its streams and sessions may run in different threads.

    `classes` are the names of the model's classes, and `model` that of the file that runs, such as fast.int8.onnx.

    Args:
        artifact: The model file, or the name of an included model, of which the fastest file is used
            (`fer.artifact.fastest`); None for the bundled one.
        trust: Run a TorchScript file that was made elsewhere.
        device: auto, cpu, cuda or cuda:1.
        threads: CPU threads of each network, None for all cores, and half of them for searching films.
        baseline: Take the first seconds of each face of a film or session for its neutral face, and correct the rest by
            them; see `fer.stream.faces.baseline`. None for nothing.
        detector, tracking, smoothing: Arguments of `Detector`, `Tracker` and `Smoother` in `fer.stream.faces`.

    Raises:
        ConfigError: A value is unknown or out of range.
        ArtifactError: The model file cannot be used.
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
        baseline: float | None = None,
    ) -> None:
        check_flag("trust", trust)
        check_path("artifact", artifact)
        check_number("threads", threads, 1, 256, whole=True, optional=True)
        searched_on = device if ort.gpu() else "cpu"
        self._detector = _build(Detector, "detector", detector, device=searched_on, threads=threads)
        self._tracking, self._smoothing, self._baseline = tracking, smoothing, baseline
        self._state(tracked=False)  # checks the values for smoothing
        if trust and artifact is not None:
            accept([str(artifact)])
        self._device, self._threads = device, threads
        self.classify = load_face_classifier(artifact, device, threads)
        self.classes: tuple[str, ...] = self.classify.classes
        self.model = self.classify.model
        if baseline is not None:
            Baseline(baseline, self.classes)  # checks the value

    def use(self, artifact: str | Path) -> None:
        """Go on with another model of the same classes, in streams that are running as well.

        Raises:
            ArtifactError: The file cannot be used, or has other classes.
        """
        other = load_face_classifier(artifact, self._device, self._threads)
        if other.classes != self.classes:
            fix = f"start again with artifact={artifact}"
            raise ArtifactError(f"the new model knows {', '.join(other.classes)}, not the same classes; {fix}")
        self.classify.become(other)
        self.model = other.model

    def detect(self, frame: Frame) -> Faces:
        """Return the faces of one frame, without ids."""
        return self._detector(frame)

    def _state(self, tracked: bool) -> TemporalState:
        tracker = _build(Tracker, "tracking", self._tracking) if tracked else None
        baseline = Baseline(self._baseline, self.classes) if tracked and self._baseline is not None else None
        return TemporalState(tracker, _build(Smoother, "smoothing", self._smoothing), baseline)

    def __call__(self, image: Any) -> FrameResult:
        """Return the faces of one picture, without ids or smoothing.

        Args:
            image: A path or URL, or whatever `as_rgb` in `fer.stream.sources.memory` takes: uint8 (H, W, 3) RGB, grey,
                RGBA, a tensor, a PIL image, the bytes of a picture.

        Raises:
            SourceError: This is not one picture.
        """
        if isinstance(image, str | PathLike | bytes):
            with open_source(image) as source:
                if source.kind != "image":
                    raise SourceError(f"{source.name} is not one picture but a {source.kind}; use stream() for it")
                (frame,) = source
        else:
            frame = Frame(as_rgb(image), 0, 0.0, file="")
        return self._recognize(frame, self._state(tracked=False))

    def _recognize(self, frame: Frame, state: TemporalState, cut: bool = False) -> FrameResult:
        item, _ = state.identify(Detections(frame, self.detect(frame), cut=cut))
        (probabilities,) = self.classify([(frame, item.faces)])
        return state.result(item, self.classes, probabilities)

    def stream(
        self,
        source: Any,
        *,
        every: int = 1,
        max_frames: int | None = None,
        stats: Stats | None = None,
    ) -> Generator[FrameResult]:
        """Yield the result of each frame of a source; see `fer.stream.pipeline.results`.

        At the end, losses such as damaged frames and files that were not read are logged as warnings.

        Args:
            source: A camera index, a path of a video, picture or folder, a pattern, a URL, an open `Source`, or
                pictures in memory: a list, a tuple or (N, H, W, 3) holds pictures, each on its own; an iterator of
                pictures is a video of 30 frames per second; one of pairs (seconds, picture) has its own times.
            every: Search every k-th frame for faces.
            max_frames: Stop after this many frames, None for all.
            stats: Receives counts and times.

        Raises:
            SourceError: The source cannot be read.
            ConfigError: A value is out of range.
        """
        check_number("max_frames", max_frames, 1, 1e9, whole=True, optional=True)
        opened = source if isinstance(source, Source) else open_source(source)
        state = self._state(tracked=not opened.still)
        width, skip_still = self._detector.width, self._detector.skip_still
        stats = stats or Stats()
        results = pipeline.results(opened, self.detect, self.classify, state, stats, every, width, skip_still)
        with closing(results):
            yield from islice(results, max_frames)
        if opened is not source:  # whoever opened the source reads its notes
            for note in opened.notes:
                _log.warning(note)

    def session(self, every: int = 1) -> "Session":
        """Return a session for one viewer, whose frames come from elsewhere, such as a browser.

        Args:
            every: Search every k-th frame for faces, as in `stream`.

        Raises:
            ConfigError: `every` is not a whole number from 1.
        """
        check_number("every", every, 1, whole=True)
        return Session(self, self._state(tracked=True), every)


class Session:
    """`session(image, time)` → `FrameResult` of one viewer's next frame, with that viewer's own ids and smoothing.

    A new face is left out until it is detected a second time, unless the scene has just begun or the frame before is
    more than `tracking.lost` away. Threads take turns.
    """

    def __init__(self, recognizer: Recognizer, state: TemporalState, every: int = 1) -> None:
        self._recognizer, self._state, self._is_cut = recognizer, state, SceneCutDetector()
        self._every = every
        self._last: FrameResult | None = None
        self._index, self._start, self._time, self._lock = count(), monotonic(), -inf, threading.Lock()

    def __call__(self, image: Any, time: float | None = None) -> FrameResult:
        """Return the result of the next frame.

        Args:
            image: uint8 (H, W, 3) RGB, or whatever `as_rgb` in `fer.stream.sources.memory` takes.
            time: Seconds, increasing from frame to frame; None to use the clock.

        Raises:
            SourceError: This is not one picture, or the time does not increase.
        """
        picture = as_rgb(image)
        with self._lock:
            clock = max(monotonic() - self._start, self._time + 1e-3)
            self._time = check_time(clock if time is None else time, self._time)
            frame = Frame(picture, next(self._index), self._time)
            cut, tracker = self._is_cut(frame), self._state.tracker
            if self._last is None or frame.index % self._every == 0 or cut or (tracker and tracker.unsure):
                self._last = self._recognizer._recognize(frame, self._state, cut)
            else:
                self._last = replace(self._last, frame=frame, searched=False, cut=False)
            return self._last


def _build(kind: Callable[..., T], name: str, values: Mapping[str, Any] | None, **others: Any) -> T:
    if not isinstance(values, Mapping | None):
        raise ConfigError(f"{name}={values} must be a mapping, such as the one of {name} in conf/infer.yaml")
    try:
        signature(kind).bind(**(values or {}))
    except TypeError as error:
        raise ConfigError(f"{name}={values}: {error}; see the keys of {name} in conf/infer.yaml") from None
    return kind(**{**others, **(values or {})})


def limit_threads(threads: int | None) -> None:
    """Set the CPU threads of OpenCV and PyTorch for the whole process, as only a program may do, not a library.

    By default, each gets half of the cores, since the stages of a film run in parallel. Call it once the model is
    loaded: an ONNX artifact does without PyTorch, which is then not imported.

    Raises:
        ConfigError: `threads` is out of range.
    """
    check_number("threads", threads, 1, 256, whole=True, optional=True)
    threads = threads or ort.HALF
    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
