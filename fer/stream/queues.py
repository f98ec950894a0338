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
        self._size, self._newest = size, newest
        self._values: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, value: T) -> bool:
        """Add a value. Return False if the reader has stopped, so that no more values are needed."""
        with self._changed:
            while len(self._values) >= self._size and not self._stopped:
                if self._newest:
                    self._values.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if not self._stopped:
                self._values.append(value)
                self._changed.notify_all()
            return not self._stopped

    def end(self, error: BaseException | None = None) -> None:
        """Add no more values. The reader gets those that are left, then `error` is raised in its thread."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Read no more values. Drop those that are left and wake whoever waits."""
        with self._changed:
            self._stopped = True
            self._values.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not (self._values or self._ended or self._stopped):
                    self._changed.wait()
                if not self._values:
                    if self._error is not None:
                        raise self._error
                    return
                value = self._values.popleft()
                self._changed.notify_all()
            yield value


def fill(queue: BoundedQueue[T], values: Callable[[], Iterator[T]], name: str) -> threading.Thread:
    """Start a thread that puts all of `values()` into `queue`, then its end or its error."""

    def run() -> None:
        iterator: Iterator[T] | None = None
        error: BaseException | None = None
        try:
            iterator = values()
            for value in iterator:
                if not queue.put(value):
                    break
        except BaseException as raised:  # the reader must hear of any error
            error = raised
        finally:
            queue.end(error)
            close(iterator)

    thread = threading.Thread(target=run, name=name, daemon=True)
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
