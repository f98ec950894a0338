"""Logs of all frames, and the statistics of the run."""

import csv
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from fer.errors import SinkError
from fer.faces.types import Array
from fer.stream.sinks.base import Context, Sink, sink, sink_errors, write_output
from fer.stream.types import ANGLES, FrameResult

_CORNERS = "x1", "y1", "x2", "y2"


class _Log(Sink):
    """A text file that grows row by row; each row is on disk as soon as it is complete."""

    stage = "log"
    inline = True  # a row takes less time than waking a thread for it
    _file: TextIO

    def __init__(self, path: Path, context: Context | None = None) -> None:
        self.path, self._context = path, context

    def __enter__(self) -> Self:
        with sink_errors(self.path):
            # File names need not be valid Unicode; invalid bytes become \udcXX, which JSON can read.
            self._file = self.path.open("w", 1, encoding="utf-8", errors="backslashreplace", newline="")
        return self

    def _row(self, result: FrameResult) -> dict[str, Any]:
        known = {"model": self._context.model} if self._context and self._context.model else {}
        return {**result.row(), **known}

    def close(self, complete: bool) -> None:
        with sink_errors(self.path):
            self._file.close()
        if not self.path.exists():
            raise SinkError(f"{self.path} was moved or deleted during the run; run again and leave it where it is")


@sink("log", ".jsonl")
class JsonLines(_Log):
    """One JSON object per frame, with or without faces, as returned by `FrameResult.row`, and the `model`, if known."""

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        with sink_errors(self.path):
            self._file.write(json.dumps(self._row(result), ensure_ascii=False) + "\n")


@sink("log", ".csv")
class Csv(_Log):
    """One row per face, and one with empty face fields for a frame without faces.

    Columns: frame, time, event, carried (for stills file and error instead of both), id, x1, y1, x2, y2, score, yaw,
    pitch, roll, emotion, confidence, uncertain, probability_<class> for each class, model. What is unknown is empty.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        assert self._context is not None
        of_frame = ["frame", "time", *(["file", "error"] if self._context.source.still else ["event", "carried"])]
        self._columns = class_columns(self._context.classes)
        columns = [*of_frame, "id", *_CORNERS, "score", *ANGLES, "emotion", "confidence", "uncertain"]
        columns += [*self._columns.values(), "model"]
        self._writer = csv.DictWriter(self._file, columns, extrasaction="ignore", lineterminator="\n")
        with sink_errors(self.path):
            self._writer.writeheader()
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        row = self._row(result)
        with sink_errors(self.path):
            for face in row["faces"] or [{}]:
                values = {"carried": False, **row, **self._flat(face)}
                # R reads TRUE as logical, and True as text.
                self._writer.writerow({k: str(v).upper() if isinstance(v, bool) else v for k, v in values.items()})

    def _flat(self, face: dict[str, Any]) -> dict[str, Any]:
        corners = dict(zip(_CORNERS, face.get("box", ()), strict=False))
        return {**face, **corners, **{self._columns[k]: v for k, v in face.get("probabilities", {}).items()}}


def class_columns(classes: Sequence[str]) -> dict[str, str]:
    """Return the column of each class, such as probability_happy, with letters, digits and _ only, no two the same."""
    columns: dict[str, str] = {}
    for name in classes:
        column = base = "probability_" + re.sub(r"\W", "_", name)
        for number in itertools.count(2):
            if column not in columns.values():
                break
            column = f"{base}_{number}"
        columns[name] = column
    return columns


@sink("stats", ".json")
class StatsFile(Sink):
    """The model, counts of the run and times of its stages, as returned by `Stats.as_dict`."""

    frames = False

    def __init__(self, path: Path, context: Context) -> None:
        self.path, self._context = path, context

    def close(self, complete: bool) -> None:
        if complete:
            values = {"model": self._context.model, **self._context.stats.as_dict()}
            write_output(self.path, json.dumps(values, indent=2) + "\n")
