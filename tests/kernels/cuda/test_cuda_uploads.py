"""kernels/cuda/uploads.py: nothing overtakes what it must wait for, whatever the order in which a device works."""

import sys
from collections import deque

import numpy as np
import pytest
from late_cupy import Machine

from cudasim import array as sim
from kernels.cuda import gpu, simulated, uploads
from kernels.cuda.uploads import Upload, Uploads
from kernels.system.errors import DeviceError

SHAPE = (2, 3)
ORDERS = [(seed, lazy) for seed in range(8) for lazy in (None, 0, 1)]  # the streams: 0 computes, 1 copies


def wrong(monkeypatch, seed, lazy, kind=Uploads, change=lambda uploads: None):
    """The uploads whose numbers a kernel did not find as they were, of 60 that are made up to three ahead."""
    machine = Machine(seed, lazy)
    monkeypatch.setitem(sys.modules, "cupy", machine.cupy)
    under_test = kind(gpu)
    change(under_test)
    host, ahead, found, held = np.zeros(SHAPE, np.int64), deque(), {}, []

    def launch_and_let_go():
        """As another thread may do at any moment."""
        while held:
            number, array = held.pop()
            machine.default.put(lambda number=number, block=array.data.block: found.update({number: block.copy()}))
            del array

    machine.at_allocation = launch_and_let_go
    for number in range(60):
        host[...] = number  # one array for all: it may change once `start` has returned
        ahead.append((number, under_test.start(host)))
        machine.advance()
        while len(ahead) > machine.random.randrange(4):
            launch_and_let_go()
            held.append((ahead[0][0], ahead.popleft()[1].array()))
        machine.advance()
    launch_and_let_go()
    while ahead:
        held.append((ahead[0][0], ahead.popleft()[1].array()))
        launch_and_let_go()
    under_test.close()
    machine.drain()
    assert len(found) == 60
    return [number for number, array in found.items() if not (array == number).all()]


@pytest.mark.parametrize(("seed", "lazy"), ORDERS)
def test_a_kernel_finds_what_was_uploaded(monkeypatch, seed, lazy):
    assert wrong(monkeypatch, seed, lazy) == []


# ----------------------------------------------------------------------------------------------- seeded bugs


class TakesBuffersTooEarly(Uploads):
    def _buffer(self, buffers, like):
        return buffers.popleft()[1] if buffers else super()._buffer(buffers, like)


class RecordsBeforeAllocating(Uploads):
    def start(self, array):
        buffers = self._buffers[array.shape, array.dtype]
        buffer = self._buffer(buffers, array)
        buffer[...] = array
        self._stream.wait_event(gpu.record(self._reader))
        copy = gpu.empty_on(self._stream, array.shape, array.dtype)
        gpu.copy_async(copy, buffer, self._stream)
        copied = gpu.record(self._stream)
        buffers.append((copied, buffer))
        return Upload(gpu, copy, copied)


class ClosesTooEarly(Uploads):
    def close(self):
        self._buffers.clear()


class Unawaited(Upload):
    def array(self):
        return self._array


def bug(name, monkeypatch):
    """The arguments of `wrong` that seed it."""
    if name == "kernels do not wait for the copy":
        monkeypatch.setattr(uploads, "Upload", Unawaited)
    elif name == "copies do not wait for kernels":
        return {"change": lambda uploads: setattr(uploads, "_reader", uploads._stream)}
    kinds = {
        "a buffer is filled before its copy is done": TakesBuffersTooEarly,
        "kernels launched before memory is handed out": RecordsBeforeAllocating,
        "the end does not wait": ClosesTooEarly,
    }
    return {"kind": kinds.get(name, Uploads)}


@pytest.mark.parametrize("name", [
    "kernels do not wait for the copy", "copies do not wait for kernels", "a buffer is filled before its copy is done",
    "kernels launched before memory is handed out", "the end does not wait",
])  # fmt: skip
def test_a_seeded_bug_shows(monkeypatch, name):
    arguments = bug(name, monkeypatch)
    assert any(wrong(monkeypatch, seed, lazy, **arguments) for seed, lazy in ORDERS)


# ------------------------------------------------------------------------------------- on the simulated device


def test_on_the_simulated_device_copies_are_late():
    """They run when a kernel's thread waits for them, and no earlier: a missing wait shows."""
    host, device = np.arange(6).reshape(SHAPE), Uploads(simulated)
    started = [device.start(host + n) for n in range(4)]
    assert all((sim.asnumpy(upload._array) == -1).all() for upload in started)
    np.testing.assert_array_equal(sim.asnumpy(started[1].array()), host + 1)
    assert (sim.asnumpy(started[2]._array) == -1).all()
    np.testing.assert_array_equal(sim.asnumpy(started[0].array()), host)
    device.close()
    np.testing.assert_array_equal(sim.asnumpy(started[3]._array), host + 3)


@pytest.mark.parametrize(("kind", "sound"), [(Uploads, True), (TakesBuffersTooEarly, False)])
def test_on_the_simulated_device_a_buffer_that_is_taken_too_early_shows(kind, sound):
    host, device = np.arange(6).reshape(SHAPE), kind(simulated)
    started = [device.start(host + n) for n in range(4)]
    assert all((sim.asnumpy(upload.array()) == host + n).all() for n, upload in enumerate(started)) == sound


def test_pinned_memory_is_used_again():
    """As much as there are copies under way, however many there were."""
    device, made = Uploads(simulated), []
    device._device = type("Counting", (), {**vars(simulated), "pinned": staticmethod(
        lambda *args: made.append(args) or simulated.pinned(*args))})  # fmt: skip
    for n in range(50):
        device.start(np.full(SHAPE, n)).array()
    assert len(made) == 1


def test_a_default_stream_for_each_thread_is_refused(monkeypatch):
    """There the stream of the thread that launches kernels has no name that another thread could use."""
    monkeypatch.setenv("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", "1")
    monkeypatch.setitem(sys.modules, "cupy", Machine(0).cupy)
    with pytest.raises(DeviceError, match="CUPY_CUDA_PER_THREAD_DEFAULT_STREAM is set"):
        Uploads(gpu)
