"""Kernels are compiled by worker processes, several at a time, and loaded by the process that calls them.

A loaded kernel may round differently from one that this process compiled. Numba compiles each function that a kernel
calls twice: by itself, and as a copy inside the kernel, which is optimised once more. A loaded kernel runs the copy; in
the process that compiled both, the linker takes the original. So the first process loads its kernels too, and all
processes give the same bits.
"""

import atexit
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import SimpleNamespace
from typing import IO, Any, NoReturn, TypeAlias

import numba
import numpy as np
from numba.cloudpickle import loads
from numba.core import event
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.serialize import dumps

import kernels
from kernels.cpu import forked, threads
from kernels.system.streams import note

Task: TypeAlias = tuple[str, str, Any, str]  # a kernel's module, name and signature; its entry in the cache

_MAX_WORKERS = 4  # with more the longest kernel still takes as long; a worker takes 250 MB
_IDLE_SECONDS = 10  # after which a worker without work ends
#: modules whose kernels take longest: begun first
_LONGEST = ("kernels.cpu.matmul", "kernels.attention.cpu", "kernels.attention.cpu_bfloat16", "kernels.linear.cpu")
_START = "import sys; sys.path[:] = sys.argv[1:]; from kernels.cpu.compile_workers import serve; serve()"

_HEADER, _MAGIC = struct.Struct("<8sQ"), b"minigrad"  # each message begins with these: magic and length

_is_worker = False
_requested: str | None = None  # an entry's name
_contents: dict[str, bytes] = {}  # entry: its content, compiled but not loaded yet; in a worker, not sent yet
_missing: dict[str, Task] | None = None  # entry: task, during a rehearsal


class NotCompiled(Exception):
    """A kernel that is not in the cache, in a rehearsal."""


def compiled(function: Callable, sig: Any, entry: str) -> bytes | None:
    """The content of the cache's entry for a kernel, compiled by a worker. None: compile it in this process."""
    if entry in _contents:
        return _contents.pop(entry)
    dispatcher = getattr(sys.modules.get(function.__module__), function.__qualname__, None)
    importable = function.__module__.startswith("kernels.") and getattr(dispatcher, "py_func", None) is function
    if _is_worker or not importable:  # a worker imports what it compiles
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


def is_requested(entry: str) -> bool:
    """Whether an entry that was compiled here is to be stored. A worker also compiles what the kernel calls."""
    return not _is_worker or entry == _requested


def remember(entry: str, content: bytes) -> None:
    """In a worker: keep the content of the requested entry, to be sent."""
    if _is_worker and entry == _requested:
        _contents[entry] = content


def prepare(rehearsal: Callable[[], object]) -> None:
    """Compile what `rehearsal()` calls and is not in the cache, on as many cores as kernels may use.

    Where a kernel is missing, the reference kernel takes its place in the rehearsal. The last rehearsal loads them all.
    """
    threads.get_num_threads()  # settled now, since in a rehearsal nothing is compiled that is called
    while (tasks := _rehearse(rehearsal)) and _compile_all(tasks):
        pass
    _contents.clear()


