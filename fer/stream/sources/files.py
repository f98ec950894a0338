"""Video files, decoded frame by frame."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from fer.errors import SourceError
from fer.images import IMAGE_SUFFIXES
from fer.stream.sources.base import Clock, Kind, Request, Source, believable_rate, later, opener
from fer.stream.types import Array, Frame

_AHEAD = 10.0
"""Seconds that a clock may jump ahead in formats whose recordings can be joined, such as transport streams."""
_ABSURD = 30 * 3600.0
"""The same in all other formats."""


@opener("video")  # the first to be registered, so the last to be asked
def open_video(request: Request) -> Source | None:
    """Open any file as a video."""
    path = request.path
    if path is None or not path.exists():
        return None
    try:
        # An absolute path, because FFmpeg takes `a:b.mp4` for the protocol `a`. Only files, because a playlist may
        # name the network.
        url = f"file:{path.absolute()}"
        reopen = partial(open_container, url, str(path), options={"protocol_whitelist": "file"})
        container = reopen()
    except (av.error.FFmpegError, OSError):
        raise SourceError(_why_no_video(path)) from None
    if container.format.name == "image2" and path.suffix.lower() in IMAGE_SUFFIXES:  # chosen by the ending alone
        container.close()
        raise SourceError(_why_no_video(path))
    return Video(container, reopen, path.name, path, request.threads)


def open_container(url: str, name: str, **options: Any) -> Any:
    """Open a URL with FFmpeg. Raise FFmpeg's errors, or `SourceError` if it has no video that can be decoded."""
    container: Any = av.open(url, metadata_errors="replace", **options)
    videos = container.streams.video
    # FFmpeg reads any text as a recording of a terminal (tty), and lists streams that it cannot decode.
    if not videos or videos[0].codec_context is None or container.format.name == "tty":
        container.close()
        raise SourceError(f"{name} holds no video that can be decoded; give another video, an image or a camera index")
    return container


