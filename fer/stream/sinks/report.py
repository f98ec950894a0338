"""The emotions of a run over time, as a self-contained HTML page, as a picture, or both."""

import time
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fer.faces.crop import crop_face
from fer.faces.types import Array
from fer.stream.sinks.base import FILMS, Context, Sink, sink, write_output
from fer.stream.sinks.history import History, clock
from fer.stream.sinks.pictures import encode
from fer.stream.sinks.timeline import draw_timeline, hex_colours, tick
from fer.stream.sources.network import without_password
from fer.stream.types import FrameResult

_PANELS = 12
"""Most tracks on the page; a sentence counts the others."""

_SIDE = 128
"""Side of a key frame in pixels."""

_MARGIN = 0.25
"""Margin of a key frame on each side, as a share of the box."""

_CLEARER = 0.02
"""How much more confident a moment must be to replace another. Encoding every frame of a slow rise costs time."""


class KeyFrame(NamedTuple):
    """The face at the moment when an emotion was clearest.

    Attributes:
        confidence: 0 to 1.
        time: Seconds of the source.
        jpeg: The picture, encoded as JPEG.
    """

    confidence: float
    time: float
    jpeg: bytes


@sink("report", ".html", sources=FILMS)
@sink("timeline", ".png", ".svg", ".pdf", sources=FILMS)
class Report(Sink):
    """Gathers a `History` and writes it to `context.paths` when the run ends or is stopped.

    `open_sinks` makes one sink for both keys. The timeline is a picture; the report is a page with shares, areas and
    the clearest moments of each face. Key frames are cut from the frames of the results, so blurred faces stay blurred.
    """

    stage = "report"

    def __init__(self, path: Path, context: Context) -> None:
        self._context = context
        self._keys: dict[int, dict[str, KeyFrame]] = {}

    def __enter__(self) -> Self:
        self._history = History(self._context.classes)
        self._tints = hex_colours(self._context.classes)
        return self

    def write(self, result: FrameResult, picture: Array | None = None) -> None:
        self._history.add(result)
        if "report" not in self._context.paths or result.faces.ids is None or not result.searched:
            return
        for i, (emotion, confidence) in enumerate(result.emotions()):
            best = self._keys.setdefault(int(result.faces.ids[i]), {})
            if emotion not in best or confidence > best[emotion].confidence + _CLEARER:
                face = crop_face(result.frame.image, result.faces.boxes[i], _MARGIN, _SIDE)
                best[emotion] = KeyFrame(confidence, result.frame.time, encode(face, Path("face.jpg")))
        if len(self._keys) > 2 * len(self._history.tracks) + 8:  # some belong to tracks that the history has dropped
            kept = {*self._history.tracks, *result.faces.ids.tolist()}
            self._keys = {k: best for k, best in self._keys.items() if k in kept}

    def close(self, complete: bool) -> None:
        if not complete:
            return
        self._history.finish()
        paths = self._context.paths
        if "timeline" in paths:
            write_output(paths["timeline"], draw_timeline(self._history, paths["timeline"].suffix))
        if "report" in paths:
            write_output(paths["report"], self._page())

    def _page(self) -> str:
        from jinja2 import StrictUndefined, Template

        template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
        history, source = self._history, self._context.source
        start, end = history.span
        step = tick(end - start)
        marks = np.arange(np.ceil(start / step), np.floor(end / step) + 1) * step
        return Template(template, autoescape=True, undefined=StrictUndefined, trim_blocks=True).render(
            # No folders of a file, and no user, password and query of a URL.
            source=source.path.name if source.path else without_password(source.name).split("?")[0],
            model=self._context.model,
            shares=self._shares(history.labels),
            tracks=[self._track(identity) for identity in history.longest(_PANELS)],
            rest=history.rest(_PANELS),
            marks=[{"left": round(100 * (t - start) / (end - start), 2), "text": clock(float(t))} for t in marks],
            length=clock(end - start),
            faces=len(history.tracks) + history.left_out,
            stats=self._context.stats,
            made=time.strftime("%Y-%m-%d %H:%M"),
        )

    def _shares(self, labels: Array) -> list[dict[str, Any]]:
        """Return the classes that were shown, the most frequent first, with their share of the time in per cent."""
        order = [(self._history.classes[k], labels[k]) for k in np.argsort(-labels, kind="stable") if labels[k] > 0]
        return [{"name": k, "colour": self._tints[k], "percent": 100 * v / labels.sum()} for k, v in order]

    def _track(self, identity: int) -> dict[str, Any]:
        track, keys = self._history.tracks[identity], self._keys.get(identity, {})
        shares = self._shares(track.labels)
        start, end = self._history.span
        scale = 1000 / (end - start), 100
        areas = [
            {"colour": self._tints[name], "path": _path(np.abs(polygon - (start, 1)) * scale)}  # y points down
            for name, polygon in self._history.areas(identity)
        ]
        for share in shares:
            if key := keys.get(share["name"]):
                share |= {"sure": 100 * key.confidence, "time": clock(key.time), "jpeg": b64encode(key.jpeg).decode()}
        times = {"total": track.total, "first": track.pieces[0].begin, "last": track.pieces[-1].end}
        return {"id": identity, **{k: clock(v) for k, v in times.items()}, "shares": shares, "areas": areas}


def _path(points: Array) -> str:
    """Return a polygon as a path of an SVG that is 1000 wide and 100 high."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
