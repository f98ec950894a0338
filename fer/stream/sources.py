"""Where frames come from: an image, a folder of images, a video file, a camera."""

import re
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import cv2
import numpy as np

from fer.errors import SourceError
from fer.stream.stills import IMAGE_SUFFIXES, images_in, quiet, read_image
from fer.stream.types import Array, Frame

_DEFAULT_RATE = Fraction(30)

Kind = Literal["image", "folder", "video", "camera"]


class Source:
    """Yields `Frame`s once, in order. A context manager: what it holds open is closed at the end of the block.

    name: how messages call it. kind: what it is. path: its file or folder, None for a camera. total: how many
    frames to expect, None where nobody knows. rate: frames a second, None for stills. live: whether only the newest
    frame matters. notes: what was lost on the way, one line each; complete once all frames are read.
    """

    name: str
    kind: Kind
    path: Path | None = None
    total: int | None = None
    rate: Fraction | None = None
    live: bool = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Raises `SourceError` where the source breaks."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is held open; may be called twice."""


def open_source(source: int | str | None, threads: int | None = None) -> Source:
    """Open a camera index, an image, a folder of images or a video file; `threads` limits those that decode.

    Raises `SourceError` where it is missing, empty, of no known kind, or of a kind that is not there yet.
    """
    if source is None or source == "":
        raise SourceError("no source; give one, as in source=clip.mp4, source=photo.jpg or source=0 for the camera")
    if isinstance(source, int):
        return Camera(source)
    if camera := re.fullmatch(r"/dev/video(\d+)", source):
        return Camera(int(camera[1]))
    if source == "browser":
        raise SourceError("source=browser is a page of its own: python infer.py source=browser")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise SourceError(f"{source} is a URL, and those are not there yet; download it and give source=<file>")
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return Folder(path)
        if not path.exists():
            raise SourceError(f"no file {path}; check the path{_neighbour(path)}")
        if not path.is_file():
            raise SourceError(f"{path} is not a regular file; give a video, an image, a folder or a camera index")
        empty = path.stat().st_size == 0
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    if empty:
        raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
    return Image(path) if path.suffix.lower() in IMAGE_SUFFIXES else Video(path, threads)


