"""The library: emotions from a picture, a stream, or single frames.

from fer.stream import Recognizer

recognizer = Recognizer()
for result in recognizer.stream("clip.mp4"):
    print(result.frame.time, result.emotions())
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np

from fer.artifact.trust import accept
from fer.checks import check_flag, check_number
from fer.files import expand
from fer.stream import pipeline
from fer.stream.faces.classify import load_face_classifier
from fer.stream.faces.detect import Detector
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.pipeline import TemporalState
from fer.stream.sources import Source, open_source
from fer.stream.sources.stills import read_still
from fer.stream.stats import Stats
from fer.stream.types import Array, Detections, Faces, Frame, FrameResult


class Recognizer:
    """A detector and an artifact, loaded once. Its streams and sessions may run in different threads.

    Args:
        artifact: The model file, None for the bundled one.
        trust: Run a TorchScript file that was made elsewhere.
        device: auto, cpu or cuda.
        threads: CPU threads of PyTorch and of OpenCV each, set for the whole process; None for half of the cores.
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
    ) -> None:
        check_flag("trust", trust)
        check_number("threads", threads, 1, 256, whole=True, optional=True)
        self._detector, self._lock = Detector(**(detector or {})), threading.Lock()
        self._tracking, self._smoothing, self._threads = tracking or {}, smoothing or {}, threads
        self._state(tracked=False)  # checks the values for smoothing
        if trust and artifact is not None:
            accept([str(artifact)])
        _limit_threads(threads)
        self.classify = load_face_classifier(artifact, device)
        self.classes: tuple[str, ...] = self.classify.classes

    def detect(self, frame: Frame) -> Faces:
        """Return the faces of one frame, without ids. Threads take turns."""
        with self._lock:
            return self._detector(frame)

    def _state(self, tracked: bool) -> TemporalState:
        smoother = Smoother(**self._smoothing)
        return TemporalState(Tracker(**self._tracking) if tracked else None, smoother)

    def __call__(self, image: str | Path | Array) -> FrameResult:
        """Return the faces of one picture, without ids or smoothing.

        Args:
            image: A file, or uint8 (H, W, 3) RGB.

        Raises:
            SourceError: The file is not a picture.
            ValueError: The array has another shape or dtype.
        """
        if isinstance(image, np.ndarray):
            frame = Frame(np.ascontiguousarray(image), 0, 0.0, file="")
        else:
            path = expand(image)
            frame = Frame(read_still(path), 0, 0.0, file=path.name)
        return self._recognize(frame, self._state(tracked=False))

    def _recognize(self, frame: Frame, state: TemporalState, cut: bool = False) -> FrameResult:
        item = state.identify(Detections(frame, self.detect(frame), cut=cut))
        (probabilities,) = self.classify([(frame, item.faces)])
        return state.result(item, self.classes, probabilities)

    def stream(
        self,
        source: int | str | Path | Source,
        *,
        every: int = 1,
        max_frames: int | None = None,
        stats: Stats | None = None,
    ) -> Generator[FrameResult]:
        """Yield the result of each frame of a camera, video, folder or URL; see `fer.stream.pipeline.results`.

        Args:
            source: An open source, or a value for `open_source`.
            every: Search every k-th frame for faces.
            max_frames: Stop after this many frames, None for all.
            stats: Receives counts and times.

        Raises:
            SourceError: The source cannot be read.
            ConfigError: A value is out of range.
        """
        check_number("max_frames", max_frames, 1, 1e9, whole=True, optional=True)
        if not isinstance(source, Source):
            source = open_source(str(source) if isinstance(source, Path) else source, self._threads)
        state = self._state(tracked=not source.still)
        results = pipeline.results(source, self.detect, self.classify, state, stats or Stats(), every)
        with closing(results):
            yield from islice(results, max_frames)

    def session(self) -> "Session":
        """Return a session for one viewer, whose frames come from elsewhere, such as a browser."""
        return Session(self, self._state(tracked=True))


class Session:
    """`session(image, time)` → `FrameResult` of one viewer's next frame, with that viewer's own ids and smoothing.

    A new face is left out until it is detected a second time, unless the scene has just begun or the frame before is
    more than `tracking.lost` away. Threads take turns.
    """

    def __init__(self, recognizer: Recognizer, state: TemporalState) -> None:
        self._recognizer, self._state, self._is_cut = recognizer, state, SceneCutDetector()
        self._index, self._start, self._lock = count(), monotonic(), threading.Lock()

    def __call__(self, image: Array, time: float | None = None) -> FrameResult:
        """Return the result of the next frame.

        Args:
            image: uint8 (H, W, 3), RGB.
            time: Seconds, increasing from frame to frame; None to use the clock.

        Raises:
            ValueError: The image has another shape or dtype.
        """
        with self._lock:
            time = monotonic() - self._start if time is None else time
            frame = Frame(np.ascontiguousarray(image), next(self._index), time)
            return self._recognizer._recognize(frame, self._state, self._is_cut(frame.image))


def _limit_threads(threads: int | None) -> None:
    """Set the CPU threads of PyTorch and OpenCV for this process.

    Detection and classification run in parallel, so by default each gets half of the cores.
    """
    import torch

    threads = threads or max(1, cv2.getNumberOfCPUs() // 2)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
