"""What a run saw over time, in memory that does not grow with its length."""

from dataclasses import dataclass, field

import numpy as np

from fer.stream.types import Array, FrameResult

_BINS = 600
"""Steps of time per track. When they are full, each two become one of twice the width."""

_WIDTH = 0.1
"""Seconds per step at the start: 600 of them are a minute; two hours end with steps of 12.8 seconds."""

_LONGEST = 1.0
"""Seconds that one frame stands for at most; a longer gap means that the source stood still."""

_TRACKS = 64
"""Tracks kept at most. Of more, the one seen for the shortest time is only counted."""


@dataclass(eq=False)
class Track:
    """One id.

    Attributes:
        sums: float64 (bins, K), probabilities times seconds.
        seconds: float64 (bins,), how long it was in sight.
        labels: float64 (K,), seconds for which each class was shown.
        first, last: When it was in sight, in seconds of the source.
    """

    sums: Array
    seconds: Array
    labels: Array
    first: float
    last: float

    @property
    def total(self) -> float:
        """Seconds in sight."""
        return float(self.labels.sum())


@dataclass(eq=False)
class History:
    """The mean of the shown probabilities of each track, by step of time.

    Attributes:
        classes: Names of the K classes.
        width: Seconds per step.
        tracks: By id, up to 64. Faces without an id count in `labels` alone.
        left_out, left_out_seconds: Number of tracks that are only counted, and their time in sight.
        labels: float64 (K,), seconds for which each class was shown, over all faces.
        start, end: Of what was seen, in seconds of the source.
    """

    classes: tuple[str, ...]
    width: float = _WIDTH
    tracks: dict[int, Track] = field(default_factory=dict)
    left_out: int = 0
    left_out_seconds: float = 0.0
    start: float | None = None
    end: float = 0.0

    def __post_init__(self) -> None:
        self.labels: Array = np.zeros(len(self.classes))
        self._last: tuple[float, list[int], Array, Array] | None = None  # waits for its duration
        self._step = 1 / 30

    def add(self, result: FrameResult) -> None:
        """Add the next frame."""
        ids = [0] * len(result.faces) if result.faces.ids is None else result.faces.ids.tolist()
        labels = result.shown.argmax(axis=1) if result.labels is None else result.labels
        self.put(result.frame.time, ids, result.shown, labels)

    def put(self, time: float, ids: list[int], shown: Array, labels: Array) -> None:
        """Add a frame with N faces: its seconds, their ids, probabilities (N, K) and classes int64 (N,)."""
        if self.start is None:
            self.start = time
        if self._last is not None:
            time = max(time, self._last[0])  # in broken sources time runs backwards
            lasted = min(time - self._last[0], _LONGEST)
            self._count(lasted)
            self._step = lasted or self._step
        self._last, self.end = (time, ids, shown, labels), time + self._step

    def finish(self) -> None:
        """Count the last frame for as long as the one before it."""
        self._count(self._step)
        self._last = None

    def _count(self, lasted: float) -> None:
        if self._last is None or lasted <= 0 or not self._last[1]:
            return
        time, ids, probabilities, labels = self._last
        steps = self._steps(time, time + lasted)
        for identity, shown, label in zip(ids, probabilities, labels, strict=True):
            self.labels[label] += lasted
            if not identity:
                continue
            track = self.tracks.get(identity) or self._new(identity, time, ids)
            track.labels[label] += lasted
            track.last = time + lasted
            for step, part in steps:
                track.seconds[step] += part
                track.sums[step] += part * shown

    def _steps(self, begin: float, end: float) -> list[tuple[int, float]]:
        """The steps between two times, each with the seconds of it that lie between them."""
        assert self.start is not None
        begin, end = begin - self.start, end - self.start
        while end >= _BINS * self.width:
            self.width *= 2
            for track in self.tracks.values():
                track.seconds, track.sums = _halved(track.seconds), _halved(track.sums)
        steps = range(int(begin / self.width), int(end / self.width) + 1)
        parts = [(k, min(end, (k + 1) * self.width) - max(begin, k * self.width)) for k in steps]
        return [(k, part) for k, part in parts if part > 1e-9]

    def _new(self, identity: int, time: float, present: list[int]) -> Track:
        if len(self.tracks) >= _TRACKS:
            away = [k for k in self.tracks if k not in present] or list(self.tracks)
            self.left_out += 1
            self.left_out_seconds += self.tracks.pop(min(away, key=lambda k: self.tracks[k].total)).total
        count = len(self.classes)
        self.tracks[identity] = Track(np.zeros((_BINS, count)), np.zeros(_BINS), np.zeros(count), time, time)
        return self.tracks[identity]

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the time axis in seconds, at least one step apart."""
        start = self.start or 0.0
        return start, max(self.end, start + self.width)

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
        runs = self.runs(identity)
        return [(self.classes[k], _area(*run, k)) for k in reversed(range(len(self.classes))) for run in runs]

    def runs(self, identity: int) -> list[tuple[Array, Array]]:
        """Each stretch in which a track was in sight: edges of its steps in seconds, (n + 1,), and its mean
        probabilities, (n, K), rows that sum to 1."""
        track = self.tracks[identity]
        seen = np.flatnonzero(track.seconds > 0)
        stretches = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1) if len(seen) else []
        runs = []
        for steps in stretches:
            edges = (self.start or 0.0) + np.append(steps, steps[-1] + 1) * self.width
            # A face that comes or goes within a step is drawn from when it came, until it went.
            runs.append((np.clip(edges, track.first, track.last), track.sums[steps] / track.seconds[steps, None]))
        return runs


def _area(edges: Array, means: Array, k: int) -> Array:
    tops = np.minimum(means[:, : k + 1].sum(axis=1), 1)
    first, last = edges[0], edges[-1]
    x = np.concatenate([[first, first], (edges[:-1] + edges[1:]) / 2, [last, last]])
    return np.column_stack([x, np.concatenate([[0, tops[0]], tops, [tops[-1], 0]])])


def _halved(values: Array) -> Array:
    """Each two neighbours added, and zeros behind them: (bins, …) stays (bins, …)."""
    joined = values.reshape(len(values) // 2, 2, *values.shape[1:]).sum(axis=1)
    return np.concatenate([joined, np.zeros_like(joined)])


def clock(seconds: float) -> str:
    """Seconds as people write them: 0:07, 12:30, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