def _rehearse(rehearsal: Callable[[], object]) -> list[Task]:
    """The tasks of all kernels that are missing."""
    global _missing
    fast, _missing = kernels.for_array(np.empty(0)), {}

    def either(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
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


def _compile_all(tasks: list[Task]) -> bool:
    """Compile the tasks on several workers, with a progress report. Returns whether any was compiled."""
    global _worker
    order = {module: i for i, module in enumerate(_LONGEST)}
    tasks = sorted(tasks, key=lambda task: order.get(task[0], len(order)))
    workers = [_worker, *(Worker() for _ in range(min(len(tasks), numba.get_num_threads(), _MAX_WORKERS) - 1))]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def compile(task: Task) -> tuple[Task, bytes | None]:
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
        finally:  # also after an interrupt
            for future in running:
                future.cancel()
            for worker in workers:
                worker.close()
            _worker = Worker()
    return bool(_contents)


def _show(n: int, total: int, task: Task) -> None:
    """How many kernels are compiled, since silence looks like a hang: a bar on a terminal, else a line for each."""
    what, count = "compiling kernels (once, then cached)", f"{n} of {total}"
    if sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty():
        note(f"\r{what}: [{'#' * n}{'.' * (total - n)}] {count}", end="\n" if n == total else "")
    elif n:
        note(f"{what}: {count}, {_name(task)}")


def _name(task: Task) -> str:
    return f"{task[0].removeprefix('kernels.').replace('.', '/')}.py: {task[1]}"


class Worker:
    """A process that compiles one kernel after another. It starts at the first task."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: int | None = None
        self._closed = False

    def compile(self, task: Task) -> bytes | None:
        """The content of the cache's entry; None if the process could not be started or failed."""
        fresh = False
        while not (fresh or self._closed):
            if fresh := self._process is None or self._owner != os.getpid():
                self._end()
            try:
                process = self._process or self._start()
                assert process.stdin and process.stdout
                _send(process.stdin, dumps(task))
                return _receive(process.stdout) or None
            except OSError:  # a process that was not fresh had ended for lack of work
                self._end()
            except BaseException:  # its answer would be read as the next task's
                self._end()
                raise
        return None

    def close(self) -> None:
        self._closed = True
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _START, *sys.path]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._owner = os.getpid()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if self._owner == os.getpid():
            process.kill()
            process.wait()
        else:  # this process was forked; the worker is its parent's
            process.returncode = 0  # else Popen would wait for it, and warn
        for stream in process.stdin, process.stdout:
            with contextlib.suppress(OSError):  # unsent data
                if stream:
                    stream.close()


_worker = Worker()  # for a kernel that no rehearsal called
atexit.register(lambda: _worker.close())


def serve() -> NoReturn:
    """Be a worker: compile the tasks that arrive on stdin. The process ends when stdin closes, even during a task."""
    global _is_worker
    _is_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    gc.disable()  # compiling makes millions of objects that stay alive; searching them takes a tenth of the time
    event.broadcast = lambda event: None  # Numba's events of every LLVM call have no listener
    _emit_only_cached_code()
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    with contextlib.suppress(queue.Empty, BrokenPipeError):
        while True:
            _send(answers, _answer(*loads(tasks.get(timeout=_IDLE_SECONDS))))
    os._exit(0)


def _emit_only_cached_code() -> None:
    """Make Numba emit machine code only for what goes into the cache.

    Numba also emits it for each function that a kernel calls, to run it, which takes a third of the time. The kernel
    contains a copy of that function, and a worker runs nothing that it compiles.
    """
    JITCPUCodegen._add_module = JITCPUCodegen.set_env = lambda codegen, *args: None
    JITCodeLibrary._finalize_specific = lambda library: None
    JITCodeLibrary.get_pointer_to_function = lambda library, name: 0
    JITCodeLibrary._get_compiled_object = lambda library: library._codegen._tm.emit_object(library._final_module)


def _listen(tasks: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            tasks.put(_receive(sys.stdin.buffer))
    finally:
        os._exit(0)


def _answer(module: str, name: str, sig: Any, entry: str) -> bytes:
    """The entry's content; empty if this process cannot compile it, or compiles for another processor."""
    global _requested
    _requested = entry
    asked = getattr(importlib.import_module(module), name)
    for kernel in forked.watched:  # functions that it calls compile faster without the wrapper for Python
        kernel.targetoptions["no_cpython_wrapper"] = kernel is not asked
    asked._reset_overloads()  # it may have been compiled without the wrapper
    try:
        asked.compile(sig)
    except Exception:  # the parent meets it too, and raises it to the caller
        return b""
    return _contents.pop(entry, b"")


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(_HEADER.pack(_MAGIC, len(message)) + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The message that `_send` wrote. BrokenPipeError if the other process ended, or something else wrote there."""
    header = stream.read(_HEADER.size)
    magic, length = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0)
    message = stream.read(length) if magic == _MAGIC else b""
    if magic != _MAGIC or len(message) < length:
        raise BrokenPipeError
    return message
