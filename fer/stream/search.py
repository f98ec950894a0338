"""Which frames of a source are searched for faces."""

from collections.abc import Callable, Iterable, Iterator

from fer.stream.faces.track import SceneCutDetector, Tracker
from fer.stream.stats import Stats
from fer.stream.types import Detections, Faces, Frame

Detect = Callable[[Frame], Faces]


def search(
    frames: Iterable[Frame], detect: Detect, tracker: Tracker | None, stats: Stats, every: int
) -> Iterator[Detections]:
    """Yield the detections of each frame.

    Every k-th frame is searched, the first frame of a scene, and frames after a search that found new faces or missed
    some. If `every` is more than 1, each frame must be tracked before the next one is taken.

    Args:
        frames: The frames.
        detect: `Frame` → `Faces`.
        tracker: Knows whether the last search found new faces or missed some; None for stills.
        stats: Gets the time of each search.
        every: The k above.
    """
    is_cut = None if tracker is None else SceneCutDetector()
    for count, frame in enumerate(frames):
        cut, faces = is_cut is not None and is_cut(frame), Faces.none()
        searched = cut or count % every == 0 or (tracker is not None and tracker.unsure)
        if searched and frame.error is None:
            with stats.stage("detect"):
                faces = detect(frame)
        yield Detections(frame, faces, searched, cut)
