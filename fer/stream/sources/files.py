"""Video files, decoded frame by frame."""

import errno
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from fer.errors import SourceError
from fer.faces.types import Array
from fer.images import IMAGE_SUFFIXES
from fer.stream.sources.base import Clock, Kind, Request, Source, believable_rate, later
from fer.stream.sources.display import Turns, shown, turns_of
from fer.stream.types import Frame

_AHEAD = 10.0
"""Seconds that a clock may jump ahead in formats whose recordings can be joined, such as transport streams."""
_ABSURD = 30 * 3600.0
"""The same in all other formats."""
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
"""Pictures in a file that are no film."""


FILM_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .wmv .flv .3gp .mpg .mpeg .mts .m2ts .vob .ogv .mxf .asf .divx".split()
)
"""Endings that promise a film. What a file is, its content says."""


def open_video(request: Request) -> Source | None:
    """Open any file as a video. No `opener`, because it is asked after all of them."""
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
    # FFmpeg reads any text as a recording of a terminal (tty), and lists streams that it cannot decode.
    if picture_and_sound(container)[0] is None or container.format.name == "tty":
        covers = [stream.disposition & _COVER for stream in container.streams.video]
        only = "sound only" if container.streams.audio and all(covers) else "no video that can be decoded"
        container.close()
        raise SourceError(f"{name} holds {only}; give a video, an image or a camera index")
    return container