def _neighbour(path: Path) -> str:
    """Names the nearest thing that does exist, for the message about one that does not."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent} either)"
    import difflib

    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1, cutoff=0.75)
    return f", or did you mean {path.parent / close[0]}?" if close else ""


class Image(Source):
    """One still. Raises `SourceError` where it cannot be read."""

    kind: Kind = "image"
    total = 1

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        self._image = read_image(path)

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0, file=self.name)


class Folder(Source):
    """The images of one folder, by name, `frame_2` before `frame_10`; sub-folders and hidden files are left out.

    One that cannot be read is a `Frame` with an `error`, and a note. Raises `SourceError` for a folder without images.
    """

    kind: Kind = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.name = path, f"{path.resolve().name}/"
        self.files = images_in(path)
        self.total = len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.files):
            try:
                yield Frame(read_image(path), index, 0.0, file=path.name)
            except SourceError as error:
                self.notes.append(f"{error} (its row says so)")
                yield Frame(np.zeros((0, 0, 3), np.uint8), index, 0.0, file=path.name, error=str(error))


class Video(Source):
    """A video file, frame by frame, upright by its display rotation, at its own timestamps.

    Frames that do not decode are left out and said in `notes`. Raises `SourceError` where nothing of it decodes.
    """

    kind: Kind = "video"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__()
        self.path, self.name = path, path.name
        self._damaged = 0
        try:
            # An absolute path, since FFmpeg takes `a:b.mp4` for the protocol `a`; and only files, since a
            # playlist may name the network.
            url = f"file:{path.absolute()}"
            self._container = av.open(url, options={"protocol_whitelist": "file"}, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(_why_no_video(path, error)) from None
        streams = self._container.streams.video
        # FFmpeg would show any text file as a film of a terminal, and calls a song's cover a video.
        if not streams or self._container.format.name == "tty":
            self.close()
            raise SourceError(
                f"{path} holds no video; give a video file, an image, a folder of images or a camera index"
            )
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        if threads is not None:
            self._stream.codec_context.thread_count = threads
        self.rate = self._stream.guessed_rate or self._stream.average_rate or _DEFAULT_RATE
        self.total = self._stream.frames or (round(self._seconds() * self.rate) or None)

    def _seconds(self) -> float:
        """The duration that the header gives, 0 where it gives none."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return (self._container.duration or 0) / av.time_base

    def __iter__(self) -> Iterator[Frame]:
        start = (self._container.start_time or 0) / av.time_base
        assert self.rate is not None
        index, now, step = 0, 0.0, 1 / float(self.rate)
        try:
            for stamp, image in self._pictures():
                # A stream without timestamps (raw H.264) gets them from its rate.
                now = stamp - start if stamp is not None else (now + step if index else 0.0)
                yield Frame(image, index, now)
                index += 1
            self._note_losses(index, now + step)
        finally:
            self.close()
        if index == 0:
            raise SourceError(f"{self.path} opens, but no frame of it decodes; copy or record it again")

    def _pictures(self) -> Iterator[tuple[float | None, Array]]:
        """What decodes, with its timestamp in seconds; damaged packets are counted and left out."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                pictures = [] if packet is None else [p for p in packet.decode() if isinstance(p, av.VideoFrame)]
                images = [(picture.time, _upright(picture)) for picture in pictures]
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                self._damaged += 1
                continue
            if packet is None:
                return
            yield from images

    def _note_losses(self, frames: int, end: float) -> None:
        listed, seconds = self._stream.frames, self._seconds()
        if self._damaged:
            self.notes.append(f"{self.name}: damaged in {self._damaged} places, which were left out")
        if frames < listed:
            self.notes.append(f"{self.name}: {frames} of the {listed} frames that its header lists could be decoded")
        elif not listed and end < seconds - max(1.0, 0.05 * seconds):
            self.notes.append(f"{self.name}: the video ends at {end:.1f} s of the {seconds:.1f} s its header gives")

    def close(self) -> None:
        self._container.close()


def _upright(picture: av.VideoFrame) -> Array:
    """A decoded picture as uint8 (H, W, 3) RGB, turned as its display matrix asks, to the nearest quarter."""
    image = picture.to_ndarray(format="rgb24")
    quarters = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image


def _why_no_video(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"cannot read {path}: {error.strerror}; check its permissions"
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide"):
        return (
            f"{path} is an MP4 or MOV without its index (moov): the recording or the copy was cut short; "
            "copy it again, or mend it with a tool such as untrunc"
        )
    return f"{path} is neither a video nor an image that can be read; convert it, e.g. ffmpeg -i <file> clip.mp4"


class Camera(Source):
    """A camera by index; `time` is seconds since its first frame, by the computer's clock.

    Raises `SourceError` where it is not there or stops answering.
    """

    kind: Kind = "camera"
    live = True

    def __init__(self, index: int) -> None:
        super().__init__()
        self.name = f"camera {index}"
        if index < 0:
            raise SourceError(f"source={index} is no camera; they count from 0")
        with quiet():
            self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise SourceError(f"no camera {index}; {_cameras()}")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture rather than a queue of old ones
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else _DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        index, start = 0, 0.0
        try:
            while True:
                good, picture = self._capture.read()
                now = time.monotonic()
                if not good:
                    raise SourceError(f"{self.name} stopped answering; plug it in again, or close what else uses it")
                start = start or now
                yield Frame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), index, now - start)
                index += 1
        finally:
            self.close()

    def close(self) -> None:
        self._capture.release()


def _cameras() -> str:
    """Which cameras there are, as far as that can be told without waking them."""
    if not sys.platform.startswith("linux"):
        return "try source=0 or source=1, allow this program to use the camera, or give source=<file>"
    names = (p.name.removeprefix("video") for p in Path("/dev").glob("video*"))
    found = sorted(int(name) for name in names if name.isdecimal())
    if not found:
        return "this computer shows none (no /dev/video*); connect one, or give source=<file>"
    return f"there is {', '.join(f'source={i}' for i in found)} (if it fails, another program may hold it)"