def _why_no_video(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide"):
        return (
            f"{path} is an MP4 or MOV without its index (moov): the recording or the copy was cut short; "
            "copy it again, or repair it with a tool such as untrunc"
        )
    return f"{path} is neither a video nor an image that can be read; convert it, e.g. ffmpeg -i <file> clip.mp4"


class Video(Source):
    """A video with an end, turned upright by its display rotation, with its own timestamps.

    Frames that cannot be decoded are left out and counted in `notes`.

    Args:
        container: An open PyAV container with a video stream; closed with the source.
        reopen: Opens the same container again.
        name: The name used in messages.
        path: Its file, None if it comes from the network.
        threads: Number of decoding threads, None for FFmpeg's default.

    Raises:
        SourceError: While reading, if no frame can be decoded.
    """

    kind: Kind = "video"

    def __init__(
        self, container: Any, reopen: Callable[[], Any], name: str, path: Path | None, threads: int | None = None
    ) -> None:
        super().__init__()
        self.name, self.path = name, path
        self._container, self._reopen, self._stream = container, reopen, picture_and_sound(container)[0]
        self._threads, self._damaged = threads, 0
        self.rate = believable_rate(self._stream.guessed_rate, self._stream.average_rate)
        self.total = self._stream.frames or (round(self._seconds() * self.rate) or None)

    def _seconds(self) -> float:
        """The duration in the header, 0 if there is none."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return (self._container.duration or 0) / av.time_base

    def __iter__(self) -> Iterator[Frame]:
        assert self.rate is not None
        index, now, step = 0, None, 1 / float(self.rate)
        try:
            for stamp, image in decode(self._container, self._threads):
                if image is None:
                    self._damaged += 1
                    continue
                expected = 0.0 if now is None else now + step  # raw H.264 has no timestamps
                now = later(expected if stamp is None else stamp, now, step)
                yield Frame(image, index, now)
                index += 1
            self._note_losses(index, (now or 0.0) + step)
        finally:
            self.close()
        if index == 0:
            raise SourceError(f"{self.path or self.name} opens, but no frame can be decoded; copy or record it again")

    def _note_losses(self, frames: int, end: float) -> None:
        listed, seconds = self._stream.frames, self._seconds()
        if self._damaged:
            self.notes.append(f"{self.name}: {self._damaged} damaged packets were left out")
        if frames < listed:
            self.notes.append(f"{self.name}: {frames} of the {listed} frames that its header lists could be decoded")
        elif not (listed or joinable(self._container)) and end < seconds - max(1.0, 0.05 * seconds):
            self.notes.append(f"{self.name}: the video ends at {end:.1f} s of the {seconds:.1f} s its header gives")

    def reopen(self) -> Any:
        return self._reopen()

    def close(self) -> None:
        self._container.close()


def picture_and_sound(container: Any) -> tuple[Any, Any]:
    """Return the best video and audio stream of an open PyAV container, by FFmpeg's choice; None where it has none."""
    video = container.streams.best("video")
    return video, container.streams.best("audio", related=video)


def joinable(container: Any) -> bool:
    """Return whether recordings of this format can be joined end to end, so that clocks and lengths mean little."""
    return bool(av.format.Flags(container.format.flags) & av.format.Flags.ts_discont)


def demux(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield the packets of some streams of an open PyAV container, with timestamps that can be relied on.

    `pts` and `dts` count from the start of the file, in the time base of the stream; joined, wrapped and jumping clocks
    are made one (see `Clock`). Sound and picture get the same offsets, even if they are read from two containers: both
    are read here whichever is wanted. Packets without timestamps have none. The last packet of each stream is empty,
    for the decoder.
    """
    chosen = [stream for stream in picture_and_sound(container) if stream is not None]
    starts = [stream.start_time * stream.time_base for stream in chosen if stream.start_time is not None]
    # Programmes that share a transport stream have clocks of their own.
    start = min(starts) if joinable(container) and starts else (container.start_time or 0) / av.time_base
    clock, shift = Clock(float(start), _AHEAD if joinable(container) else _ABSURD), -float(start)
    for packet in container.demux(*{stream.index: stream for stream in (*chosen, *streams)}.values()):
        tick = float(packet.time_base)
        if packet.dts is not None:
            shift = clock.offset(packet.stream_index, packet.dts * tick, (packet.duration or 0) * tick)
            packet.dts += round(shift / tick)
        if packet.pts is not None:
            packet.pts += round(shift / tick)
        if packet.stream in streams:
            yield packet


def decode(container: Any, threads: int | None, parallel: str = "AUTO") -> Iterator[tuple[float | None, Array | None]]:
    """Decode the first video stream of an open PyAV container.

    Args:
        container: The container, before anything has been decoded.
        threads: Number of decoding threads, None for FFmpeg's default.
        parallel: "AUTO" decodes frames in parallel, which delays them; "SLICE" only parts of a frame.

    Yields:
        Seconds since the start of the file, None if the stream has no timestamps, and image, uint8 (H, W, 3) RGB. The
        image of a packet that cannot be decoded is None.
    """
    stream = picture_and_sound(container)[0]
    stream.thread_type = parallel
    if threads is not None:
        stream.codec_context.thread_count = threads
    packets, times = demux(container, stream), _Times()
    while True:
        try:
            images = [(times(f), _upright(f)) for f in next(packets).decode() if isinstance(f, av.VideoFrame)]
        except (StopIteration, av.error.EOFError, av.error.ExitError):  # ExitError: a network stream is silent
            return
        except (av.error.FFmpegError, OSError):
            yield None, None
            continue
        yield from images


class _Times:
    """The time of each decoded frame: `pts`, or `dts` where those of the stream are missing or run back more often.

    As FFmpeg guesses it (`guess_correct_pts` in libavcodec/decode.c).
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}

    def __call__(self, frame: Any) -> float | None:
        """Return the time of the next frame in seconds, None if it has none."""
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for name, stamp in stamps.items():
            if stamp is not None:
                self._faults[name] += stamp <= self._last.get(name, stamp - 1)
                self._last[name] = stamp
        pts, dts = stamps.values()
        stamp = pts if pts is not None and (self._faults["pts"] <= self._faults["dts"] or dts is None) else dts
        return None if stamp is None else float(stamp * frame.time_base)


def _upright(frame: av.VideoFrame) -> Array:
    """Return the image of a frame, turned by its display matrix, rounded to quarter turns."""
    image = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image
