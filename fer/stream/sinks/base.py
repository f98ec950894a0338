"""Where results go: logs and annotated pictures; video, window and the rest have files of their own."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2

from fer import files
from fer.errors import SinkError
from fer.stream.types import Array, FrameResult

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LOG_ENDINGS = (".jsonl", ".csv")


class Stop(Exception):
    """Raised by a sink whose user wants the run to end in good order, as by closing the window."""


class Sink:
    """Takes results one by one and writes as they come. A context manager.

    stage: its name in the statistics. draws: whether `write` needs the annotated picture. inline: whether it is called
    in the main thread, as windows must be, and not in one of its own.
    """

    stage = "write"
    draws = False
    inline = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what was written, which is kept however the run ended."""
        self.close(whole=kind is None or issubclass(kind, KeyboardInterrupt))

    def write(self, result: FrameResult, picture: Array | None) -> None:
        """`picture`: the annotated frame, uint8 (H, W, 3) RGB, or None where nobody draws or the frame has no picture.

        Raises `SinkError` where it cannot be written, `Stop` where the user has had enough.
        """
        raise NotImplementedError

    def close(self, whole: bool) -> None:
        """Called once. whole: whether the run came to its end, or its user stopped it, and nothing failed."""


@contextmanager
def mended(path: Path) -> Iterator[None]:
    """Turn the errors of the system and of FFmpeg into a `SinkError` that names the file."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        why = getattr(error, "strerror", None) or error
        raise SinkError(f"cannot write {path}: {why}; choose another place, or make room and permit writing") from None


def part_of(path: Path) -> Path:
    """The name under which a file grows until it is whole: hidden, beside it."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, data: bytes, new_folder: bool = False) -> None:
    """Write a file that appears under its name only when it is whole; `new_folder`: make its folder where there is
    none. Raises `SinkError`."""
    with mended(path):
        if new_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(path, data)


class _Log(Sink):
    """A text file that grows row by row; every finished row is on disk, whatever happens next."""

    stage = "log"

    def __init__(self, path: Path, newline: str | None = None) -> None:
        self.path = path
        self._newline = newline
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        with mended(self.path):
            # File names need not be valid Unicode; what is not is written as \udcXX, which JSON can read.
            self._file = TextIOWrapper(
                self.path.open("wb"),
                encoding="utf-8",
                errors="backslashreplace",
                newline=self._newline,
            )
        return self

    def close(self, whole: bool) -> None:
        if self._file:
            with mended(self.path):
                self._file.close()


class JsonLines(_Log):
    """One JSON object per frame, faces or none, as `FrameResult.row` gives it. Raises `SinkError`."""

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        assert self._file is not None
        with mended(self.path):
            self._file.write(json.dumps(result.row(), ensure_ascii=False) + "\n")
            self._file.flush()


class Csv(_Log):
    """One row per face, and one with empty face fields for a frame without any. Raises `SinkError`.

    Columns: frame, time, event (for stills: file, error), id, x1, y1, x2, y2, score, emotion, confidence,
    probability_<class> for each class.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], stills: bool) -> None:
        super().__init__(path, newline="")
        self._frame = ["frame", "time", *(["file", "error"] if stills else ["event"])]
        self._columns = [*self._frame, "id", "x1", "y1", "x2", "y2", "score", "emotion", "confidence"]
        self._columns += [f"probability_{name}" for name in classes]

    def __enter__(self) -> Self:
        super().__enter__()
        assert self._file is not None
        self._writer = csv.DictWriter(self._file, self._columns, extrasaction="ignore", lineterminator="\n")
        with mended(self.path):
            self._writer.writeheader()
            self._file.flush()
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        assert self._file is not None
        row = result.row()
        with mended(self.path):
            for face in row["faces"] or [{}]:
                self._writer.writerow({**{k: row.get(k) for k in self._frame}, **_flat(face)})
            self._file.flush()


def _flat(face: dict[str, Any]) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), face.get("box", ()), strict=False))
    return {**face, **corners, **{f"probability_{k}": v for k, v in face.get("probabilities", {}).items()}}


class Pictures(Sink):
    """Annotated stills, each whole under its name or not there. Raises `SinkError`.

    path: a file, or with `folder=True` a folder, where each still keeps its name; one of a format that cannot
    be written gets `.png` behind it.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, folder: bool) -> None:
        self.path = path
        self._folder = folder

    def place(self, name: str) -> Path:
        """Where a still of that name goes in a folder."""
        path = self.path / name
        return path if path.suffix.lower() in IMAGE_ENDINGS else path.with_name(f"{path.name}.png")

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is None:
            return
        path = self.path
        if self._folder:
            assert result.frame.file is not None
            path = self.place(result.frame.file)
        try:
            good, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        except cv2.error:
            good = False
        if not good:
            raise SinkError(f"cannot write {path}: {path.suffix} does not hold a picture of this size; use .png")
        write_whole(path, data.tobytes(), new_folder=True)
