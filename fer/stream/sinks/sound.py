"""The sound of a film, decoded beside its pictures and kept in time with them."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from fer.faces.types import Array
from fer.stream.sources.base import Source
from fer.stream.sources.files import demux, picture_and_sound

RATE = 48_000
"""Samples per second."""

_PIECE = 1024
"""Samples of a piece, as in a frame of AAC."""

_OFF = RATE // 20
"""Samples by which sound may be off its time. Beyond them, silence is added or sound is cut."""

_FIX = "to keep it, convert the film first, e.g. ffmpeg -i <film> -c:v copy -c:a aac <new film>"


def sound(source: Source) -> Generator[Any]:
    """Yield the sound of a film from its second 0 on, without gaps, whatever its codec, rate and channels.

    What is missing or cannot be decoded is silent. Losses are added to the notes of the source.

    Yields:
        PyAV audio frames of up to 1024 samples: float32, planar, stereo, 48 kHz. None if the film has no sound that can
        be decoded.
    """
    track = _Track()
    try:
        container = source.reopen()
        if container is None:
            return
        with container:
            if (stream := _chosen(container, source)) is not None:
                yield from _decoded(container, stream, source, track)
    except Exception as error:  # whatever is wrong with its sound, the film is saved
        why = getattr(error, "strerror", None) or error
        lost = f"ends at {track.end / RATE:.1f} s" if track.end else "is left out"
        source.notes.append(f"{source.name}: the sound of the saved film {lost}: {why}; {_FIX}")


def _chosen(container: Any, source: Source) -> Any:
    """Return the track that FFmpeg plays, if it can be decoded, else the first that can; None if there is none."""
    tracks, best = container.streams.audio, picture_and_sound(container)[1]
    good = sorted((each for each in tracks if each.codec_context is not None), key=lambda each: each is not best)
    if tracks and not good:
        source.notes.append(f"{source.name}: its sound is of a kind that cannot be decoded and is left out; {_FIX}")
    elif len(tracks) > 1:
        number = f"number {tracks.index(good[0]) + 1} of its {len(tracks)} sound tracks"
        fix = "for another, make a film of it first, e.g. ffmpeg -i <film> -map 0:v -map 0:a:1 -c copy <new film>"
        source.notes.append(f"{source.name}: the saved film has {number}; {fix}")
    return good[0] if good else None


def _decoded(container: Any, stream: Any, source: Source, track: "_Track") -> Generator[Any]:
    damaged = 0
    try:
        for packet in demux(container, stream):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError):
                damaged += 1
                continue
            if frames and not track.end:
                damaged = 0  # broadcasts are often recorded from the middle of a packet on
            for frame in frames:
                yield from track.add(frame)
        yield from track.flush()
    finally:
        if damaged:
            silent = f"damaged packets of its sound, which are silent: {damaged}"
            none = f"its sound cannot be decoded and is left out; {_FIX}"
            source.notes.append(f"{source.name}: {silent if track.end else none}")


class _Track:
    """Sound on one time axis that begins at 0.

    Attributes:
        end: Number of samples so far.
    """

    def __init__(self) -> None:
        self.end = 0
        self._form: object = None
        self._resampler: Any = None

    def add(self, frame: Any) -> Iterator[Any]:
        """Yield the pieces of a decoded frame, after silence if it comes late. Cut what comes too early."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        late = 0 if frame.time is None else round(frame.time * RATE) - self.end
        if form != self._form or late > _OFF:
            yield from self.flush()
            self._form, self._resampler = form, AudioResampler("fltp", "stereo", RATE)
        if late > _OFF:
            due = self.end + late
            while self.end < due:
                yield from self._pieces(np.zeros((2, min(_PIECE, due - self.end)), np.float32))
        frame.pts = None
        cut = -late if late < -_OFF else 0
        for resampled in self._resampler.resample(frame):
            yield from self._pieces(resampled.to_ndarray()[:, cut:])
            cut = max(0, cut - resampled.samples)

    def flush(self) -> Iterator[Any]:
        """Yield the samples that the resampler still holds."""
        for resampled in self._resampler.resample(None) if self._resampler else ():
            yield from self._pieces(resampled.to_ndarray())
        self._resampler = None

    def _pieces(self, samples: Array) -> Iterator[Any]:
        samples = np.clip(np.nan_to_num(samples), -1, 1)  # encoders refuse values that are not finite
        for start in range(0, samples.shape[1], _PIECE):
            part = np.ascontiguousarray(samples[:, start : start + _PIECE])
            piece = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            piece.sample_rate, piece.pts, piece.time_base = RATE, self.end, Fraction(1, RATE)
            self.end += piece.samples
            yield piece
