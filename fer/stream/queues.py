"""Bounded queues between threads, each with an end, an error and a way to stop."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from fer.errors import FerError

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A queue from one thread to another. Iterate over it to read.

    Args:
        size: How many values it holds at most.
        newest: If full, `put` drops the oldest value and counts it in `dropped`. Otherwise it waits.
    """

    def __init__(self, size: int, newest: bool = False) -> None:
        self.dropped = 0
        self.error: BaseException | None = None
        self._size, self._newest = size, newest
        self._values: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False

    def put(self, value: T) -> bool:
        """Add a value. Return False if the queue has ended, so that no more values are needed."""
        with self._changed:
            while len(self._values) >= self._size and not self._ended:
                if self._newest:
                    self._values.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if not self._ended:
                self._values.append(value)
                self._changed.notify_all()
            return not self._ended

    def end(self, error: BaseException | None = None) -> None:
        """Add no more values. The reader gets those that are left, then `error` is raised in its thread."""
        with self._changed:
            self._ended, self.error = True, error or self.error
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Read no more values, because of `error` if any. Those that are left are dropped."""
        with self._changed:
            self._values.clear()
            self.end(error)

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not (self._values or self._ended):
                    self._changed.wait()
                if not self._values:
                    if self.error is not None:
                        raise self.error
                    return
                value = self._values.popleft()
                self._changed.notify_all()
            yield value


def fill(queue: BoundedQueue[T], values: Iterator[T], name: str) -> threading.Thread:
    """Start a thread that puts all values into `queue`, then their end or their error."""

    def run() -> None:
        try:
            for value in values:
                if not queue.put(value):
                    break
            queue.end()
        except BaseException as error:  # the reader must hear of any error
            queue.end(error)
        finally:
            close(values)

    return _started(run, name)


def drain(queue: BoundedQueue[T], write: Callable[[T], object], name: str) -> threading.Thread:
    """Start a thread that calls `write` with each value of `queue`. An error of it stops the queue."""

    def run() -> None:
        try:
            for value in queue:
                write(value)
        except BaseException as error:
            queue.stop(error)

    return _started(run, name)


def _started(target: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def with_end(values: Iterator[T]) -> Iterator[T | None]:
    """Yield the values, then None when they end or a `FerError` ends them, then raise that error.

    Whoever buffers values can pass them on at None, so that no error of the source loses what was read before it.
    """
    try:
        yield from values
    except FerError:
        yield None
        raise
    yield None


def close(values: object) -> None:
    """Close a generator, and with it what it holds open. Other iterators have nothing to close."""
    if isinstance(values, Generator):
        values.close()
