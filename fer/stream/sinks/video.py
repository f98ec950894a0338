"""Annotated video with the source's sound: it plays whatever ended its run."""

import heapq
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from fer.stream.sinks.base import Sink, mended, part_of
from fer.stream.types import Array, FrameResult

VIDEO_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FRAGMENT_SECONDS = 2
_COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Sound that MP4 and MOV hold as it is; other sound becomes AAC."""


class VideoFile(Sink):
    """Annotated video: H.264, yuv420p, even sides, the source's timestamps and sound, its index in front so that
    browsers can play it while it loads.

    It grows beside its name, hidden, in fragments of two seconds, each of which plays however the program ends; when
    the run ends, in whatever way, they become one file under the name.

    rate: frames a second. sound: the file whose sound is taken. The size is the first frame's; later frames of
    other sizes are scaled to it. Raises `SinkError`.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, rate: Fraction, threads: int | None = None, sound: Path | None = None) -> None:
        self.path, self._part = path, part_of(path)
        self._rate, self._threads, self._sound = rate, threads, sound
        # Fine enough for a source of uneven pace, and a whole number of ticks for each frame of an even one.
        self._tick = Fraction(1, rate.numerator * ceil(12_000 / rate.numerator))
        self._container: av.container.OutputContainer | None = None
        self._first: float | None = None  # seconds
        self._last = -1  # in ticks

    def __enter__(self) -> "VideoFile":
        with mended(self.path):
            self._part.unlink(missing_ok=True)
        return self

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        with mended(self.path):
            if self._first is None:
                self._first = result.frame.time
            # Players refuse time that stands still or runs backwards; broken sources have both.
            self._last = max(self._last + 1, round((result.frame.time - self._first) / self._tick))
            if self._container is None:
                self._open(picture)
            assert self._container is not None
            size = self._stream.width, self._stream.height
            frame = av.VideoFrame.from_ndarray(_even(picture, size), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base = self._last, self._tick
            frame.duration = round(1 / self._rate / self._tick)
            self._container.mux(self._stream.encode(frame))

    def _open(self, picture: Array) -> None:
        # Absolute, since FFmpeg takes `a:b.mp4` for the protocol `a`.
        self._container = av.open(f"file:{self._part.absolute()}", "w", format="mp4", options=_FRAGMENTS)
        options = {"preset": "veryfast", "crf": "20", "g": str(max(1, round(_FRAGMENT_SECONDS * self._rate)))}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._tick
        context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1  # BT.709
        context.color_range = ColorRange.MPEG
        if self._threads is not None:
            context.thread_count = self._threads
        self._stream = stream

    def close(self, whole: bool) -> None:
        with mended(self.path):
            try:
                if self._container is not None:
                    try:
                        self._container.mux(self._stream.encode(None))
                    finally:
                        self._container.close()
            finally:  # the fragments until then play
                if self._part.exists() and _mended(self._part):
                    self._finish()

    def _finish(self) -> None:
        try:
            _put_together(self._part, self.path, self._rate, self._sound, self._first or 0.0)
        except (OSError, av.error.FFmpegError):
            self._part.replace(self.path)  # no room for a copy, but it plays as it is
            raise
        self._part.unlink()


def _mended(path: Path) -> bool:
    """Cut the last fragment off a file of them where it was cut short; whether anything is left."""
    with path.open("rb+") as file:
        size, place, good = path.stat().st_size, 0, 0
        while place + 8 <= size:  # the boxes of ISO 14496-12: their length, then their kind
            file.seek(place)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length < 8 or place + length > size:
                break
            place += length
            good = good if kind == b"moof" else place  # its pictures come in the next box
        file.truncate(good)
    return good > 0


def _put_together(part: Path, path: Path, rate: Fraction, sound: Path | None, first: float) -> None:
    """A file of fragments and the sound of another from `first` seconds on, as one file."""
    kind = VIDEO_FORMATS[path.suffix.lower()]
    whole = path.with_name(f".{path.name}.whole")
    try:
        with ExitStack() as stack:
            container = stack.enter_context(av.open(f"file:{part.absolute()}"))
            options = {} if kind == "matroska" else {"movflags": "+faststart"}
            out = stack.enter_context(av.open(f"file:{whole.absolute()}", "w", format=kind, options=options))
            video = out.add_stream_from_template(container.streams.video[0])
            video.codec_context.framerate = rate
            tracks = [_pictures(container, video)]
            if sound is not None:
                tracks += _sounds(stack, sound, out, kind, first, (container.duration or 0) / av.time_base)
            for _, _, packet in heapq.merge(*tracks, key=lambda item: item[:2]):
                out.mux(packet)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


def _pictures(container: Any, video: Any) -> Iterator[tuple[float, int, Any]]:
    offset: int | None = None
    for packet in container.demux(video=0):
        if packet.size:
            offset = packet.pts if offset is None else offset  # the first packet is the earliest picture
            packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, video
            yield float(packet.dts * packet.time_base), 0, packet


def _sounds(stack: ExitStack, path: Path, out: Any, kind: str, first: float, length: float) -> list[Any]:
    """The sound of a file as packets for `out`, from `first` seconds on and `length` seconds long; none is no error."""
    try:
        source = stack.enter_context(av.open(f"file:{path.absolute()}", metadata_errors="replace"))
        stream = source.streams.audio[0]
        if stream.codec_context is None:  # FFmpeg does not know it
            return []
        codec = stream.codec_context.name
    except (av.error.FFmpegError, OSError, IndexError):
        return []
    start = (source.start_time or 0) / av.time_base + first
    if codec in _COPIED or kind == "matroska":
        return [_copied(source, stream, out.add_stream_from_template(stream), start, length)]
    target = out.add_stream("aac", rate=stream.codec_context.sample_rate)
    target.layout = stream.codec_context.layout
    return [_encoded(source, stream, target, start, length)]


def _copied(source: Any, stream: Any, target: Any, start: float, length: float) -> Iterator[tuple[float, int, Any]]:
    offset = round(start / stream.time_base)
    with suppress(av.error.FFmpegError):  # a damaged end is left out
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            time = float(packet.pts * packet.time_base)
            if time > length:
                return
            if time >= 0:
                packet.stream = target
                yield time, 1, packet


def _encoded(source: Any, stream: Any, target: Any, start: float, length: float) -> Iterator[tuple[float, int, Any]]:
    rate = target.codec_context.sample_rate
    resampler = av.AudioResampler("fltp", target.layout, rate)
    samples: int | None = None  # of the film's time that have been heard

    def pieces() -> Iterator[Any]:
        nonlocal samples
        with suppress(av.error.FFmpegError):  # a damaged end is left out
            for frame in source.decode(stream):
                time = (frame.time or 0.0) - start
                if time > length:
                    break
                if time < 0:
                    continue
                samples = round(time * rate) if samples is None else samples
                for piece in resampler.resample(frame):
                    piece.pts, piece.time_base = samples, Fraction(1, rate)
                    samples += piece.samples
                    yield piece
        yield None

    for piece in pieces():
        for packet in target.encode(piece):
            yield float(packet.pts * packet.time_base), 1, packet


def _even(picture: Array, size: tuple[int, int]) -> Array:
    """`picture` at `size` (width, height), of even sides: one repeated row or column where its own are odd."""
    height, width = picture.shape[:2]
    if (width + width % 2, height + height % 2) != size:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if (width, height) == size:
        return picture
    return cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
