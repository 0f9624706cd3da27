"""A stand-in for CuPy's streams, events and memory, on which work is done late and in an order that chance decides.

What is put on a stream runs in order, but at any time later on, unless an event holds it back: as a GPU may. Device
memory that an array gives back is handed out again at once, on the stream that it was allocated for, as CuPy's pool
does; pinned memory that is given back is overwritten. So what overtakes something that it should wait for shows as
wrong numbers, for some order of the work.
"""

import ctypes
import random
import weakref
from collections import defaultdict, deque
from types import SimpleNamespace

import numpy as np


class Event:
    def __init__(self, disable_timing=False):
        self.done = True

    def record(self, stream):
        self.done = False
        stream.put(lambda: setattr(self, "done", True))


class Stream:
    def __init__(self, machine, non_blocking=True):
        self.machine, self.work = machine, deque()  # of (event to wait for or None, function)
        machine.streams.append(self)

    def put(self, function, event=None):
        self.work.append((event, function))

    def wait_event(self, event):
        self.put(lambda: None, event)

    def synchronize(self):
        while self.work:
            self.machine.work(among=[self] if self.is_ready() else None)

    def is_ready(self):
        return bool(self.work) and (self.work[0][0] is None or self.work[0][0].done)

    def __enter__(self):
        self.machine.entered.append(self)

    def __exit__(self, *_):
        self.machine.entered.pop()


class Pointer:
    def __init__(self, block):
        self.block = block

    def copy_from_host_async(self, address, nbytes, stream):
        stream.put(lambda: ctypes.memmove(self.block.ctypes.data, address, nbytes))


class Array:
    def __init__(self, machine, shape, dtype):
        machine.at_allocation()
        stream = machine.entered[-1]
        free = machine.free[stream, np.prod(shape) * np.dtype(dtype).itemsize]
        block = free.pop() if free else machine.keep(np.full(shape, -1, dtype))
        self.shape, self.dtype, self.data = shape, dtype, Pointer(block)
        weakref.finalize(self, free.append, block)


class Machine:
    """seed: of the order. lazy: the stream, by its number, that does nothing unless it must; None: none is."""

    def __init__(self, seed, lazy=None):
        self.random, self.lazy = random.Random(seed), lazy
        self.streams, self.free, self.kept = [], defaultdict(list), []
        self.default = Stream(self)
        self.entered = [self.default]
        self.at_allocation = lambda: None
        self.cupy = SimpleNamespace(
            empty=lambda shape, dtype: Array(self, shape, dtype),
            cuda=SimpleNamespace(
                Stream=lambda non_blocking: Stream(self, non_blocking), Event=Event,
                get_current_stream=lambda: self.entered[-1], alloc_pinned_memory=self.pinned,
            ),
        )  # fmt: skip

    def keep(self, array):
        self.kept.append(array)
        return array

    def pinned(self, nbytes):
        block = self.keep(np.zeros(nbytes, np.uint8))
        memory = (ctypes.c_char * nbytes).from_buffer(block)
        weakref.finalize(memory, block.fill, 0xEE)
        return memory

    def work(self, among=None):
        """Do one piece of work, if there is one that need not wait. Returns whether."""
        ready = [stream for stream in among or self.streams if stream.is_ready()]
        if not among and self.lazy is not None and len(ready) > 1:
            ready = [stream for stream in ready if stream is not self.streams[self.lazy]]
        if ready:
            self.random.choice(ready).work.popleft()[1]()
        return bool(ready)

    def advance(self):
        for _ in range(self.random.randrange(5)):
            busy = [stream for stream in self.streams if self.lazy is None or stream is not self.streams[self.lazy]]
            self.work(busy)

    def drain(self):
        while self.work():
            pass
        assert not any(stream.work for stream in self.streams), "streams that wait for each other"
