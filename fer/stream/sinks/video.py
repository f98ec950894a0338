"""Annotated video with the source's sound, playable however the run ends."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from fer.faces.types import Array
from fer.stream.queues import room
from fer.stream.sinks.base import FILMS, Context, Sink, sink, sink_errors
from fer.stream.sinks.sound import RATE, sound
from fer.stream.types import FrameResult

_FRAGMENTS = "hybrid_fragmented+frag_keyframe+delay_moov+default_base_moof"
"""MP4 and MOV are written in fragments, so that an unfinished file plays; closing makes them ordinary files."""
_FRAGMENT_SECONDS = 2

_HD = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}

ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0"}
"""No B-frames: with them, MP4 states a wrong duration for films of uneven pace, and 4K takes 160 MB more."""

LOOKAHEAD = 10
"""Frames that x264 looks ahead, as many as its preset; fewer large ones, of which it keeps several copies."""


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
        self._rate, self._threads, self._source = context.source.rate, context.threads, context.source
        # Fine enough for a source of uneven pace, and a whole number of ticks per frame of an even one.
        self._tick = Fraction(1, self._rate.numerator * math.ceil(12_000 / self._rate.numerator))
        self._convert = VideoReformatter().reformat  # one for all frames: setting it up takes longer than a frame
        self._container: Any = None
        self._track: Any = None
        self._piece: Any = None  # the next of the sound
        self._held: Any = None  # the last packet of the picture, whose duration the next one tells
        self._last, self._lasted, self._index = -1, math.inf, 0  # time and duration in ticks, index in the source

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        with sink_errors(self.path):
            if self._container is None:
                self._open(picture)
            frame = av.VideoFrame.from_numpy_buffer(_fit(picture, self._stream.width, self._stream.height))
            frame = self._convert(frame, format="yuv420p", threads=1, **_HD)
            # Two frames may be within a tick.
            self._last = frame.pts = max(self._last + 1, round(result.frame.time / self._tick))
            frame.time_base, self._index = self._tick, result.frame.index
            self._add_picture(self._stream.encode(frame))
            self._add_sound(float(self._last * self._tick))

    def _add_picture(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._held is not None:
                self._held.duration = self._lasted = packet.pts - self._held.pts
                self._container.mux(self._held)
            self._held = packet

    def _add_sound(self, end: float) -> None:
        while self._piece is not None and self._piece.time < end:
            self._container.mux(self._track.encode(self._piece))
            self._piece = next(self._sound, None)

    def _open(self, picture: Array) -> None:
        options = {"flush_packets": "1"} | ({} if self.path.suffix.lower() == ".mkv" else {"movflags": _FRAGMENTS})
        # FFmpeg takes `a:b.mp4` for the protocol `a`.
        self._container = av.open(f"file:{self._part.absolute()}", "w", options=options)
        options = ENCODER | {
            "g": str(max(1, round(_FRAGMENT_SECONDS * self._rate))),
            "rc-lookahead": str(room(LOOKAHEAD, picture.nbytes)),
        }
        self._stream: Any = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.height, self._stream.width = (side + side % 2 for side in picture.shape[:2])
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = self._tick
        codec.colorspace, codec.color_primaries, codec.color_trc = 1, 1, 1  # BT.709
        codec.color_range = ColorRange.MPEG
        if self._threads is not None:
            codec.thread_count = self._threads
        self._sound = sound(self._source)
        self._piece = next(self._sound, None)
        if self._piece is not None:  # a track without any sound would stay empty
            self._track = self._container.add_stream("aac", rate=RATE, layout="stereo")

    def close(self, complete: bool) -> None:
        if self._container is None:
            return
        with sink_errors(self.path):
            try:
                with self._container:
                    self._finish()
            finally:  # even after an error, the frames written so far play
                self._part.replace(self.path)

    def _finish(self) -> None:
        whole = self._index + 1 == self._source.total  # the run was neither stopped nor did it fail
        self._add_picture(self._stream.encode(None))
        lasts = (whole and self._source.last_duration) or min(float(1 / self._rate), float(self._lasted * self._tick))
        if self._held is not None:
            self._held.duration = max(1, round(lasts / self._tick))
            self._container.mux(self._held)
        self._add_sound(math.inf if whole else float(self._last * self._tick + lasts))
        self._sound.close()
        if self._track is not None:
            self._container.mux(self._track.encode(None))


def _fit(picture: Array, width: int, height: int) -> Array:
    """Repeat the last row or column of an odd side, then scale to the given size if it still differs."""
    bottom, right = picture.shape[0] % 2, picture.shape[1] % 2
    if bottom or right:
        picture = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return picture
