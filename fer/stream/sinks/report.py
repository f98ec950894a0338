"""A run as one page: shares of the emotions, each face over time, and its clearest moments. It asks nothing of the
network."""

import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from fer.stream.faces.classify import crop_face
from fer.stream.sinks.base import Sink, write_whole
from fer.stream.sinks.history import History, clock
from fer.stream.sinks.timeline import hex_colour, tick
from fer.stream.sources import Source
from fer.stream.sources.live import without_password
from fer.stream.stats import Stats
from fer.stream.types import Array, FrameResult

_PANELS = 12
"""Tracks that the page shows; the rest is said in words."""

_SIDE = 128
"""Pixels across of a key frame."""

_MARGIN = 0.25
"""Share of a box that its key frame shows more on each side."""

_CLEARER = 0.02
"""How much surer, 0 to 1, a moment must be to take another's place; every frame of a slow rise would cost time."""


@dataclass(frozen=True)
class KeyFrame:
    """A face at the moment when an emotion showed clearest. confidence: 0 to 1. time: seconds. jpeg: the picture."""

    confidence: float
    time: float
    jpeg: bytes = field(repr=False)


class HtmlReport(Sink):
    """Writes the page at the end of the run, after Ctrl-C too.

    path: an .html. model: how the page calls the artifact. stats: what the run counts; read at its end. Key frames are
    cut from the frames as they come, so that what is hidden there is hidden here. Raises `SinkError`.
    """

    stage = "report"

    def __init__(self, path: Path, classes: tuple[str, ...], source: Source, model: str, stats: Stats) -> None:
        self.path = path
        self._history = History(classes)
        self._source, self._model, self._stats = source, model, stats
        self._keys: dict[int, dict[str, KeyFrame]] = {}
        self._begun = 0.0

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        self._history.add(result)
        if result.faces.ids is None or not result.searched:
            return
        for i, (emotion, confidence) in enumerate(result.emotions()):
            best = self._keys.setdefault(int(result.faces.ids[i]), {})
            if emotion not in best or confidence > best[emotion].confidence + _CLEARER:
                jpeg = _jpeg(crop_face(result.frame.image, result.faces.boxes[i], _MARGIN, _SIDE))
                best[emotion] = KeyFrame(confidence, result.frame.time, jpeg)
        if len(self._keys) > 2 * len(self._history.tracks) + 8:  # of tracks that the history has dropped
            kept = {*self._history.tracks, *result.faces.ids.tolist()}
            self._keys = {k: best for k, best in self._keys.items() if k in kept}

    def close(self, whole: bool) -> None:
        if whole:
            self._history.finish()
            write_whole(self.path, self._page().encode("utf-8", "backslashreplace"))  # its name may be bytes

    def _page(self) -> str:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        loader = FileSystemLoader(Path(__file__).parent)
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        history = self._history
        seconds = time.perf_counter() - self._begun
        start, end = history.start or 0.0, max(history.end, (history.start or 0.0) + history.width)
        step = tick(end - start)
        marks = np.arange(np.ceil(start / step), np.floor(end / step) + 1) * step
        return environment.get_template("report.html.j2").render(
            source=_public(self._source),
            model=self._model,
            classes=[{"name": name, "colour": hex_colour(name)} for name in history.classes],
            shares=self._shares(history.labels),
            tracks=[self._track(identity, start, end) for identity in history.longest(_PANELS)],
            rest=history.rest(_PANELS),
            marks=[{"left": round(100 * (t - start) / (end - start), 2), "text": clock(float(t))} for t in marks],
            length=clock(end - start),
            faces=len(history.tracks) + history.left_out,
            stats=self._stats,
            stages=self._stats.stages(),
            seconds=seconds,
            fps=self._stats.frames / seconds if seconds else 0.0,
            made=time.strftime("%Y-%m-%d %H:%M"),
        )

    def _shares(self, labels: Array) -> list[dict[str, Any]]:
        """The classes that were shown at all, the commonest first, with their share of the time in per cent."""
        total = float(labels.sum())
        order = [k for k in np.argsort(-labels, kind="stable") if labels[k] > 0]
        names = self._history.classes
        return [{"name": names[k], "colour": hex_colour(names[k]), "percent": 100 * labels[k] / total} for k in order]

    def _track(self, identity: int, start: float, end: float) -> dict[str, Any]:
        track = self._history.tracks[identity]
        shares = self._shares(track.labels)
        keys = self._keys.get(identity, {})
        return {
            "id": identity,
            "total": clock(track.total),
            "first": clock(track.first),
            "last": clock(track.last),
            "shares": shares,
            "areas": _areas(self._history, identity, start, end),
            "keys": [
                {
                    "name": share["name"],
                    "colour": share["colour"],
                    "percent": 100 * keys[share["name"]].confidence,
                    "time": clock(keys[share["name"]].time),
                    "data": b64encode(keys[share["name"]].jpeg).decode(),
                }
                for share in shares
                if share["name"] in keys
            ],
        }


def _areas(history: History, identity: int, start: float, end: float) -> list[dict[str, str]]:
    """SVG paths of stacked areas, 1000 wide and 100 high; each reaches down to the ground, the next covers it."""
    runs = history.runs(identity)
    areas = []
    for k in reversed(range(len(history.classes))):
        path = ""
        for edges, means in runs:
            x = 1000 * (edges - start) / (end - start)
            y = 100 - 100 * np.minimum(means[:, : k + 1].sum(axis=1), 1)
            middles = (x[:-1] + x[1:]) / 2
            points = [(x[0], y[0]), *zip(middles, y, strict=True), (x[-1], y[-1])]
            line = "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
            path += f"M{x[0]:.1f} 100L{line}L{x[-1]:.1f} 100Z"
        areas.append({"colour": hex_colour(history.classes[k]), "path": path})
    return areas


def _jpeg(face: Array) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return data.tobytes()


def _public(source: Source) -> str:
    """How the page calls the source: a file without its folders, an address without user and password."""
    return source.path.name if source.path is not None else without_password(source.name).split("?")[0]
