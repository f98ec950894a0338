"""What carries values between threads: short, with an end, an error, and a way out."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A short queue between two threads.

    size: how many values wait at most. newest: a full pipe throws out its oldest value, and counts it in `dropped`,
    where otherwise `put` waits.
    """

    def __init__(self, size: int, newest: bool = False) -> None:
        self.dropped = 0
        self._size, self._newest = size, newest
        self._values: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, value: T) -> bool:
        """Add a value. False once the reader has gone: nobody needs more."""
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
        """No more values come; what waits is still read, and then `error` is raised."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """The reader's way out: nothing more is taken, and whoever waits in `put` goes on."""
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


def fill(pipe: BoundedQueue[T], values: Callable[[], Iterator[T]], name: str) -> threading.Thread:
    """Start a thread that puts everything of `values()` into `pipe`, and its end or its error."""

    def run() -> None:
        iterator: Iterator[T] | None = None
        try:
            iterator = values()
            for value in iterator:
                if not pipe.put(value):
                    break
        except BaseException as error:  # whatever it is, the reader must hear of it
            pipe.end(error)
        else:
            pipe.end()
        finally:
            close(iterator)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def close(values: object) -> None:
    """Close a generator, and with it what it holds open; any other iterator has nothing to close."""
    if isinstance(values, Generator):
        values.close()
