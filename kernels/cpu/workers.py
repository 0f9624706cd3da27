"""Kernels are compiled in processes of their own, several side by side, and loaded by the one that calls them.

A kernel that was loaded may round otherwise than one that was compiled in the very process. Numba compiles a function
that a kernel calls by itself, and then a copy of it with the kernel, which it optimises once more. What is loaded runs
the copy, but where all was compiled the original is still there, and the linker takes that. So the first process too
loads what another one compiled, and all have the same bits.
"""

import contextlib
import gc
import importlib
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import SimpleNamespace

import numba
import numpy as np
from numba.cloudpickle import loads
from numba.core import event
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.serialize import dumps

import kernels
from kernels.cpu import forked
from kernels.system.streams import note

_MOST = 4  # at a time: with more, the longest one still takes as long; each has 250 MB
_IDLE = 10  # seconds without work after which such a process ends
#: modules whose kernels take longest: begun first
_LONGEST = ("kernels.cpu.matmul", "kernels.attention.cpu", "kernels.attention.cpu_bfloat16", "kernels.linear.cpu")
_START = "import sys; sys.path[:] = sys.argv[1:]; from kernels.cpu.workers import serve; serve()"

_HEADER, _HERE = struct.Struct("<8sQ"), b"minigrad"  # before each message: this, and its length

_is_worker, _asked = False, None  # an entry
_contents = {}  # entry: what was compiled for it and not loaded yet, or in a worker not sent yet
_missing = None  # entry: task, during a rehearsal


class NotCompiled(Exception):
    """A kernel that is not in the cache, in a rehearsal."""


def compiled(function, sig, entry):
    """What the cache's entry of that name for a kernel would hold, made by another process. None: compile it here."""
    if entry in _contents:
        return _contents.pop(entry)
    dispatcher = getattr(sys.modules.get(function.__module__), function.__qualname__, None)
    ours = function.__module__.startswith("kernels.") and getattr(dispatcher, "py_func", None) is function
    if _is_worker or not ours:  # a worker imports what it compiles
        return None
    task = function.__module__, function.__qualname__, sig, entry
    if _missing is not None:
        _missing[entry] = task
        raise NotCompiled
    note(f"compiling {_name(task)} (once, then cached)")
    content = _worker.compile(task)
    if content is None:
        note(f"no worker could compile {_name(task)}: it is compiled here, and may round otherwise at the next start")
    return content


def is_asked_for(entry):
    """Whether an entry that was compiled here is to be kept. A worker also compiles what the kernel calls."""
    return not _is_worker or entry == _asked


def keep(entry, content):
    """In a worker: remember the entry that was asked for."""
    if _is_worker and entry == _asked:
        _contents[entry] = content


def prepare(rehearsal):
    """Compile what `rehearsal()` calls and is not in the cache, on as many cores as kernels may use.

    Where a kernel is missing, the plain one takes its place in the rehearsal. The last one loads all of them.
    """
    while (tasks := _rehearse(rehearsal)) and _compile_all(tasks):
        pass
    _contents.clear()


def _rehearse(rehearsal):
    """The tasks of all kernels that are missing."""
    global _missing
    fast, _missing = kernels.for_array(np.empty(0)), {}

    def either(name):
        def call(*args, **kwargs):
            try:
                return getattr(fast, name)(*args, **kwargs)
            except NotCompiled:
                return getattr(kernels.backend("reference"), name)(*args, **kwargs)

        return call

    names = [name for op in kernels.KERNELS.values() for name in op]
    kernels._thread.active[np.ndarray] = SimpleNamespace(**{name: either(name) for name in names})
    try:
        rehearsal()
        return list(_missing.values())
    finally:
        kernels._thread.active[np.ndarray], _missing = fast, None


def _compile_all(tasks):
    """Have the tasks done by several workers, and show how many are. Returns whether any could be."""
    global _worker
    order = {module: i for i, module in enumerate(_LONGEST)}
    tasks = sorted(tasks, key=lambda task: order.get(task[0], len(order)))
    workers = [_worker, *(Worker() for _ in range(min(len(tasks), numba.get_num_threads(), _MOST) - 1))]
    idle = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def compile(task):
        worker = idle.get()
        try:
            return task, worker.compile(task)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        running = [pool.submit(compile, task) for task in tasks]
        try:
            _show(0, len(tasks), tasks[0])
            for n, future in enumerate(as_completed(running), 1):
                task, content = future.result()
                _show(n, len(tasks), task)
                if content is not None:
                    _contents[task[3]] = content
        finally:  # of an interrupt too
            for future in running:
                future.cancel()
            for worker in workers:
                worker.close()
            _worker = Worker()
    return bool(_contents)


