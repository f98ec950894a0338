"""Annotated video with the source's sound: it plays whatever ended its run, and a killed run goes on with it."""

import heapq
import struct
from collections.abc import Container, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from fer.errors import SinkError
from fer.stream.sinks.base import Sink, mended, part_of
from fer.stream.types import Array, FrameResult

VIDEO_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FRAGMENT_SECONDS = 2
_BEGIN = "comment"
"""The tag of a file of fragments that says at which tick it begins."""
_COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
"""Sound that MP4 and MOV hold as it is; other sound becomes AAC."""


class VideoFile(Sink):
    """Annotated video: H.264, yuv420p, even sides, the source's timestamps and sound, its index in front so that
    browsers can play it while it loads.

    It grows beside its name, hidden, in fragments of two seconds, each of which plays however the program ends; when
    the run ends, in whatever way, these are put together under the name.

    rate: frames a second. sound: the file whose sound is taken. done: how many frames of an earlier run's fragments
    are kept, as `frames_kept` says, and the time in seconds of the first. The size is the first frame's; later frames
    of other sizes are scaled to it. Raises `SinkError`.
    """

    stage = "save"
    draws = True

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        threads: int | None = None,
        sound: Path | None = None,
        done: tuple[int, float] | None = None,
    ) -> None:
        self.path = path
        self._part, self._before = part_of(path), _before(path)
        self._rate, self._threads, self._sound = rate, threads, sound
        # Fine enough for a source of uneven pace, and a whole number of ticks for each frame of an even one.
        self._tick = Fraction(1, rate.numerator * ceil(12_000 / rate.numerator))
        self._container: av.container.OutputContainer | None = None
        self.first = self._kept = done[0] if done else 0
        self._first = done[1] if done else None  # seconds
        self._begin = 0  # of this run's own fragments, in ticks
        self._last = -1  # in ticks

    def __enter__(self) -> "VideoFile":
        with mended(self.path):
            if self._kept:
                _gather(_earlier(self.path), self._before, self._kept)
            else:
                self._before.unlink(missing_ok=True)
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
            frame.pts, frame.time_base = self._last - self._begin, self._tick
            frame.duration = round(1 / self._rate / self._tick)
            self._container.mux(self._stream.encode(frame))

    def _open(self, picture: Array) -> None:
        self._begin = self._last
        # Absolute, since FFmpeg takes `a:b.mp4` for the protocol `a`.
        self._container = av.open(f"file:{self._part.absolute()}", "w", format="mp4", options=_FRAGMENTS)
        self._container.metadata[_BEGIN] = str(self._begin)
        options = {"preset": "veryfast", "crf": "20", "g": str(max(1, round(_FRAGMENT_SECONDS * self._rate)))}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        assert isinstance(stream, VideoStream)
        if self._kept:
            with av.open(f"file:{self._before.absolute()}") as before:
                stream.width, stream.height = before.streams.video[0].width, before.streams.video[0].height
        else:
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
                self._finish(_fragments(self.path))

    def _finish(self, parts: list[Path]) -> None:
        if not parts:
            return
        try:
            _put_together(parts, self.path, self._rate, self._sound, self._first or 0.0)
        except (OSError, av.error.FFmpegError):
            if len(parts) == 1:  # no room for a copy, but it plays as it is
                parts[0].replace(self.path)
            raise
        for part in parts:
            part.unlink()


def frames_kept(path: Path, rows: Container[int], since: float = 0.0) -> int:
    """How many frames of what an unfinished run left of `path` can be gone on with; 0 where there are none.

    rows: the numbers of frames after which the log can be gone on with, 0 among them. since: when that run began; a
    video from before is not its own. A fragment is kept whole or not at all.
    """
    bounds = [0]
    for part in _earlier(path, since):
        with suppress(av.error.FFmpegError, OSError), av.open(f"file:{part.absolute()}") as container:
            count = bounds[-1]
            for packet in container.demux(video=0):
                if packet.size and packet.is_keyframe:
                    bounds.append(count)
                count += packet.size > 0
            bounds.append(count)
    return max(bound for bound in bounds if bound in rows)


