import numpy as np
import pytest

from fer.faces.types import Faces
from fer.stream.sinks.history import History, clock
from fer.stream.types import Frame, FrameResult


def fed(history: History, times: np.ndarray, ids: list[int], label: int = 0, event: str | None = None) -> History:
    count = len(history.classes)
    row = np.full(count, 0.2 / (count - 1), np.float32)
    row[label] = 0.8
    image, n = np.zeros((2, 2, 3), np.uint8), len(ids)
    faces = Faces(
        np.tile(np.array([0, 0, 1, 1], np.float32), (n, 1)), np.ones(n, np.float32), ids=np.array(ids, np.int64)
    )
    for k, time in enumerate(times):
        frame = Frame(image, k, float(time), event=event if k == 0 else None)
        history.add(FrameResult(frame, faces, history.classes, np.tile(row, (n, 1))))
    return history


def test_seconds_by_label_and_track() -> None:
    history = History(("a", "b"))
    fed(history, np.arange(0, 2.05, 0.1), [1])
    fed(history, np.arange(2.1, 3.05, 0.1), [1, 2], label=1).finish()
    assert history.labels == pytest.approx([2.1, 2.0])
    assert history.tracks[1].labels == pytest.approx([2.1, 1.0])
    assert history.tracks[2].labels == pytest.approx([0.0, 1.0])
    assert (history.start, history.end) == (0.0, pytest.approx(3.1))
    history.finish()
    assert history.labels == pytest.approx([2.1, 2.0]), "the last frame counts once"


@pytest.mark.parametrize("step", [1 / 240, 0.5, 1.5, 2.0, 60.0])
def test_a_frame_counts_until_the_next_one_at_any_pace(step: float) -> None:
    history = History(("a", "b"))
    fed(history, step * np.arange(5), [1])
    fed(history, step * np.arange(5, 8), [], label=1)
    fed(history, step * np.arange(8, 10), [2], label=1).finish()
    assert history.tracks[1].labels == pytest.approx([5 * step, 0])
    assert history.tracks[2].labels == pytest.approx([0, 2 * step])
    for identity, start, end in ((1, 0, 5), (2, 8, 10)):
        ((edges, _),) = history.tracks[identity].runs()
        assert (edges[0], edges[-1]) == (pytest.approx(start * step), pytest.approx(end * step)), "without gaps"


def test_frames_of_uneven_distance_and_a_frame_alone() -> None:
    history = History(("a", "b"))
    fed(history, np.array([0.0, 0.04, 3.04, 3.08]), [1]).finish()
    assert history.tracks[1].total == pytest.approx(3.12)
    assert len(history.tracks[1].runs()) == 1
    alone = fed(History(("a", "b")), np.array([5.0]), [1])
    alone.finish()
    assert 0 < alone.tracks[1].total < 0.1 and alone.span == (5.0, 5.1)


def test_means_and_gaps() -> None:
    history = History(("a", "b"))
    fed(history, np.arange(5, 6, 1 / 30), [1])
    fed(history, np.arange(6, 8, 1 / 30), [])
    fed(history, np.arange(8, 9, 1 / 30), [1], label=1).finish()
    first, second = history.tracks[1].runs()
    assert (first[0][0], first[0][-1]) == (5.0, pytest.approx(6.0, abs=0.11))
    assert (second[0][0], second[0][-1]) == (pytest.approx(8.0, abs=0.11), pytest.approx(9.0, abs=0.04))
    assert first[1] == pytest.approx(np.tile([0.8, 0.2], (len(first[1]), 1)), abs=1e-6)
    assert second[1] == pytest.approx(np.tile([0.2, 0.8], (len(second[1]), 1)), abs=1e-6)


def test_two_hours_take_no_more_than_a_minute() -> None:
    short, long = History(("a", "b")), History(("a", "b"))
    fed(short, np.arange(0, 59, 0.5), [1])
    fed(long, np.arange(0, 7200.5, 0.5), [1])
    assert len(short.tracks[1].pieces) <= 600 and len(long.tracks[1].pieces) <= 600
    assert (short.tracks[1].width, long.tracks[1].width) == (0.1, 12.8)
    assert long.tracks[1].total == pytest.approx(7200, abs=0.1)
    ((edges, means),) = long.tracks[1].runs()
    assert (edges[0], edges[-1]) == (0, 7200) and means[:, 0] == pytest.approx(0.8, abs=1e-5)


def test_a_face_that_comes_and_goes_for_hours_takes_no_more_either() -> None:
    history = History(("a", "b"))
    for k in range(3000):
        fed(history, 10 * k + np.array([0.0]), [])
        fed(history, 10 * k + np.array([0.1, 0.2, 0.3]), [1])
        fed(history, 10 * k + np.array([0.4]), [])
    track = history.tracks[1]
    assert len(track.pieces) <= 600 and track.total == pytest.approx(900, rel=1e-3)
    assert all(means.sum(axis=1) == pytest.approx(1, abs=1e-5) for _, means in track.runs())


def test_many_tracks_are_counted_not_kept() -> None:
    history = History(("a", "b"))
    fed(history, np.arange(0, 10, 0.1), [1])
    for identity in range(2, 102):
        fed(history, 10 + 0.5 * identity + np.array([0, 0.1]), [identity])
    assert len(history.tracks) == 64 and history.left_out == 37
    assert 1 in history.tracks, "the longest stay"
    assert history.longest(2)[0] == 1
    assert history.rest(8).startswith("and 93 more, in sight for 0:")
    assert sum(t.total for t in history.tracks.values()) + history.left_out_seconds == pytest.approx(
        history.labels.sum()
    )


@pytest.mark.parametrize("step", [0.04, 0.5, 2.0])
def test_an_interruption_of_the_source_does_not_count(step: float) -> None:
    history = History(("a", "b"))
    fed(history, step * np.arange(4), [1])
    fed(history, 100 + step * np.arange(4), [1], event="camera 0 was away for 90 s").finish()
    assert history.tracks[1].total == pytest.approx(8 * step)
    assert len(history.tracks[1].runs()) == 2, "the gap is shown"


def test_faces_without_ids_and_no_faces_at_all() -> None:
    history = History(("a", "b"))
    assert history.longest(8) == [] and history.rest(8) == "" and history.start is None
    fed(history, np.arange(0, 0.95, 0.1), [0]).finish()
    assert not history.tracks and history.labels[0] == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750, "12:30"), (3725, "1:02:05"), (59.6, "1:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
