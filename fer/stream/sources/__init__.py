"""Where frames come from: an image, several, a folder of them, a video file; `live.py` has cameras and the network."""

import glob
import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import numpy as np

from fer.errors import SourceError
from fer.files import expand
from fer.stream.sources.stills import IMAGE_SUFFIXES, by_number, images_in, read_image
from fer.stream.types import Array, Frame

DEFAULT_RATE = Fraction(30)
_FASTEST = 240

Kind = Literal["image", "folder", "video", "camera", "network"]


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

    @property
    def still(self) -> bool:
        """Whether its frames are photos, which have nothing to do with each other, and no film."""
        return self.kind in ("image", "folder")

    def __iter__(self) -> Iterator[Frame]:
        """Raises `SourceError` where the source breaks."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is held open; may be called twice."""


def open_source(source: int | str | None, threads: int | None = None, retry_for: float = 0.0) -> Source:
    """Open a camera index, an image, a folder of images, a pattern such as `party/*.jpg`, a video file or a URL.

    threads: limits those that decode. retry_for: seconds that a live source may be away before its run ends.
    Raises `SourceError` where it is missing, empty or of no known kind.
    """
    if source is None or source == "":
        raise SourceError("no source; give one, as in source=clip.mp4, source=photo.jpg or source=0 for the camera")
    if source == "browser":
        raise SourceError("source=browser is a page of its own: python infer.py source=browser")
    camera = re.fullmatch(r"/dev/video(\d+)", source) if isinstance(source, str) else None
    if isinstance(source, int) or camera:
        from fer.stream.sources.live import Camera

        return Camera(int(camera[1]) if camera else int(source), retry_for)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        from fer.stream.sources.live import open_network

        return open_network(source, retry_for, threads)
    path = expand(source)
    try:
        if path.is_dir():
            return Folder(path, images_in(path))
        if not path.exists():
            if glob.has_magic(source):
                return _matching(path, threads)
            raise SourceError(f"no file {path}; check the path{_neighbour(path)}")
        if not path.is_file():
            raise SourceError(f"{path} is not a regular file; give a video, an image, a folder or a camera index")
        empty = path.stat().st_size == 0
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    if empty:
        raise SourceError(f"{path} is empty (0 bytes); copy or record it again")
    return Image(path) if path.suffix.lower() in IMAGE_SUFFIXES else open_video(path, threads)


def _matching(pattern: Path, threads: int | None) -> Source:
    """The images that a pattern names, or the one video."""
    found = (Path(name) for name in glob.glob(str(pattern)))  # noqa: PTH207 — a pattern may be absolute
    files = sorted((file for file in found if file.is_file()), key=lambda file: (file.parent, by_number(file)))
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        return Folder(pattern, images)
    if len(files) == 1:
        return open_video(files[0], threads)
    if not files:
        raise SourceError(f"no file matches {pattern}; check the pattern")
    raise SourceError(f"{pattern} matches {len(files)} files and no image among them; give one video at a time")


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
    """Several images, in the order given; `path` is their folder, or the pattern that named them. Frames have their
    `names`, or where they come from several folders their paths from the one above.

    One that cannot be read is a `Frame` with an `error`, and a note.
    """

    kind: Kind = "folder"

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__()
        self.path, self.files = path, files
        self.name = f"{path.resolve().name}/" if path.is_dir() else path.name
        self.total = len(files)
        above = os.path.commonpath([file.parent for file in files])
        self.names = [file.relative_to(above).as_posix() for file in files]

    def __iter__(self) -> Iterator[Frame]:
        for index, (path, name) in enumerate(zip(self.files, self.names, strict=True)):
            try:
                yield Frame(read_image(path), index, 0.0, file=name)
            except SourceError as error:
                self.notes.append(f"{error} (its row says so)")
                yield Frame(np.zeros((0, 0, 3), np.uint8), index, 0.0, file=name, error=str(error))


def open_video(path: Path, threads: int | None = None) -> "Video":
    """Raises `SourceError` where the file is no video."""
    try:
        # An absolute path, since FFmpeg takes `a:b.mp4` for the protocol `a`; and only files, since a
        # playlist may name the network.
        url = f"file:{path.absolute()}"
        container = av.open(url, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(_why_no_video(path, error)) from None
    if not has_video(container):
        container.close()
        raise SourceError(f"{path} holds no video that can be decoded; give another video, an image or a camera index")
    return Video(container, path.name, path, threads)


def has_video(container: Any) -> bool:
    """Whether there is a video that can be decoded.

    FFmpeg would show any text file as a film of a terminal, and lists streams that it has no decoder for.
    """
    videos = container.streams.video
    return bool(videos) and videos[0].codec_context is not None and container.format.name != "tty"


class Video(Source):
    """A film with an end, frame by frame, upright by its display rotation, at its own timestamps.

    container: opened, with a video stream. path: its file, None for one of the network. Frames that do not decode are
    left out and said in `notes`. Raises `SourceError` where nothing of it decodes.
    """

    kind: Kind = "video"

    def __init__(self, container: Any, name: str, path: Path | None, threads: int | None = None) -> None:
        super().__init__()
        self.name, self.path = name, path
        self._damaged = 0
        self._container = container
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        if threads is not None:
            self._stream.codec_context.thread_count = threads
        self.rate = _rate(self._stream)
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
            for stamp, image in pictures(self._container, self._stream, self._note_damage):
                # A stream without timestamps (raw H.264) gets them from its rate.
                now = stamp - start if stamp is not None else (now + step if index else 0.0)
                yield Frame(image, index, now)
                index += 1
            self._note_losses(index, now + step)
        finally:
            self.close()
        if index == 0:
            raise SourceError(f"{self.path or self.name} opens, but no frame of it decodes; copy or record it again")

    def _note_damage(self) -> None:
        self._damaged += 1

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


def _rate(stream: Any) -> Fraction:
    """Frames a second. Where a film does not tell them, as those that browsers record, the guess is the 1000 ticks a
    second of its clock."""
    rates = (stream.guessed_rate, stream.average_rate)
    return next((Fraction(rate) for rate in rates if rate and rate <= _FASTEST), DEFAULT_RATE)


def pictures(container: Any, stream: Any, damaged: Callable[[], object]) -> Iterator[tuple[float | None, Array]]:
    """What decodes of a video stream, uint8 (H, W, 3) RGB, with its timestamp in seconds; `damaged` is called for each
    packet that does not."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            found = [] if packet is None else [p for p in packet.decode() if isinstance(p, av.VideoFrame)]
            images = [(picture.time, _upright(picture)) for picture in found]
        except (av.error.EOFError, av.error.ExitError):  # the second where a stream of the network is silent
            return
        except (av.error.FFmpegError, OSError):
            damaged()
            continue
        if packet is None:
            return
        yield from images


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