def _show(n, total, task):
    """How many kernels are compiled, since silence looks like a hang: a bar on a terminal, else a line for each."""
    what, count = "compiling kernels (once, then cached)", f"{n} of {total}"
    if sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty():
        note(f"\r{what}: [{'#' * n}{'.' * (total - n)}] {count}", end="\n" if n == total else "")
    elif n:
        note(f"{what}: {count}, {_name(task)}")


def _name(task):
    return f"{task[0].removeprefix('kernels.').replace('.', '/')}.py: {task[1]}"


class Worker:
    """A process that compiles one kernel after another. It is started when there is something to do."""

    def __init__(self):
        self._process = self._owner = None
        self._closed = False

    def compile(self, task):
        """What the cache's entry is to hold; None if the process could not be started or failed."""
        fresh = False
        while not (fresh or self._closed):
            if fresh := self._process is None or self._owner != os.getpid():
                self._process = None
            try:
                process = self._process or self._start()
                _send(process.stdin, dumps(task))
                return _receive(process.stdout) or None
            except OSError:  # if it was not fresh, it had ended for want of work
                self._end()
            except BaseException:  # its answer would be taken for the next one's
                self._end()
                raise
        return None

    def close(self):
        self._closed = True
        self._end()

    def _start(self):
        command = [sys.executable, "-c", _START, *sys.path]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._owner = os.getpid()
        return self._process

    def _end(self):
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for stream in process.stdin, process.stdout:
                with contextlib.suppress(OSError):  # what could not be sent
                    stream.close()


_worker = Worker()  # for a kernel that no rehearsal named


def serve():
    """Be a worker: compile what comes on stdin. Whatever is under way, the process ends when stdin does."""
    global _is_worker
    _is_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asked, which then ends this one
    gc.disable()  # compiling makes millions of objects that live on, and a search among them takes a tenth of the time
    event.broadcast = lambda event: None  # Numba tells of every call of LLVM, and nobody listens
    _emit_only_what_is_kept()
    tasks, answers = queue.SimpleQueue(), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    with contextlib.suppress(queue.Empty, BrokenPipeError):
        while True:
            _send(answers, _answer(*loads(tasks.get(timeout=_IDLE))))
    os._exit(0)


def _emit_only_what_is_kept():
    """Have Numba make machine code of what goes into the cache alone.

    It would make it of each function that a kernel calls too, to run it, which takes a third of the time. The kernel
    holds a copy of that function, and nothing that is compiled here is run here.
    """
    JITCPUCodegen._add_module = JITCPUCodegen.set_env = lambda codegen, *args: None
    JITCodeLibrary._finalize_specific = lambda library: None
    JITCodeLibrary.get_pointer_to_function = lambda library, name: 0
    JITCodeLibrary._get_compiled_object = lambda library: library._codegen._tm.emit_object(library._final_module)


def _listen(tasks):
    try:
        while True:
            tasks.put(_receive(sys.stdin.buffer))
    finally:
        os._exit(0)


def _answer(module, name, sig, entry):
    """The entry's content; empty if this process compiles for another processor, say, or cannot compile it."""
    global _asked
    _asked = entry
    asked = getattr(importlib.import_module(module), name)
    for kernel in forked.watched:  # what it calls takes less time without the code by which Python would call it
        kernel.targetoptions["no_cpython_wrapper"] = kernel is not asked
    asked._reset_overloads()  # it may have been compiled like that
    try:
        asked.compile(sig)
    except Exception:  # the process that asked will meet it too, and raise it where it belongs
        return b""
    return _contents.pop(entry, b"")


def _send(stream, message):
    stream.write(_HEADER.pack(_HERE, len(message)) + message)
    stream.flush()


def _receive(stream):
    """What `_send` wrote at the other end. BrokenPipeError if the process there ended, or something else writes."""
    header = stream.read(_HEADER.size)
    here, length = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0)
    message = stream.read(length) if here == _HERE else b""
    if here != _HERE or len(message) < length:
        raise BrokenPipeError
    return message
