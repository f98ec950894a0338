import pytest

from fer.stream.sources.base import Clock, later


def times(clock: Clock, packets: list[tuple[int, float]], duration: float = 1.0) -> list[float]:
    """Packets as (stream, timestamp) → their seconds since the start."""
    return [stamp + clock.offset(stream, stamp, duration) for stream, stamp in packets]


def test_a_clock_counts_from_the_start() -> None:
    assert times(Clock(5.0), [(0, 5.0), (0, 6.0), (0, 9.0)]) == [0, 1, 4]


def test_a_clock_that_restarts_goes_on_where_it_was() -> None:
    assert times(Clock(5.0), [(0, 5.0), (0, 6.0), (0, 5.0), (0, 6.0), (0, 5.0)]) == [0, 1, 2, 3, 4]


def test_a_jump_ahead_is_no_gap_and_a_gap_is_no_jump() -> None:
    assert times(Clock(), [(0, 0.0), (0, 9.0), (0, 500.0), (0, 503.0)]) == [0, 9, 10, 13]
    assert times(Clock(ahead=1000), [(0, 0.0), (0, 500.0)]) == [0, 500]


def test_one_stream_may_be_silent_while_another_goes_on() -> None:
    packets = [(0, 0.0), *((1, float(second)) for second in range(30)), (0, 30.0)]
    assert times(Clock(), packets) == [stamp for _, stamp in packets]


def test_all_streams_jump_together() -> None:
    """Stream 1 ends a second after stream 0, and its last packet is read when stream 0 has restarted already."""
    packets = [(0, 0.0), (1, 0.0), (0, 1.0), (1, 1.0), (0, 0.0), (1, 2.0), (1, 0.0), (0, 1.0), (1, 1.0)]
    assert times(Clock(), packets) == [0, 0, 1, 1, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("wrong", [1.0, 900.0])
def test_one_wrong_timestamp_is_no_new_stretch(wrong: float) -> None:
    packets = [(0, 0.0), (1, 0.0), (0, 1.0), (0, 2.0), (0, wrong - 1), (1, 3.0), (0, 4.0), (1, 4.0), (0, 5.0)]
    assert times(Clock(), packets) == [0, 0, 1, 2, 3, 3, 4, 4, 5]


def test_frames_are_in_order_whatever_their_times() -> None:
    last, found = None, []
    for stamp in (-0.5, 1.0, 1.0, 0.25, 2.0):
        last = later(stamp, last, 0.5)
        found.append(last)
    assert found == pytest.approx([0, 1, 1.25, 1.5, 2])
