"""What a run saw over time, in memory that does not grow with its length."""

from dataclasses import dataclass, field

import numpy as np

from fer.stream.types import Array, FrameResult

_PIECES = 600
"""Pieces of time per track. When there are more, they are merged into pieces of twice the width."""

_WIDTH = 0.1
"""Seconds per piece at the start: 600 of them are a minute; two hours end with pieces of 12.8 seconds."""

_FIRST = 1 / 30
"""Seconds that the first frame stands for, and one at the same time as the frame before."""

_LONGEST = 1.0
"""Seconds that one frame stands for at most; a longer gap means that the source stood still."""

_TRACKS = 64
"""Tracks kept at most. Of more, the one seen for the shortest time is only counted."""


@dataclass(eq=False)
class Piece:
    """A short stretch of a track: begin and end in seconds, and float64 (K + 1,), probabilities times seconds in sight,
    then the seconds in sight."""

    begin: float
    end: float
    sums: Array


@dataclass(eq=False)
class Track:
    """One id.

    Attributes:
        labels: float64 (K,), seconds for which each class was shown.
        width: Seconds that a piece covers at most.
        pieces: In order of time.
    """

    labels: Array
    width: float = _WIDTH
    pieces: list[Piece] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Seconds in sight."""
        return float(self.labels.sum())

    def add(self, begin: float, end: float, sums: Array) -> None:
        """Add a stretch of time to the last piece if it fits in, and else as a new one."""
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
        """Each stretch in which the track was in sight: edges of its pieces in seconds, (n + 1,), and their mean
        probabilities, (n, K), rows that sum to 1."""
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
        start, end: Of what was seen, in seconds of the source.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.tracks: dict[int, Track] = {}
        self.left_out, self.left_out_seconds = 0, 0.0
        self.labels: Array = np.zeros(len(classes))
        self.start: float | None = None
        self.end = 0.0

    def add(self, result: FrameResult) -> None:
        """Add the next frame, which stands for the time since the one before."""
        if self.start is None:
            self.start = self.end = result.frame.time
        time = max(self.end, result.frame.time)  # in broken sources time runs backwards
        lasted = min(time - self.end, _LONGEST) or _FIRST
        self.end = time
        ids = [0] * len(result.faces) if result.faces.ids is None else result.faces.ids.tolist()
        labels = result.shown.argmax(axis=1) if result.labels is None else result.labels
        for identity, shown, label in zip(ids, result.shown, labels, strict=True):
            self.labels[label] += lasted
            if identity:
                track = self.tracks.get(identity) or self._new(identity, ids)
                track.labels[label] += lasted
                track.add(max(self.start, time - lasted), time, lasted * np.append(shown, 1.0))

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
        """The ids of the `most` tracks that were in sight longest, in order of id."""
        return sorted(sorted(self.tracks, key=lambda k: (-self.tracks[k].total, k))[:most])

    def rest(self, most: int) -> str:
        """What `longest(most)` leaves out, such as "and 3 more, in sight for 0:12 in all", or ""."""
        shown = self.longest(most)
        seconds = self.left_out_seconds + sum(t.total for k, t in self.tracks.items() if k not in shown)
        count = self.left_out + len(self.tracks) - len(shown)
        return f"and {count} more, in sight for {clock(seconds)} in all" if count else ""

    def areas(self, identity: int) -> list[tuple[str, Array]]:
        """The stacked area chart of a track, with gaps where the face is away.

        Returns:
            Class and polygon, float64 (P, 2) of seconds and cumulative probability, in the order in which they are
            painted: each polygon reaches down to 0, and the next one covers its lower part.
        """
        runs = self.tracks[identity].runs()
        return [(self.classes[k], _area(*run, k)) for k in reversed(range(len(self.classes))) for run in runs]


def _area(edges: Array, means: Array, k: int) -> Array:
    tops = np.minimum(means[:, : k + 1].sum(axis=1), 1)
    first, last = edges[0], edges[-1]
    x = np.concatenate([[first, first], (edges[:-1] + edges[1:]) / 2, [last, last]])
    return np.column_stack([x, np.concatenate([[0, tops[0]], tops, [tops[-1], 0]])])


def clock(seconds: float) -> str:
    """Seconds as people write them: 0:07, 12:30, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
