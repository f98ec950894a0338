"""Annotated video with the source's sound, playable however the run ends."""

import math
from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace

from fer.stream.sinks.base import FILMS, Context, Sink, sink, sink_errors
from fer.stream.types import Array, FrameResult

_FRAGMENTS = "hybrid_fragmented+frag_keyframe+delay_moov+default_base_moof"
"""MP4 and MOV are written in fragments, so that an unfinished file plays; closing makes them ordinary files."""
_FRAGMENT_SECONDS = 2


@sink("save", ".mp4", ".mov", ".mkv", sources=FILMS)
class VideoFile(Sink):
    """Annotated video: H.264, yuv420p, with the source's timestamps, and its sound as AAC, 48 kHz stereo.

    The video is written to a hidden file beside `path`, which plays up to the last two seconds if the program is
    killed, and is renamed at the end. The size is that of the first frame, made even; frames of another size are scaled
    to it.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, context: Context) -> None:
        assert context.source.rate is not None
        self.path, self._part = path, path.with_name(f".{path.stem}.unfinished{path.suffix}")
        self._rate, self._threads, self._source = context.source.rate, context.threads, context.source.path
        # Fine enough for a source of uneven pace, and a whole number of ticks per frame of an even one.
        self._tick = Fraction(1, self._rate.numerator * math.ceil(12_000 / self._rate.numerator))
        self._container: Any = None
        self._last, self._sound_end = -1, 0.0  # in ticks, in seconds

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        with sink_errors(self.path):
            if self._container is None:
                self._open(picture, result.frame.time)
            # Players refuse timestamps that repeat or run backwards; broken sources have both.
            self._last = max(self._last + 1, round((result.frame.time - self._first) / self._tick))
            frame = av.VideoFrame.from_ndarray(_fit(picture, self._stream.width, self._stream.height), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base = self._last, self._tick
            frame.duration = round(1 / self._rate / self._tick)
            self._container.mux(self._stream.encode(frame))
            while self._sound_end < self._last * self._tick:
                self._sound_end, packets = next(self._sound, (math.inf, []))
                self._container.mux(packets)

    def _open(self, picture: Array, first: float) -> None:
        options = {"flush_packets": "1"} | ({} if self.path.suffix.lower() == ".mkv" else {"movflags": _FRAGMENTS})
        # FFmpeg takes `a:b.mp4` for the protocol `a`.
        self._container = av.open(f"file:{self._part.absolute()}", "w", options=options)
        options = {"preset": "veryfast", "crf": "20", "g": str(max(1, round(_FRAGMENT_SECONDS * self._rate)))}
        self._stream: Any = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.height, self._stream.width = (side + side % 2 for side in picture.shape[:2])
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = self._tick
        codec.colorspace, codec.color_primaries, codec.color_trc = 1, 1, 1  # BT.709
        codec.color_range = ColorRange.MPEG
        if self._threads is not None:
            codec.thread_count = self._threads
        self._first = first  # seconds
        self._sound = _sound(self._source, self._container, first)
        self._sound_end, _ = next(self._sound, (math.inf, []))

    def close(self, complete: bool) -> None:
        if self._container is None:
            return
        with sink_errors(self.path):
            try:
                self._sound.close()
                with self._container:
                    for stream in self._container.streams:
                        self._container.mux(stream.encode(None))
            finally:  # even after an error, the frames written so far play
                self._part.replace(self.path)


def _fit(picture: Array, width: int, height: int) -> Array:
    """Repeat the last row or column of an odd side, then scale to the given size if it still differs."""
    bottom, right = picture.shape[0] % 2, picture.shape[1] % 2
    picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def _sound(path: Path | None, out: Any, first: float) -> Generator[tuple[float, list[Any]]]:
    """Add a track to `out`, and encode the sound of a file from `first` seconds on.

    Yields the position in seconds in the new video, and the packets that end there; first 0 and none, once the track
    exists. Yields nothing if there is no sound that FFmpeg can decode. Ends early where the sound is damaged.
    """
    if path is None:
        return
    with (
        suppress(av.error.FFmpegError, OSError, IndexError),
        av.open(f"file:{path.absolute()}", metadata_errors="replace") as source,
    ):
        stream = source.streams.audio[0]
        if stream.codec_context is None:
            return
        track = out.add_stream("aac", rate=48_000, layout="stereo")
        yield 0.0, []
        start, end = (source.start_time or 0) / av.time_base + first, 0
        for frame in source.decode(stream):
            time = (frame.time or 0.0) - start
            if time >= 0:
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = max(end, round(time * frame.sample_rate))  # broken sources have times that run backwards
                end = frame.pts + frame.samples
                yield time, track.encode(frame)
