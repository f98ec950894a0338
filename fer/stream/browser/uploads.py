"""Processing of one uploaded picture or video into files to view and download."""

import re
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from fer.errors import SourceError
from fer.images import kind_of
from fer.stream import pipeline
from fer.stream.draw.blur import Blur
from fer.stream.recognizer import Recognizer
from fer.stream.sinks import Context, open_sinks
from fer.stream.sources import open_source
from fer.stream.types import FrameResult

_TOO_LONG = "the video is longer than the limit of {:g} seconds; cut it"
# AVI, Matroska and WebM, MP4 and QuickTime; a playlist could make FFmpeg read other files
_FILMS = re.compile(rb"RIFF|\x1aE\xdf\xa3|....(ftyp|moov|mdat|wide|free|skip)", re.DOTALL)


def process(
    path: Path,
    folder: Path,
    recognizer: Recognizer,
    seconds: float,
    blur: str | None = None,
    advance: Callable[[float], object] = lambda share: None,
) -> tuple[str, dict[str, Path]]:
    """Process an upload and write the results into `folder`.

    Args:
        path: The upload.
        folder: Receives the picture or video with boxes and labels, the log, and the timeline of a video.
        recognizer: The model.
        seconds: The longest video that is accepted.
        blur: As in `Blur`, None for nothing.
        advance: Called with the share processed so far, 0 to 1.

    Returns:
        A line about the faces, and the files by "save", "log" and, for videos, "timeline".

    Raises:
        SourceError: The upload is not a picture or video, or is too long.
    """
    with path.open("rb") as file:
        film = _FILMS.match(file.read(12))
    kind = kind_of(path)
    if not kind and not film:
        formats = "JPEG, PNG, WebP, GIF, HEIC, AVIF, MP4, MOV, MKV, WebM or AVI"
        raise SourceError(f"this is not a picture or video that can be read; use {formats}")
    still = kind == "still"
    names = {"save": "result.png"} if still else {"save": "result.mp4", "timeline": "timeline.png"}
    values = {key: str(folder / name) for key, name in (names | {"log": "log.jsonl"}).items()}
    with open_source(str(path)) as source:
        total = source.total or 1
        if source.rate and total / source.rate > seconds + 1:
            raise SourceError(_TOO_LONG.format(seconds))
        context = Context(source, recognizer.classes, recognizer.model)
        sinks = open_sinks(values, context)
        stats = context.stats
        results = _limited(recognizer.stream(source, stats=stats), seconds)
        if blur is not None:
            results = Blur(blur).over(results)
        pipeline.run(results, sinks, stats, lambda: advance(min(1.0, stats.frames / total)))
    count = f"{stats.faces} {'face' if stats.faces == 1 else 'faces'}"
    shares = ", ".join(f"{name} {100 * n / stats.faces:.0f} %" for name, n in stats.emotions.most_common())
    summary = [count if still else f"{stats.frames} frames, {stats.frames_with_faces} with faces", shares]
    return " · ".join(filter(None, summary + source.notes[:2])), context.paths


def _limited(results: Generator[FrameResult], seconds: float) -> Generator[FrameResult]:
    """Yield the results. Raise `SourceError` if the video is longer than its header says, and than the limit."""
    with closing(results):
        for result in results:
            if result.frame.time > seconds + 1:
                raise SourceError(_TOO_LONG.format(seconds))
            yield result
