import json
import time

import numpy as np
import pytest

from fer.stream.stats import _MEASURED, Stats


def test_stages_are_in_milliseconds_a_frame() -> None:
    stats = Stats()
    for seconds in (0.01, 0.01, 0.03):
        with stats.stage("wait"):
            time.sleep(seconds)
    with stats.stage("batch", frames=4):
        time.sleep(0.04)
    times = stats.stages()
    assert 10 <= times["wait"]["p50"] < 25 and 28 <= times["wait"]["p99"] < 200
    assert 10 <= times["batch"]["p50"] < 30


def test_percentiles_are_those_of_numpy() -> None:
    stats, times = Stats(), np.random.default_rng(0).exponential(0.01, 37)
    for seconds in times:
        stats._add("wait", seconds)
    expected = np.percentile(1000 * times, [50, 95, 99])
    assert list(stats.stages()["wait"].values()) == pytest.approx(expected, abs=1e-3)


def test_slow_values_are_timed_and_their_generator_is_closed() -> None:
    closed = []

    def slow():
        try:
            for value in (1, 2, 3):
                time.sleep(0.01)
                yield value
        finally:
            closed.append(True)

    stats = Stats()
    values = stats.timed("decode", slow())
    assert [next(values), next(values)] == [1, 2]
    values.close()
    assert closed == [True]
    assert stats.stages()["decode"]["p50"] >= 10


def test_memory_does_not_grow_with_the_run() -> None:
    stats = Stats()
    for _ in range(_MEASURED + 10):
        stats._add("detect", 0.001)
    assert len(stats._times["detect"]) == _MEASURED


def test_an_empty_run_has_statistics() -> None:
    values = json.loads(json.dumps(Stats().as_dict()))
    assert list(values) == [
        "frames",
        "frames_with_faces",
        "faces",
        "unreadable",
        "unconfirmed",
        "dropped",
        "skipped",
        "seconds",
        "fps",
        "stages",
    ]
    assert values["fps"] == pytest.approx(0)
