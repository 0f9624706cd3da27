"""Copies from the host to a device for which no thread waits: out of pinned memory, on a stream of their own.

    uploads = Uploads(kernels.cuda.gpu)     # or kernels.cuda.simulated; in the thread that launches kernels
    upload = uploads.start(array)           # in any thread
    upload.array()                          # what this thread launches from here on runs after the copy

Three things must not overtake one another. Each is held back by an event, a place on a stream:

    a kernel must not overtake the copy of what it reads: `array()` lets the current stream wait for the copy.
    A copy must not overtake the kernels that read what was in its memory before: that memory may be handed out again
        when they have only been launched, so the copy waits for all that was launched before it got the memory.
    A pinned buffer must not be filled anew before the copy out of it is done: it is not taken before.
"""

import threading
from collections import defaultdict, deque
from types import ModuleType
from typing import Any

import numpy as np

from kernels.arrays import Array, Shape


class Upload:
    """A copy under way."""

    def __init__(self, device: ModuleType, array: Array, copied: Any) -> None:
        self._device, self._array, self._copied = device, array, copied

    def array(self) -> Array:
        """The array on the device, for kernels that this thread launches from now on. The host does not wait."""
        self._device.current_stream().wait_event(self._copied)
        return self._array


class Uploads:
    """Starts copies to a device. Any number of threads may share it.

    device: its module. What the current thread launches on its current stream is what reads the arrays.
    """

    def __init__(self, device: ModuleType) -> None:
        self._device = device
        self._stream, self._reader = device.new_stream(), device.current_stream()
        self._lock = threading.RLock()  # the garbage collector may call `close` within `start`
        # the buffers of each shape and dtype with the event behind the copy out of each, the oldest first
        self._buffers: dict[tuple[Shape, np.dtype], deque[tuple[Any, np.ndarray]]] = defaultdict(deque)

    def start(self, array: np.ndarray) -> Upload:
        """Begin to copy an array of the host. It may change once this returns."""
        device, stream = self._device, self._stream
        with self._lock:
            buffers = self._buffers[array.shape, array.dtype]
            buffer = self._buffer(buffers, array)
            buffer[...] = array
            copy = device.empty_on(stream, array.shape, array.dtype)
            stream.wait_event(device.record(self._reader))  # recorded after the memory was handed out
            device.copy_async(copy, buffer, stream)
            copied = device.record(stream)
            buffers.append((copied, buffer))
        return Upload(device, copy, copied)

    def _buffer(self, buffers: deque[tuple[Any, np.ndarray]], like: np.ndarray) -> np.ndarray:
        """Pinned memory that no copy reads. There are as many buffers as the host is ahead of the device."""
        if buffers and buffers[0][0].done:
            return buffers.popleft()[1]
        return self._device.pinned(like.shape, like.dtype)

    def close(self) -> None:
        """Wait for all copies, and let go of the pinned memory."""
        with self._lock:
            self._stream.synchronize()
            self._buffers.clear()
