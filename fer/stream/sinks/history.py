"""What a run saw, over time, in memory that does not grow with its length."""

from dataclasses import dataclass, field

import numpy as np

from fer.stream.types import Array, FrameResult

_BINS = 600
"""Steps of time that a track is kept in; when they are full, each two become one, twice as wide."""

_WIDTH = 0.1
"""Seconds of a step at the start: 600 of them are a minute, two hours end with steps of 12.8 seconds."""

_LONGEST = 1.0
"""Seconds that one frame stands for at most; what is longer is a source that stood still."""

_TRACKS = 64
"""Tracks kept at most; of more, the one seen for the shortest time is only counted."""


@dataclass(eq=False)
class Track:
    """One id. sums: float64 (bins, K), probabilities times seconds; seconds: float64 (bins,), how long it was in sight;
    labels: float64 (K,), seconds that it was shown as each class; first, last: seconds of the source."""

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
class _Before:
    """The faces of a frame until the next one tells how long they lasted."""

    time: float
    ids: list[int]
    shown: Array
    labels: Array


@dataclass(eq=False)
class History:
    """The shown probabilities of each track, mean by step of time.

    classes: the K names. tracks: by id, up to 64. width: seconds of a step. labels: float64 (K,), seconds of all faces
    by the class they were shown as. start, end: seconds of the source, None and 0 before the first frame. left_out: how
    many tracks are only counted; left_out_seconds: their time. Ids are those of `Faces.ids`; faces without one count in
    `labels` alone.
    """

    classes: tuple[str, ...]
    width: float = _WIDTH
    tracks: dict[int, Track] = field(default_factory=dict)
    left_out: int = 0
    left_out_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.labels: Array = np.zeros(len(self.classes))
        self.start: float | None = None
        self._before: _Before | None = None
        self.end = 0.0
        self._step = 1 / 30

    def add(self, result: FrameResult) -> None:
        """Add the next frame."""
        ids = [0] * len(result.faces) if result.faces.ids is None else result.faces.ids.tolist()
        labels = result.shown.argmax(axis=1) if result.labels is None else result.labels
        self.put(result.frame.time, ids, result.shown, labels)

    def put(self, time: float, ids: list[int], shown: Array, labels: Array) -> None:
        """Add a frame: time in seconds, and of N faces the ids, probabilities (N, K) and classes int64 (N,)."""
        if self.start is None:
            self.start = time
        before = self._before
        if before is not None:
            time = max(time, before.time)  # broken sources have time that runs backwards
            lasted = min(time - before.time, _LONGEST)
            self._count(before, lasted)
            self._step = lasted or self._step
        self._before, self.end = _Before(time, ids, shown, labels), time + self._step

    def finish(self) -> None:
        """Count the last frame too, for as long as the one before it lasted."""
        if self._before is not None:
            self._count(self._before, self._step)
            self._before = None

    def _count(self, faces: _Before, lasted: float) -> None:
        if lasted <= 0 or not faces.ids:
            return
        steps = self._steps(faces.time, faces.time + lasted)
        for identity, shown, label in zip(faces.ids, faces.shown, faces.labels, strict=True):
            self.labels[label] += lasted
            if not identity:
                continue
            track = self.tracks.get(identity) or self._new(identity, faces)
            track.labels[label] += lasted
            track.last = faces.time + lasted
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

    def _new(self, identity: int, faces: _Before) -> Track:
        if len(self.tracks) >= _TRACKS:
            away = [k for k in self.tracks if k not in faces.ids] or list(self.tracks)
            shortest = min(away, key=lambda k: self.tracks[k].total)
            self.left_out += 1
            self.left_out_seconds += self.tracks.pop(shortest).total
        count = len(self.classes)
        track = Track(np.zeros((_BINS, count)), np.zeros(_BINS), np.zeros(count), faces.time, faces.time)
        self.tracks[identity] = track
        return track

    def longest(self, most: int) -> list[int]:
        """The ids of up to so many tracks that were in sight longest, in order of id."""
        return sorted(sorted(self.tracks, key=lambda k: (-self.tracks[k].total, k))[:most])

    def rest(self, most: int) -> str:
        """What `longest(most)` leaves out, in words such as "and 3 more, in sight for 0:12 in all", or ""."""
        shown = self.longest(most)
        seconds = self.left_out_seconds + sum(t.total for k, t in self.tracks.items() if k not in shown)
        count = self.left_out + len(self.tracks) - len(shown)
        return f"and {count} more, in sight for {clock(seconds)} in all" if count else ""

    def runs(self, identity: int) -> list[tuple[Array, Array]]:
        """Where a track was in sight: for each stretch the edges of its steps in seconds of the source, (n + 1,), and
        its mean probabilities, (n, K), rows that sum to 1."""
        track = self.tracks[identity]
        seen = np.flatnonzero(track.seconds > 0)
        stretches = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1) if len(seen) else []
        start = self.start or 0.0
        found = []
        for steps in stretches:
            edges = start + np.append(steps, steps[-1] + 1) * self.width
            # A face that comes or goes within a step is drawn from when it came, until it went.
            edges = np.clip(edges, track.first, track.last)
            found.append((edges, track.sums[steps] / track.seconds[steps, None]))
        return found


def _halved(values: Array) -> Array:
    """Each two neighbours added, and zeros behind them: (bins, …) stays (bins, …)."""
    joined = values.reshape(len(values) // 2, 2, *values.shape[1:]).sum(axis=1)
    return np.concatenate([joined, np.zeros_like(joined)])


def clock(seconds: float) -> str:
    """Seconds as people say them: 0:07, 12:30, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
