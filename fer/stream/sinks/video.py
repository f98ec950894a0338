"""Annotated video with the source's sound, which plays however the run ends."""

import heapq
import math
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace

from fer.files import atomic_write
from fer.stream.sinks.base import FILMS, Context, Sink, sink, sink_errors
from fer.stream.types import Array, FrameResult

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FRAGMENT_SECONDS = 2
_COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Sound that MP4 and MOV hold as it is; other sound becomes AAC."""

Packets = Iterator[tuple[float, Any]]
"""Packets with their time in seconds, by which streams are interleaved."""


@sink("save", *_FORMATS, sources=FILMS)
class VideoFile(Sink):
    """Annotated video: H.264, yuv420p, the source's timestamps and sound, its index in front so that browsers can play
    it while it loads.

    Until the run ends it grows in a hidden file beside `path`, in fragments of two seconds that play however the
    program ends. The size is that of the first frame, made even; frames of another size are scaled to it.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, context: Context) -> None:
        assert context.source.rate is not None
        self.path, self._part = path, path.with_name(f".{path.stem}.unfinished.mp4")
        self._rate, self._threads, self._sound = context.source.rate, context.threads, context.source.path
        # Fine enough for a source of uneven pace, and a whole number of ticks per frame of an even one.
        self._tick = Fraction(1, self._rate.numerator * math.ceil(12_000 / self._rate.numerator))
        self._container: Any = None
        self._first = 0.0  # seconds
        self._last = -1  # in ticks

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        with sink_errors(self.path):
            if self._container is None:
                self._first = result.frame.time
                self._container = self._open(picture)
            # Players refuse time that stands still or runs backwards; broken sources have both.
            self._last = max(self._last + 1, round((result.frame.time - self._first) / self._tick))
            frame = av.VideoFrame.from_ndarray(_fit(picture, self._stream.width, self._stream.height), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base = self._last, self._tick
            frame.duration = round(1 / self._rate / self._tick)
            self._container.mux(self._stream.encode(frame))

    def _open(self, picture: Array) -> Any:
        container = av.open(_url(self._part), "w", format="mp4", options=_FRAGMENTS)
        options = {"preset": "veryfast", "crf": "20", "g": str(max(1, round(_FRAGMENT_SECONDS * self._rate)))}
        self._stream: Any = container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.height, self._stream.width = (side + side % 2 for side in picture.shape[:2])
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = self._tick
        codec.colorspace, codec.color_primaries, codec.color_trc = 1, 1, 1  # BT.709
        codec.color_range = ColorRange.MPEG
        if self._threads is not None:
            codec.thread_count = self._threads
        return container

    def close(self, complete: bool) -> None:
        if self._container is None:
            return
        with sink_errors(self.path):
            try:
                with self._container:
                    self._container.mux(self._stream.encode(None))
            finally:  # what was written until then plays
                self._finish()

    def _finish(self) -> None:
        try:
            with atomic_write(self.path) as complete:
                _remux(self._part, complete, self._rate, self._sound, self._first)
        except Exception:  # such as no room for a copy; it plays as it is
            self._part.replace(self.path)
            raise
        self._part.unlink()


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"  # FFmpeg takes `a:b.mp4` for the protocol `a`


def _fit(picture: Array, width: int, height: int) -> Array:
    """Repeat the last row or column of an odd side, and scale what still has another size."""
    if picture.shape[0] % 2 or picture.shape[1] % 2:
        bottom, right = picture.shape[0] % 2, picture.shape[1] % 2
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def _remux(part: Path, path: Path, rate: Fraction, sound: Path | None, first: float) -> None:
    """Write the video of `part`, and what `sound` has to hear from `first` seconds on, as one file."""
    kind = _FORMATS[path.suffix.lower()]
    with ExitStack() as stack:
        source = stack.enter_context(av.open(_url(part)))
        options = {} if kind == "matroska" else {"movflags": "+faststart"}
        out = stack.enter_context(av.open(_url(path), "w", format=kind, options=options))
        video = out.add_stream_from_template(source.streams.video[0])
        video.codec_context.framerate = rate
        tracks = [_copied(source, source.streams.video[0], video, (source.start_time or 0) / av.time_base)]
        if sound is not None:
            tracks += _sounds(stack, sound, out, kind, first, (source.duration or 0) / av.time_base)
        for _, packet in heapq.merge(*tracks, key=lambda item: item[0]):
            out.mux(packet)


def _sounds(stack: ExitStack, path: Path, out: Any, kind: str, first: float, length: float) -> list[Packets]:
    """The sound of a file from `first` seconds on, `length` seconds of it; empty if it has none that is known."""
    try:
        source = stack.enter_context(av.open(_url(path), metadata_errors="replace"))
        stream = source.streams.audio[0]
        if stream.codec_context is None:  # FFmpeg has no decoder for it
            return []
    except (av.error.FFmpegError, OSError, IndexError):
        return []
    start = (source.start_time or 0) / av.time_base + first
    if stream.codec_context.name in _COPIED or kind == "matroska":
        return [_copied(source, stream, out.add_stream_from_template(stream), start, length)]
    target = out.add_stream("aac", rate=stream.codec_context.sample_rate)
    target.layout = stream.codec_context.layout
    return [_encoded(source, stream, target, start, length)]


def _copied(source: Any, stream: Any, target: Any, start: float, length: float = math.inf) -> Packets:
    offset = round(start / stream.time_base)
    with suppress(av.error.FFmpegError):  # a damaged end is left out
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or packet.is_corrupt:
                continue
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            if packet.pts * packet.time_base > length:
                return
            if packet.pts >= 0:
                packet.stream = target
                yield float(packet.dts * packet.time_base), packet


def _encoded(source: Any, stream: Any, target: Any, start: float, length: float) -> Packets:
    rate = target.codec_context.sample_rate
    resampler = av.AudioResampler("fltp", target.layout, rate)
    position: int | None = None  # in samples of the video
    with suppress(av.error.FFmpegError):  # a damaged end is left out
        for frame in source.decode(stream):
            time = (frame.time or 0.0) - start
            if time > length:
                break
            if time < 0:
                continue
            position = round(time * rate) if position is None else position
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = position, Fraction(1, rate)
                position += piece.samples
                yield from _timed(target.encode(piece))
    yield from _timed(target.encode(None))


def _timed(packets: list[Any]) -> Packets:
    yield from ((float(packet.pts * packet.time_base), packet) for packet in packets)
