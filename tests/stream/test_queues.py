import threading

import pytest

from fer.stream.queues import BoundedQueue, fill


def test_values_come_in_order_and_end() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    fill(queue, iter(range(50)), "count")
    assert list(queue) == list(range(50))


def test_the_newest_value_wins() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1, newest=True)
    for value in range(5):
        assert queue.put(value)
    queue.end()
    assert (list(queue), queue.dropped) == ([4], 4)


def test_an_error_comes_after_what_waits() -> None:
    def broken():
        yield 1
        raise ValueError("broken")

    queue: BoundedQueue[int] = BoundedQueue(3)
    thread = fill(queue, broken(), "broken")
    thread.join(5)
    values = iter(queue)
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)


def test_whoever_waits_in_a_full_queue_is_let_go() -> None:
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    queue: BoundedQueue[int] = BoundedQueue(2)
    thread = fill(queue, endless(), "endless")
    assert next(iter(queue)) == 0
    queue.stop()
    thread.join(5)
    assert not thread.is_alive() and closed.is_set()
    assert not queue.put(1)
    assert list(queue) == []


def test_a_reader_that_waits_is_let_go() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.extend(queue))
    thread.start()
    queue.stop()
    thread.join(5)
    assert not thread.is_alive() and read == []
