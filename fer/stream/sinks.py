"""Where results go: logs, annotated pictures, annotated video. The window has a file of its own."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import TextIOWrapper
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from fer.errors import SinkError
from fer.stream.types import Array, FrameResult

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
LOG_ENDINGS = (".jsonl", ".csv")


class Stop(Exception):
    """Raised by a sink whose user wants the run to end in good order, as by closing the window."""


class Sink:
    """Takes results one by one and writes as they come. A context manager.

    stage: its name in the statistics. draws: whether `write` needs the annotated picture. inline: whether it is called
    in the main thread, as windows must be, and not in one of its own.
    """

    stage = "write"
    draws = False
    inline = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what was written. After Ctrl-C that is kept; after any other error nothing stays
        half-written."""
        self.close(whole=kind is None or issubclass(kind, KeyboardInterrupt))

    def write(self, result: FrameResult, picture: Array | None) -> None:
        """`picture`: the annotated frame, uint8 (H, W, 3) RGB, or None where nobody draws or the frame has no picture.

        Raises `SinkError` where it cannot be written, `Stop` where the user has had enough.
        """
        raise NotImplementedError

    def close(self, whole: bool) -> None:
        """Called once, with whether what was written is to be kept."""


@contextmanager
def mended(path: Path) -> Iterator[None]:
    """Turn the errors of the system and of FFmpeg into a `SinkError` that names the file."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        why = getattr(error, "strerror", None) or error
        raise SinkError(f"cannot write {path}: {why}; choose another place, or make room and permit writing") from None


def part_of(path: Path) -> Path:
    """The name under which a file grows until it is whole: hidden, beside it."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is whole. Raises `SinkError`."""
    part = part_of(path)
    with mended(path):
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


class _Log(Sink):
    """A text file that grows row by row; every finished row is on disk, whatever happens next."""

    stage = "log"

    def __init__(self, path: Path, newline: str | None = None) -> None:
        self.path = path
        self._newline = newline
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        with mended(self.path):
            # File names need not be valid Unicode; what is not is written as \udcXX, which JSON can read.
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline=self._newline)
        return self

    def close(self, whole: bool) -> None:
        if self._file:
            with mended(self.path):
                self._file.close()


class JsonLines(_Log):
    """One JSON object per frame, faces or none, as `FrameResult.row` gives it. Raises `SinkError`."""

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        assert self._file is not None
        with mended(self.path):
            self._file.write(json.dumps(result.row(), ensure_ascii=False) + "\n")
            self._file.flush()


class Csv(_Log):
    """One row per face, and one with empty face fields for a frame without any. Raises `SinkError`.

    Columns: frame, time, (for stills: file, error,) id, x1, y1, x2, y2, score, emotion, confidence,
    probability_<class> for each class.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], stills: bool) -> None:
        super().__init__(path, newline="")
        self._frame = ["frame", "time", *(["file", "error"] if stills else [])]
        self._columns = [*self._frame, "id", "x1", "y1", "x2", "y2", "score", "emotion", "confidence"]
        self._columns += [f"probability_{name}" for name in classes]

    def __enter__(self) -> Self:
        super().__enter__()
        assert self._file is not None
        self._writer = csv.DictWriter(self._file, self._columns, extrasaction="ignore", lineterminator="\n")
        with mended(self.path):
            self._writer.writeheader()
            self._file.flush()
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        assert self._file is not None
        row = result.row()
        with mended(self.path):
            for face in row["faces"] or [{}]:
                self._writer.writerow({**{k: row.get(k) for k in self._frame}, **_flat(face)})
            self._file.flush()


def _flat(face: dict[str, Any]) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), face.get("box", ()), strict=False))
    return {**face, **corners, **{f"probability_{k}": v for k, v in face.get("probabilities", {}).items()}}


class Pictures(Sink):
    """Annotated stills, each whole under its name or not there. Raises `SinkError`.

    path: a file, or with `folder=True` a folder, where each still keeps its name; one of a format that cannot
    be written gets `.png` behind it.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, folder: bool) -> None:
        self.path = path
        self._folder = folder

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        path = self.path
        if self._folder:
            assert result.frame.file is not None
            path = self.path / result.frame.file
            if path.suffix.lower() not in IMAGE_ENDINGS:
                path = path.with_name(f"{path.name}.png")
        try:
            good, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        except cv2.error:
            good = False
        if not good:
            raise SinkError(f"cannot write {path}: {path.suffix} does not hold a picture of this size; use .png")
        write_whole(path, data.tobytes())


class VideoFile(Sink):
    """Annotated video: H.264, yuv420p, even sides, the source's timestamps, its index in front so that
    browsers can play it while it loads. No sound. Grows under a hidden name and is renamed when whole.

    rate: frames a second. The size is the first frame's; later frames of other sizes are scaled to it.
    Raises `SinkError`.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, rate: Fraction, threads: int | None = None) -> None:
        self.path = path
        self._part = part_of(path)
        self._rate = rate
        self._threads = threads
        # Fine enough for a source of uneven pace, and a whole number of ticks for each frame of an even one.
        self._tick = Fraction(1, rate.numerator * ceil(12_000 / rate.numerator))
        self._container: av.container.OutputContainer | None = None
        self._first = 0.0
        self._last = -1  # in ticks

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        with mended(self.path):
            if self._container is None:
                self._open(picture, result.frame.time)
            assert self._container is not None
            size = self._stream.width, self._stream.height
            frame = av.VideoFrame.from_ndarray(_even(picture, size), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            # Players refuse time that stands still or runs backwards; broken sources have both.
            self._last = max(self._last + 1, round((result.frame.time - self._first) / self._tick))
            frame.pts, frame.time_base = self._last, self._tick
            frame.duration = round(1 / self._rate / self._tick)
            self._container.mux(self._stream.encode(frame))

    def _open(self, picture: Array, time: float) -> None:
        kind = VIDEO_FORMATS[self.path.suffix.lower()]
        options = {} if kind == "matroska" else {"movflags": "+faststart"}
        # Absolute, since FFmpeg takes `a:b.mp4` for the protocol `a`.
        self._container = av.open(f"file:{self._part.absolute()}", "w", format=kind, options=options)
        stream = self._container.add_stream("libx264", rate=self._rate, options={"preset": "veryfast", "crf": "20"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._tick
        context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1  # BT.709
        context.color_range = ColorRange.MPEG
        if self._threads is not None:
            context.thread_count = self._threads
        self._stream, self._first = stream, time

    def close(self, whole: bool) -> None:
        if self._container is None:
            return
        try:
            with mended(self.path):
                if whole:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if whole:
                    self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)


def _even(picture: Array, size: tuple[int, int]) -> Array:
    """`picture` at `size` (width, height), of even sides: one repeated row or column where its own are
    odd."""
    height, width = picture.shape[:2]
    if (width + width % 2, height + height % 2) != size:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if (width, height) == size:
        return picture
    return cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