def _earlier(path: Path, since: float = 0.0) -> list[Path]:
    """The fragments of a run that began at `since`, or what it put together of them when it was stopped."""
    return _fragments(path, since) or [path] * (path.exists() and path.stat().st_mtime >= since)


def _fragments(path: Path, since: float = 0.0) -> list[Path]:
    """The files of fragments beside `path`, each without a last fragment that was cut short."""
    # All times are read before the first file is mended, which makes it newer.
    found = [part for part in (_before(path), part_of(path)) if part.exists() and part.stat().st_mtime >= since]
    return [part for part in found if _mended(part)]


def _before(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


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


def _gather(parts: list[Path], to: Path, frames: int) -> None:
    """The first `frames` frames of fragments, as one file of them."""
    whole = to.with_name(f"{to.name}.new")
    with ExitStack() as stack:
        inputs = [stack.enter_context(av.open(f"file:{part.absolute()}")) for part in parts]
        out = stack.enter_context(av.open(f"file:{whole.absolute()}", "w", format="mp4", options=_FRAGMENTS))
        stream = out.add_stream_from_template(inputs[0].streams.video[0])
        out.metadata[_BEGIN] = "0"
        for container in inputs:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            _date(packets)
            for packet in _from_begin(container, iter(packets[:frames])):
                packet.stream = stream
                out.mux(packet)
            frames -= min(frames, len(packets))
    whole.replace(to)


def _date(packets: list[Any]) -> None:
    """Give packets the time of decoding that Matroska does not tell of its first ones."""
    for k in reversed(range(len(packets))):
        if packets[k].dts is None:
            after = packets[k + 1].dts if k + 1 < len(packets) else packets[k].pts
            packets[k].dts = after - max(1, packets[k].duration or 0)


def _put_together(parts: list[Path], path: Path, rate: Fraction, sound: Path | None, first: float) -> None:
    """Files of fragments and the sound of another from `first` seconds on, as one file."""
    kind = VIDEO_FORMATS[path.suffix.lower()]
    whole = path.with_name(f".{path.name}.whole")
    try:
        with ExitStack() as stack:
            inputs = [stack.enter_context(av.open(f"file:{part.absolute()}")) for part in parts]
            streams = [container.streams.video[0] for container in inputs]
            if any(s.codec_context.extradata != streams[0].codec_context.extradata for s in streams):
                raise SinkError(f"{path} was begun by another version of FFmpeg; run it anew, without resume=auto")
            options = {} if kind == "matroska" else {"movflags": "+faststart"}
            out = stack.enter_context(av.open(f"file:{whole.absolute()}", "w", format=kind, options=options))
            video = out.add_stream_from_template(streams[0])
            video.codec_context.framerate = rate
            tracks = [_pictures(inputs, video)]
            if sound is not None:
                length = float(
                    _begin(inputs[-1]) * (streams[-1].time_base or 0) + Fraction(inputs[-1].duration or 0, 10**6)
                )
                tracks += _sounds(stack, sound, out, kind, first, length)
            for _, _, packet in heapq.merge(*tracks, key=lambda item: item[:2]):
                out.mux(packet)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


def _begin(container: Any) -> int:
    return int(container.metadata.get(_BEGIN, 0))


def _from_begin(container: Any, packets: Iterator[Any]) -> Iterator[Any]:
    """The packets of a file of fragments, timed as the film has it; its first is its earliest picture."""
    offset: int | None = None
    for packet in packets:
        if packet.size:
            offset = packet.pts - _begin(container) if offset is None else offset
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            yield packet


def _pictures(inputs: list[Any], video: Any) -> Iterator[tuple[float, int, Any]]:
    for container in inputs:
        for packet in _from_begin(container, container.demux(video=0)):
            packet.stream = video
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
