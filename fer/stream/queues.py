"""Bounded queues between threads, which pass on their end and their errors."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from fer.errors import FerError

T = TypeVar("T")

_BYTES = 256 * 2**20
_FRAMES = 48
"""The queues and buffers of a run hold at most 48 frames, or 256 MB of them, but at least one each."""


def room(most: int, image_bytes: int) -> int:
    """Return how many frames with images of this size a queue or buffer may hold: `most`, or fewer large ones."""
    return max(1, min(most, most * _BYTES // (_FRAMES * max(1, image_bytes))))


class BoundedQueue(Generic[T]):
    """A queue from one thread to another. Iterate over it to read.

    Args:
        size: Maximum number of values, or a function that gives it for the next value.
        newest: When the queue is full, `put` drops the oldest value and counts it in `dropped`, instead of waiting.
    """

    def __init__(self, size: int | Callable[[T], int], newest: bool = False) -> None:
        self.dropped = 0
        self.error: BaseException | None = None
        self._size, self._newest = size, newest
        self._values: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False

    def put(self, value: T) -> bool:
        """Add a value. Return False if the queue has ended, so that no more values are needed."""
        size = self._size(value) if callable(self._size) else self._size
        with self._changed:
            while len(self._values) >= size and not self._ended:
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
        """Mark the end of the values. The reader gets those that are left, then `error` is raised in its thread."""
        with self._changed:
            self._ended, self.error = True, error or self.error
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Stop reading, because of `error` if any. Values that are left are dropped."""
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


def start(
    name: str,
    values: Iterable[T],
    use: Callable[[T], object],
    end: Callable[[BaseException | None], object],
) -> threading.Thread:
    """Start a thread that calls `use` with each value until it returns False, and then `end` with the error, if any."""

    def run() -> None:
        try:
            for value in values:
                if use(value) is False:
                    break
            close(values)
            end(None)
        except BaseException as error:  # the other end of the queue must hear of any error
            end(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def with_end(values: Iterator[T]) -> Iterator[T | None]:
    """Yield the values, then None when they end or a `FerError` ends them, then raise that error.

    A reader that buffers values passes them on at None, so that none are lost if the source fails.
    """
    try:
        yield from values
    except FerError:
        yield None
        raise
    yield None


def close(values: object) -> None:
    """Close `values` if it is a generator. Other iterators hold nothing open."""
    if isinstance(values, Generator):
        values.close()
