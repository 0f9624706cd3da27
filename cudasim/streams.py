"""Streams on which copies are late: as late as the program's waiting allows.

Kernels and NumPy's functions run at once, on the default stream. What is put on a stream of its own runs only when the
default stream or the host waits for it. So a kernel that does not wait for its copy reads memory that was never
written, and a host buffer that is filled anew too early arrives with the new contents.
"""

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from cudasim.array import SimArray

_lock = threading.RLock()  # of all streams: one may wait for another


class Event:
    """A place on a stream. As in CuPy: `done` says whether everything in front of it has run."""

    def __init__(self, stream: "Stream", place: int) -> None:
        self._stream, self._place = stream, place

    @property
    def done(self) -> bool:
        return self._stream._run >= self._place

    def synchronize(self) -> None:
        """Run what is in front of it."""
        self._stream._run_to(self._place)


class Stream:
    """Work that runs in order, once the host or another stream waits for it. Used as in CuPy."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], object]] = deque()
        self._given = self._run = 0  # how many pieces of work were put here, and have run

    def record(self) -> Event:
        """An Event behind what is on the stream now."""
        with _lock:
            return Event(self, self._given)

    def wait_event(self, event: Event) -> None:
        """What is put on the stream from now on runs after the event."""
        self._put(event.synchronize)

    def synchronize(self) -> None:
        """Run all that is on the stream."""
        self._run_to(self._given)

    def _put(self, work: Callable[[], object]) -> None:
        with _lock:
            self._work.append(work)
            self._given += 1

    def _run_to(self, place: int) -> None:
        with _lock:
            while self._run < place:
                self._work.popleft()()
                self._run += 1


class DefaultStream(Stream):
    """The one on which everything runs at once."""

    def _put(self, work: Callable[[], object]) -> None:
        super()._put(work)
        self.synchronize()


default = DefaultStream()


def copy_async(array: SimArray, host: np.ndarray, stream: Stream) -> None:
    """Copy `host` to the device array, of the same shape and dtype, when the stream gets that far."""
    stream._put(lambda: array.set(host))
