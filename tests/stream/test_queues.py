import threading

import pytest

from fer.errors import SourceError
from fer.stream.queues import BoundedQueue, room, start, with_end


def test_values_come_in_order_and_end() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    start("count", range(50), queue.put, queue.end)
    assert list(queue) == list(range(50))


def test_the_oldest_value_is_dropped_for_the_newest() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1, newest=True)
    for value in range(5):
        assert queue.put(value)
    queue.end()
    assert (list(queue), queue.dropped) == ([4], 4)


def test_a_large_value_waits_for_an_empty_queue_and_never_longer() -> None:
    queue: BoundedQueue[int] = BoundedQueue(lambda value: 1 if value > 100 else 3)
    thread = start("count", [1, 2, 3, 500, 600, 4], queue.put, queue.end)
    assert list(queue) == [1, 2, 3, 500, 600, 4]
    thread.join(5)
    assert queue.put(1) is False


def test_small_frames_fill_a_queue_and_large_ones_are_fewer() -> None:
    hd, uhd, largest = (3 * w * h for w, h in ((1280, 720), (3840, 2160), (7680, 4320)))
    assert [room(8, size) for size in (0, 1, hd, uhd, largest)] == [8, 8, 8, 1, 1]
    assert [room(16, size) for size in (hd, uhd, largest, 10**12)] == [16, 3, 1, 1]
    assert 48 * hd < 256 * 2**20


def test_an_error_comes_after_the_values_before_it() -> None:
    def broken():
        yield 1
        raise ValueError("broken")

    queue: BoundedQueue[int] = BoundedQueue(3)
    thread = start("broken", broken(), queue.put, queue.end)
    thread.join(5)
    values = iter(queue)
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)


def test_stopping_wakes_a_writer_that_waits() -> None:
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    queue: BoundedQueue[int] = BoundedQueue(2)
    thread = start("endless", endless(), queue.put, queue.end)
    assert next(iter(queue)) == 0
    queue.stop()
    thread.join(5)
    assert not thread.is_alive() and closed.is_set()
    assert not queue.put(1)
    assert list(queue) == []


def test_stopping_wakes_a_reader_that_waits() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.extend(queue))
    thread.start()
    queue.stop()
    thread.join(5)
    assert not thread.is_alive() and read == []


def test_an_error_of_the_reader_stops_the_queue_and_is_kept() -> None:
    written: list[int] = []

    def write(value: int) -> None:
        if value == 2:
            raise ValueError("full")
        written.append(value)

    queue: BoundedQueue[int] = BoundedQueue(9)
    for value in range(4):
        queue.put(value)
    start("write", queue, write, queue.stop).join(5)
    assert written == [0, 1] and isinstance(queue.error, ValueError)
    assert not queue.put(4)


def test_what_is_buffered_can_be_passed_on_before_an_error() -> None:
    def broken():
        yield 1
        raise SourceError("broken")

    assert list(with_end(iter([1, 2]))) == [1, 2, None]
    values = with_end(broken())
    assert [next(values), next(values)] == [1, None]
    with pytest.raises(SourceError):
        next(values)
