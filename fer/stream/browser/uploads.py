"""One uploaded picture or film: checked, read, answered with files to look at and to keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fer.errors import SourceError
from fer.stream import pipeline
from fer.stream.draw.blur import Blur
from fer.stream.queues import close
from fer.stream.recognizer import Recognizer
from fer.stream.sinks import Context, open_sinks
from fer.stream.sources import open_source
from fer.stream.stats import Stats
from fer.stream.types import FrameResult

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FILMS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")

_STARTS = (
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"\x89PNG"),
    (0, b"RIFF"),  # WebP, AVI
    (0, b"BM"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (4, b"ftyp"),  # MP4, QuickTime, and older QuickTime:
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (4, b"free"),
    (4, b"skip"),
)


@dataclass(frozen=True)
class Answer:
    """What an upload gave: `picture` or `film` with boxes and labels, the `log`, for films the `timeline`, and the
    `words` that say how it went."""

    words: str
    log: Path
    picture: Path | None = None
    film: Path | None = None
    timeline: Path | None = None


def answer(
    path: Path,
    folder: Path,
    recognizer: Recognizer,
    seconds: float,
    blur: str | None = None,
    advance: Callable[[float], object] = lambda share: None,
) -> Answer:
    """Read the upload `path` and write what it shows into `folder`.

    seconds: the longest film that is taken. blur: as in `Blur`, None for none. advance: told the share that is done, 0
    to 1. Raises `SourceError` for what is no picture or film, or too long.
    """
    ending = path.suffix.lower()
    if ending not in (*PICTURES, *FILMS) or not _is_media(path):
        # A playlist could make FFmpeg read other files of this computer, whatever its name ends in.
        raise SourceError(f"this is no picture or film that is taken; use {' '.join((*PICTURES, *FILMS))}")
    still = ending in PICTURES
    save, log = folder / ("result.png" if still else "result.mp4"), folder / "log.jsonl"
    with open_source(str(path)) as source:
        if source.total and source.rate and source.total / source.rate > seconds + 1:
            raise SourceError(f"the film is longer than the {seconds:g} seconds that are taken; cut it")
        stats, total = Stats(), source.total or 1
        context = Context(source, recognizer.classes, stats=stats)
        outputs = {"save": str(save), "log": str(log), "timeline": None if still else str(folder / "timeline.png")}
        sinks = open_sinks(outputs, context)
        results: Iterator[FrameResult] = recognizer.stream(source, stats=stats)
        if blur is not None:
            results = Blur(blur).over(results)
        pipeline.run(_short(results, seconds), sinks, stats, lambda: advance(min(1.0, stats.frames / total)))
        words = _words(stats, still, source.notes)
    return Answer(words, log, save if still else None, None if still else save, context.paths.get("timeline"))


def _short(results: Iterator[FrameResult], seconds: float) -> Iterator[FrameResult]:
    """The same results; a header may lie about a film's length."""
    try:
        for result in results:
            if result.frame.time > seconds + 1:
                raise SourceError(f"the film is longer than the {seconds:g} seconds that are taken; cut it")
            yield result
    finally:
        close(results)


def _is_media(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return any(start[place:].startswith(mark) for place, mark in _STARTS)


def _words(stats: Stats, still: bool, notes: list[str]) -> str:
    found = f"{stats.faces} {'face' if stats.faces == 1 else 'faces'}"
    if not still:
        found = f"{stats.frames} frames, {stats.frames_with_faces} with faces"
    shown = ", ".join(f"{name} {count / stats.faces:.0%}".replace("%", " %") for name, count in
                      stats.emotions.most_common())  # fmt: skip
    return " · ".join(filter(None, [found, shown, *notes[:2]]))
