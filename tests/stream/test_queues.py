import threading

import pytest

from fer.stream.queues import BoundedQueue, fill


def test_values_come_in_order_and_end() -> None:
    pipe: BoundedQueue[int] = BoundedQueue(2)
    fill(pipe, lambda: iter(range(50)), "count")
    assert list(pipe) == list(range(50))


def test_the_newest_value_wins() -> None:
    pipe: BoundedQueue[int] = BoundedQueue(1, newest=True)
    for value in range(5):
        assert pipe.put(value)
    pipe.end()
    assert (list(pipe), pipe.dropped) == ([4], 4)


def test_an_error_comes_after_what_waits() -> None:
    def broken():
        yield 1
        raise ValueError("broken")

    pipe: BoundedQueue[int] = BoundedQueue(3)
    thread = fill(pipe, broken, "broken")
    thread.join(5)
    values = iter(pipe)
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)


def test_whoever_waits_in_a_full_pipe_is_let_go() -> None:
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    pipe: BoundedQueue[int] = BoundedQueue(2)
    thread = fill(pipe, endless, "endless")
    assert next(iter(pipe)) == 0
    pipe.stop()
    thread.join(5)
    assert not thread.is_alive() and closed.is_set()
    assert not pipe.put(1)
    assert list(pipe) == []


def test_a_reader_that_waits_is_let_go() -> None:
    pipe: BoundedQueue[int] = BoundedQueue(2)
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.extend(pipe))
    thread.start()
    pipe.stop()
    thread.join(5)
    assert not thread.is_alive() and read == []
