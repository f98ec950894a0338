"""What a run is to write, checked before anything heavy is loaded and before the first frame."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fer.errors import ConfigError, SinkError
from fer.files import expand
from fer.stream.sinks.base import (
    IMAGE_ENDINGS,
    LOG_ENDINGS,
    Csv,
    JsonLines,
    Pictures,
    Sink,
    mended,
)
from fer.stream.sinks.timeline import TIMELINE_ENDINGS, Timeline
from fer.stream.sinks.video import VIDEO_FORMATS, VideoFile
from fer.stream.sources import Source
from fer.stream.sources.stills import Folder
from fer.stream.stats import Stats

_SAVES = {
    "image": ("an image", IMAGE_ENDINGS),
    "video": ("a video", tuple(VIDEO_FORMATS)),
    "camera": ("a camera", tuple(VIDEO_FORMATS)),
    "network": ("a stream", tuple(VIDEO_FORMATS)),
}


@dataclass(frozen=True)
class Outputs:
    """The files of a run, all checked by `of`: a picture, video or folder, a log, the statistics, the timeline; None
    for none."""

    source: Source
    save: Path | None
    log: Path | None
    stats: Path | None
    timeline: Path | None = None
    report: Path | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        artifact: str | None,
        save: str | None,
        log: str | None,
        stats: str | None,
        timeline: str | None = None,
        report: str | None = None,
    ) -> Self:
        """Raises `SinkError` where an ending does not fit, two names mean one file, or a place cannot be
        written."""
        outputs = cls(source, _path(save), _path(log), _path(stats), _path(timeline), _path(report))
        outputs._check_endings()
        outputs._check_distinct(_path(artifact))
        for name, path in outputs._named().items():
            _check_place(name, path, folder=name == "save" and source.kind == "folder")
        return outputs

    def _named(self) -> dict[str, Path]:
        named = {"save": self.save, "log": self.log, "stats": self.stats}
        named |= {"timeline": self.timeline, "report": self.report}
        return {name: path for name, path in named.items() if path is not None}

    def paths(self) -> list[Path]:
        """Everything that is asked for: the picture, the log, the statistics, the timeline, the report."""
        return list(self._named().values())

    def _check_endings(self) -> None:
        if self.log:
            _check_ending("log", self.log, LOG_ENDINGS)
        if self.stats:
            _check_ending("stats", self.stats, (".json",))
        if self.timeline:
            _check_ending("timeline", self.timeline, TIMELINE_ENDINGS)
            self._check_film("timeline")
        if self.report:
            _check_ending("report", self.report, (".html",))
            self._check_film("report")
        if not self.save:
            return
        if self.source.kind != "folder":
            what, endings = _SAVES[self.source.kind]
            _check_ending("save", self.save, endings, f"{self.source.name} is {what}, ")
        elif self.save.suffix.lower() in (*IMAGE_ENDINGS, *VIDEO_FORMATS):
            raise SinkError(f"save={self.save} is one file, but the source is a folder; give save=<another folder>")

    def _check_film(self, name: str) -> None:
        if self.source.still:
            raise SinkError(f"{name}= shows faces over time, but {self.source.name} has none; give log= or save=")

    def _check_distinct(self, artifact: Path | None) -> None:
        known = {"source": self.source.path, "artifact": artifact}
        for name, path in self._named().items():
            for other, taken in known.items():
                if taken is not None and _same(path, taken):
                    raise SinkError(f"{name}= and {other}= are both {path}; give {name}= another name")
            known[name] = path
        if self.save and isinstance(self.source, Folder):
            pictures, originals = Pictures(self.save, folder=True), {file.resolve() for file in self.source.files}
            for place in map(pictures.place, self.source.names):
                if place.resolve() in originals:
                    raise SinkError(f"save={self.save} would replace {place} itself; give save=<another folder>")

    def sinks(
        self,
        classes: tuple[str, ...],
        threads: int | None = None,
        model: str = "",
        stats: Stats | None = None,
    ) -> list[Sink]:
        """What writes them.

        model, stats: how the report calls the artifact, and what it takes its figures from.
        """
        sinks: list[Sink] = []
        if self.log:
            is_csv = self.log.suffix.lower() == ".csv"
            sinks.append(Csv(self.log, classes, self.source.still) if is_csv else JsonLines(self.log))
        if self.save and self.source.still:
            sinks.append(Pictures(self.save, folder=self.source.kind == "folder"))
        elif self.save:
            assert self.source.rate is not None
            sinks.append(VideoFile(self.save, self.source.rate, threads, self.source.path))
        if self.timeline:
            sinks.append(Timeline(self.timeline, classes))
        if self.report:
            from fer.stream.sinks.report import HtmlReport

            sinks.append(HtmlReport(self.report, classes, self.source, model, stats or Stats()))
        return sinks

    def wants_window(self, view: str) -> bool:
        """Whether to open a window. `auto`: where somebody sits at a screen, and for stills only where
        nothing is written, since each of them waits for a key. Raises `SinkError` for `window` where none can
        be opened."""
        if view == "none":
            return False
        if view not in ("auto", "window"):
            raise ConfigError(f"view={view} is unknown; choose auto, window or none")
        if view == "auto" and (not sys.stdin or not sys.stdin.isatty() or (self.source.still and self.paths())):
            return False
        from fer.stream.sinks.window import why_no_window

        why = why_no_window()
        if why and view == "window":
            raise SinkError(f"view=window: {why}")
        return why is None


def _path(value: str | None) -> Path | None:
    return expand(value) if value else None


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))


def _check_ending(name: str, path: Path, endings: tuple[str, ...], because: str = "") -> None:
    if path.suffix.lower() not in endings:
        raise SinkError(f"{because}{name}={path} has no ending that fits; use {' or '.join(endings)}")


def _check_place(name: str, path: Path, folder: bool) -> None:
    """Make the folder, and see whether a file can be made in it; a long run must not fail at its end."""
    if path.is_dir() and not folder:
        raise SinkError(f"{name}={path} is a folder; give a file in it")
    if path.exists() and folder and not path.is_dir():
        raise SinkError(f"{name}={path} is a file, but the source is a folder; give {name}=<another folder>")
    with mended(path):
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(13, "permission denied")
        trial = path / ".trial" if folder else path.with_name(f".{path.name}.trial")
        trial.open("wb").close()
        trial.unlink()
