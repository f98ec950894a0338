"""The emotions of each face over time, in memory that does not grow with the length of the run."""

from dataclasses import dataclass, field

import numpy as np

from fer.faces.types import Array
from fer.stream.types import FrameResult

_PIECES = 600
"""Most pieces of a track. Further ones merge with their neighbours into pieces of twice the width."""

_WIDTH = 0.1
"""Seconds per piece at the start: 600 of them are a minute; two hours end with pieces of 12.8 seconds."""

_ALONE = 1 / 30
"""Seconds for which a single frame counts."""

_TRACKS = 64
"""Most tracks that are kept. Each further one replaces the shortest, which is only counted."""


@dataclass(eq=False)
class Piece:
    """A short stretch of a track.

    Attributes:
        begin, end: Seconds.
        sums: float64 (K + 1,), probabilities times seconds in sight, then the seconds in sight.
    """

    begin: float
    end: float
    sums: Array


@dataclass(eq=False)
class Track:
    """The history of one id.

    Attributes:
        labels: float64 (K,), seconds for which each class was shown.
        width: Most seconds that a piece covers.
        pieces: In chronological order.
    """

    labels: Array
    width: float = _WIDTH
    pieces: list[Piece] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Total seconds in sight."""
        return float(self.labels.sum())

    def add(self, begin: float, end: float, sums: Array) -> None:
        """Extend the last piece by a stretch of time, or add a new piece if it would become too long."""
        last = self.pieces[-1] if self.pieces else None
        if last and end - last.begin <= self.width + 1e-9:
            last.end, last.sums = end, last.sums + sums
            return
        self.pieces.append(Piece(begin, end, sums))
        if len(self.pieces) > _PIECES:
            self.width *= 2
            pieces, self.pieces = self.pieces, []
            for piece in pieces:
                self.add(piece.begin, piece.end, piece.sums)

    def runs(self) -> list[tuple[Array, Array]]:
        """Return the periods in which the track was in sight without a break.

        Returns:
            For each period, edges of its n pieces in seconds, (n + 1,), and mean probabilities, (n, K), with rows that
            sum to 1.
        """
        runs: list[list[Piece]] = []
        for piece in self.pieces:
            if runs and piece.begin - runs[-1][-1].end < self.width:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        edges = [np.array([*(p.begin for p in run), run[-1].end]) for run in runs]
        sums = [np.stack([p.sums for p in run]) for run in runs]
        return [(edge, rows[:, :-1] / rows[:, -1:]) for edge, rows in zip(edges, sums, strict=True)]


class History:
    """The mean of the shown probabilities of each track over time.

    Attributes:
        classes: Names of the K classes.
        tracks: By id, up to 64. Faces without an id count in `labels` alone.
        left_out, left_out_seconds: Number of tracks that are only counted, and their time in sight.
        labels: float64 (K,), seconds for which each class was shown, over all faces.
        start, end: Seconds of the source from the first frame to the end of the last; `start` is None before the first.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.tracks: dict[int, Track] = {}
        self.left_out, self.left_out_seconds = 0, 0.0
        self.labels: Array = np.zeros(len(classes))
        self.start: float | None = None
        self.end = 0.0
        self._last: tuple[list[int], Array, list[int]] | None = None  # ids, probabilities and labels of the last frame
        self._time, self._step = 0.0, _ALONE  # of the last frame, and from the one before to it

    def add(self, result: FrameResult) -> None:
        """Add the next frame. It counts until the one after it; if the source is away then, it counts like the last."""
        time = result.frame.time
        if self.start is None:
            self.start = time
        elif result.frame.event is None:
            self._step = time - self._time
        self.finish()
        ids = [0] * len(result.faces) if result.faces.ids is None else result.faces.ids.tolist()
        labels = result.shown.argmax(axis=1) if result.labels is None else result.labels
        self._last, self._time = (ids, result.shown, labels.tolist()), time

    def finish(self) -> None:
        """Count the last frame, for as long as the one before."""
        if self._last is None:
            return
        ids, probabilities, labels = self._last
        self._last, self.end = None, self._time + self._step
        for identity, shown, label in zip(ids, probabilities, labels, strict=True):
            self.labels[label] += self._step
            if identity:
                track = self.tracks.get(identity) or self._new(identity, ids)
                track.labels[label] += self._step
                track.add(self._time, self.end, self._step * np.append(shown, 1.0))

    def _new(self, identity: int, present: list[int]) -> Track:
        if len(self.tracks) >= _TRACKS:
            away = [k for k in self.tracks if k not in present] or list(self.tracks)
            self.left_out += 1
            self.left_out_seconds += self.tracks.pop(min(away, key=lambda k: self.tracks[k].total)).total
        self.tracks[identity] = Track(np.zeros(len(self.classes)))
        return self.tracks[identity]

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the time axis in seconds, at least 0.1 apart."""
        start = self.start or 0.0
        return start, max(self.end, start + _WIDTH)

    def longest(self, most: int) -> list[int]:
        """Return the ids of the `most` tracks that were in sight longest, in ascending order."""
        return sorted(sorted(self.tracks, key=lambda k: (-self.tracks[k].total, k))[:most])

    def rest(self, most: int) -> str:
        """Describe the tracks beyond `longest(most)`, as in "and 3 more, in sight for 0:12 in all"; "" if none."""
        shown = self.longest(most)
        seconds = self.left_out_seconds + sum(t.total for k, t in self.tracks.items() if k not in shown)
        count = self.left_out + len(self.tracks) - len(shown)
        return f"and {count} more, in sight for {clock(seconds)} in all" if count else ""

    def areas(self, identity: int) -> list[tuple[str, Array]]:
        """Return the stacked area chart of a track, with gaps where the face is out of sight.

        Returns:
            Class and polygon, float64 (P, 2) of seconds and cumulative probability, in the order of painting: each
            polygon reaches down to 0, and the next one covers its lower part.
        """
        runs = self.tracks[identity].runs()
        return [(self.classes[k], _area(*run, k)) for k in reversed(range(len(self.classes))) for run in runs]


def _area(edges: Array, means: Array, k: int) -> Array:
    tops = np.minimum(means[:, : k + 1].sum(axis=1), 1)
    first, last = edges[0], edges[-1]
    x = np.concatenate([[first, first], (edges[:-1] + edges[1:]) / 2, [last, last]])
    return np.column_stack([x, np.concatenate([[0, tops[0]], tops, [tops[-1], 0]])])


def clock(seconds: float) -> str:
    """Format seconds as 0:07, 12:30 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