def _why_no_video(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return f"{path} is empty; copy or record it again"
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide", b"styp", b"moof", b"sidx"):
        return (
            f"{path} is an MP4 or MOV without its index (moov): the recording or the copy was cut short; "
            "copy it again, or repair it with a tool such as untrunc"
        )
    return f"{path} is neither a video nor an image that can be read; give another file, or convert this one to MP4"


class Video(Source):
    """A video with an end, as a player shows it, with its own timestamps.

    Frames that cannot be decoded, and an end that comes too early, are counted in `notes`.

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
        self._container, self._reopen = container, reopen
        self._decoder = Decoder(container, threads)
        stream = self._decoder.stream
        self.rate = believable_rate(stream.guessed_rate, stream.average_rate)
        self._listed, self._seconds = stream.frames, _seconds(container, *picture_and_sound(container))
        if container.format.name == "avi":  # of one that is cut short, FFmpeg tells the length that is left
            self._seconds = max(self._seconds, float(self._listed / stream.average_rate))
        self._reading = False
        self._estimated = joinable(container) and container.format.name != "hls"
        self.total = self._listed or (round(_seconds(container, stream) * self.rate) or None)

    def __iter__(self) -> Iterator[Frame]:
        assert self.rate is not None
        index, now, step = 0, None, 1 / float(self.rate)
        self._reading = True
        try:
            for stamp, image in self._decoder:
                expected = 0.0 if now is None else now + step  # raw H.264 has no timestamps
                now = later(expected if stamp is None else stamp, now, step)
                yield Frame(image, index, now)
                index += 1
            self.total, self.last_duration = index, self._decoder.times.lasted
            self._note_losses(index, step)
        finally:
            self._reading = False
            self.close()
        if index == 0:
            raise SourceError(f"{self.path or self.name} opens, but no frame can be decoded; copy or record it again")

    def _note_losses(self, frames: int, step: float) -> None:
        read, seconds, listed = self._decoder, self._seconds, self._listed - self._decoder.discarded
        if read.damaged:
            self.notes.append(f"{self.name}: {read.damaged} damaged packets were left out")
        if read.faulty:
            parts = f"frames that are damaged in part: {read.faulty}"
            self.notes.append(f"{self.name}: {parts}; copy it again if the original is whole")
        missing = seconds - read.end
        if read.error:
            whole = f" of {seconds:.1f} s" if seconds else ""
            why = f"reading broke off after {read.end:.1f} s{whole} ({read.error}), {frames} frames"
            self.notes.append(f"{self.name}: {why}; copy it, or try again")
        elif frames < listed and (frames < read.packets or missing > 2 * step):
            self.notes.append(f"{self.name}: {frames} of the {listed} frames that its header lists could be decoded")
        elif not self._estimated and missing > max(1.0, 0.05 * seconds):
            self.notes.append(
                f"{self.name}: the video ends at {read.end:.1f} s of the {seconds:.1f} s its header gives"
            )

    def reopen(self) -> Any:
        return self._reopen()

    def close(self) -> None:
        if not self._reading:  # closing it in the middle of a read, as of a slow server, would crash the process
            self._container.close()


def _seconds(container: Any, *streams: Any) -> float:
    """Return the longest duration in the header of some streams, or of the container, 0 if there is none."""
    durations = [stream.duration * stream.time_base for stream in streams if stream is not None and stream.duration]
    return float(max(durations, default=(container.duration or 0) / av.time_base))


def picture_and_sound(container: Any) -> tuple[Any, Any]:
    """Return the video and the audio stream of an open PyAV container that a player chooses; None where it has none.

    They are FFmpeg's choice, but never a cover picture or a stream that cannot be decoded.
    """
    videos = [v for v in container.streams.video if v.codec_context is not None and not v.disposition & _COVER]
    video = container.streams.best("video")
    if video not in videos:
        video = max(videos, key=lambda v: v.codec_context.width * v.codec_context.height, default=None)
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
    for packet in _packets(container, {stream.index: stream for stream in (*chosen, *streams)}):
        tick = float(packet.time_base)
        if packet.dts is not None:
            shift = clock.offset(packet.stream_index, packet.dts * tick, (packet.duration or 0) * tick)
            packet.dts += round(shift / tick)
        if packet.pts is not None:
            packet.pts += round(shift / tick)
        if packet.stream in streams:
            yield packet


def _packets(container: Any, streams: dict[int, Any]) -> Iterator[Any]:
    while True:
        try:
            yield from container.demux(*streams.values())
            return
        except IndexError:  # PyAV stumbles over a stream that appears in the middle, and can go on behind it
            continue


class Decoder:
    """Decodes the picture of an open PyAV container, once and in order.

    Yields:
        Seconds since the start of the file, None if the stream has no timestamps, and image, uint8 (H, W, 3) RGB, as a
        player shows it (see `display.shown`).

    Args:
        container: The container, before anything has been decoded.
        threads: Number of decoding threads, None for FFmpeg's default.
        parallel: "AUTO" decodes frames in parallel, which delays them; "SLICE" only parts of a frame.

    Attributes:
        stream: The stream that is decoded.
        packets: Packets read so far that should each give a frame.
        discarded: Packets that are not to be shown, as the file's edit list says.
        damaged: Packets and frames that could not be decoded.
        faulty: Frames that could be decoded in part.
        end: End of the last packet of picture or sound, in seconds.
        times: Gives the frames their times.
        error: Why reading broke off, empty if it came to the end of the file.
    """

    def __init__(self, container: Any, threads: int | None, parallel: str = "AUTO") -> None:
        self._container = container
        self.stream = stream = picture_and_sound(container)[0]
        stream.thread_type = parallel
        if threads is not None:
            stream.codec_context.thread_count = threads
        self._aspects = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        self.packets = self.discarded = self.damaged = self.faulty = 0
        self.end, self.error = 0.0, ""
        self.times = _Times()
        self._turned: tuple[int | None, Turns] = None, (False, 1, 1)
        self._reformatter = VideoReformatter()

    def __iter__(self) -> Iterator[tuple[float | None, Array]]:
        for packet in chain(self._read(), self._flush()):
            try:
                for frame in packet.decode():
                    self.faulty += frame.is_corrupt
                    image = shown(frame, self._aspect(), self._turns_of(frame), self._reformatter)
                    yield self.times(frame), image
            except (av.error.FFmpegError, OSError):
                self.damaged += 1

    def _read(self) -> Iterator[Any]:
        chosen = [stream for stream in picture_and_sound(self._container) if stream is not None]
        try:
            for packet in demux(self._container, *chosen):
                if packet.pts is not None:
                    self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self.stream and packet.size:
                    self.discarded += packet.is_discard
                    self.packets += not packet.is_discard
                    yield packet
        except (av.error.FFmpegError, OSError) as error:
            # The end of an answer whose length a web server did not tell is an error to FFmpeg.
            ended = isinstance(error, EOFError) or (error.errno == errno.EIO and self._container.size < 0)
            if not ended:
                self.error = "no data" if isinstance(error, av.error.ExitError) else str(error.strerror)

    def _flush(self) -> Iterator[Any]:
        """Yield the empty packet that makes the decoder give its last frames, even after an error."""
        packet: Any = av.Packet()
        packet.stream, packet.time_base = self.stream, self.stream.time_base
        yield packet

    def _turns_of(self, frame: Any) -> Turns:
        if frame.rotation != self._turned[0]:  # asked of every frame, `turns_of` would keep hundreds of them in memory
            self._turned = frame.rotation, turns_of(frame)
        return self._turned[1]

    def _aspect(self) -> Fraction | None:
        """The container's pixel aspect; if it has none of its own, that of the codec, which may change."""
        container, first = self._aspects
        return self.stream.codec_context.sample_aspect_ratio if container == first else container


class _Times:
    """The time of each decoded frame: `pts`, or `dts` where those of the stream are missing or run back more often.

    As FFmpeg guesses it (`guess_correct_pts` in libavcodec/decode.c).

    Attributes:
        lasted: Duration of the latest frame in seconds, None if it is unknown.
    """

    def __init__(self) -> None:
        self.lasted: float | None = None
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}

    def __call__(self, frame: Any) -> float | None:
        """Return the time of the next frame in seconds, None if it has none."""
        self.lasted = float(frame.duration * frame.time_base) if frame.duration else None
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for name, stamp in stamps.items():
            if stamp is not None:
                self._faults[name] += stamp <= self._last.get(name, stamp - 1)
                self._last[name] = stamp
        pts, dts = stamps.values()
        stamp = pts if pts is not None and (self._faults["pts"] <= self._faults["dts"] or dts is None) else dts
        return None if stamp is None else float(stamp * frame.time_base)
