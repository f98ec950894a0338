"""`resume=auto`: go on with a run over a video that was killed, at the first frame that its log or its video lacks."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from fer.errors import ConfigError
from fer.files import json_object, read, regular
from fer.stream.sinks.base import mended, write_whole
from fer.stream.sinks.video import frames_kept
from fer.stream.sources import Source
from fer.stream.types import Faces, Frame, FrameResult


@dataclass(frozen=True)
class Done:
    """What an earlier run has finished: so many frames from the start, the first of them at `time` seconds."""

    log: Path
    frames: int
    time: float

    def rows(self) -> Iterator[dict[str, Any]]:
        """The log rows of these frames, one by one."""
        with self.log.open(encoding="utf-8") as file:
            for _ in range(self.frames):
                yield json.loads(file.readline())


@contextmanager
def going_on(
    source: Source, log: Path | None, save: Path | None, settings: dict[str, Any], resume: str | None
) -> Iterator[Done | None]:
    """Hold the log of a run, and say what an earlier one with the same settings has finished of it; None for nothing.

    Beside a `.jsonl` log of a video a hidden file tells that its run has not come to its end; it stays after a kill,
    Ctrl-C or an error. Raises `ConfigError` where `resume` cannot be, or another process writes that log.
    """
    if resume not in (None, "auto"):
        raise ConfigError(f"resume={resume} is unknown; give resume=auto")
    if log is None or source.kind != "video" or source.path is None or log.suffix.lower() != ".jsonl":
        if resume:
            raise ConfigError("resume=auto needs a video file and log=<name>.jsonl, which tells what is finished")
        yield None
        return
    mark = log.with_name(f".{log.name}.unfinished")
    stat = source.path.stat()
    wanted = {"source": [source.name, stat.st_size, stat.st_mtime_ns], "settings": settings}
    with _alone(log):
        done = _done(mark, wanted, log, save) if resume else None
        if done is None:
            write_whole(mark, json.dumps(wanted).encode())
        yield done
        mark.unlink(missing_ok=True)


@contextmanager
def _alone(log: Path) -> Iterator[None]:
    path = log.with_name(f".{log.name}.lock")
    with mended(log):
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(f"another process is writing {log}; wait for it, or give another log=") from None
    try:
        yield
    finally:
        lock.release()
        path.unlink(missing_ok=True)


def _done(mark: Path, wanted: dict[str, Any], log: Path, save: Path | None) -> Done | None:
    try:
        if json_object(read(mark)) != wanted:
            return None
        file = regular(log).open("rb")
    except (OSError, ValueError):
        return None
    ends, first, known, new = [0], 0.0, set[int](), False
    rows = {0}  # the numbers of rows after which one can go on
    with file:
        for k, line in enumerate(file):
            try:
                row = json_object(line)
                if not line.endswith(b"\n") or row["frame"] != k:
                    break
                first = row["time"] if k == 0 else first
                if not row.get("carried"):
                    ids = {face["id"] for face in row["faces"]}
                    new = not ids <= known
                    known |= ids
            except (ValueError, KeyError, TypeError):  # a row that was cut short, or edited
                break
            ends.append(ends[-1] + len(line))
            # Who a new face is was told by the next search; without that the tracker would take it for another.
            rows |= set() if new else {k + 1}
    frames = max(rows) if save is None else frames_kept(save, rows, since=mark.stat().st_mtime)
    if not frames:
        return None
    os.truncate(log, ends[frames])
    return Done(log, frames, first)


def replayed(row: dict[str, Any], frame: Frame, classes: tuple[str, ...]) -> FrameResult:
    """The result that a log row tells of, as `FrameResult.row` made it, with its frame."""
    faces, n = row["faces"], len(row["faces"])

    def values(key: str) -> np.ndarray[Any, np.dtype[Any]]:
        return np.array([[face[key][name] for name in classes] for face in faces], np.float32).reshape(n, len(classes))

    ids = None if any(face["id"] is None for face in faces) else np.array([face["id"] for face in faces], np.int64)
    known = Faces(
        np.array([face["box"] for face in faces], np.float32).reshape(n, 4),
        np.array([face["score"] for face in faces], np.float32),
        ids=ids,
    )
    return FrameResult(
        frame,
        known,
        classes,
        values("probabilities"),
        None if any(face["smoothed"] is None for face in faces) else values("smoothed"),
        np.array([classes.index(face["emotion"]) for face in faces], np.int64),
        np.array([face["uncertain"] for face in faces], bool),
        searched=not row.get("carried", False),
    )
