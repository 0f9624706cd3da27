"""Worker processes that read and tokenize a corpus, several at a time.

A worker is a program of its own: tasks arrive on its stdin and answers leave by its stdout, each a line of JSON. So it
imports only what a task needs, and nothing of it is loaded as a pickle. Its stdin closes when the parent ends, however
that happens; the worker then ends too, even in the middle of a task.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from kernels.system.errors import UserError
from kernels.system.printable import one_line
from tiny_transformer_np.config import ConfigError

Answer: TypeAlias = dict[str, Any]  # JSON-able
Tell: TypeAlias = Callable[[int, int], object]  # (index of a task, bytes that it has read since the last call)

# What a worker runs. It listens before its imports, which take long on a busy machine: the parent may end meanwhile.
# Signals are for the parent, which then ends its workers.
_START = """
import os, queue, signal, sys, threading, traceback
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
tasks = queue.SimpleQueue()
def listen():
    try:
        for line in sys.stdin.buffer:
            tasks.put(line)
    finally:
        os._exit(0)
threading.Thread(target=listen, daemon=True).start()
sys.path[:] = sys.argv[1:]
try:
    from tiny_transformer_np.corpus.workers import serve
    serve(tasks)
except BaseException:
    traceback.print_exc()
    os._exit(1)  # the thread keeps stdin, which Python's own way out would wait for
"""
#: libraries that start a thread for each core unless the environment says otherwise
_THREADS = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(RuntimeError):
    """A worker ended in the middle of a task, or met an error of the program's own."""


@dataclass(frozen=True)
class Task:
    """name: of a function in corpus/encoding.py, called with the arguments, which are JSON-able. what: for messages."""

    name: str
    what: str
    arguments: dict[str, Any] = field(default_factory=dict)


def results(
    tasks: Sequence[Task], processes: int, tell: Tell, threads: int = 1
) -> Generator[tuple[int, Answer], None, None]:
    """(index of a task, what its function returned), in the order in which the processes finish them.

    processes: at most; threads: in each; tell: called while tasks run. A task's ConfigError, OSError or MemoryError is
    raised here, and WorkerError if a worker dies. However this generator ends, its processes have ended then.
    """
    events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    waiting: queue.SimpleQueue[tuple[int, Task]] = queue.SimpleQueue()
    for item in enumerate(tasks):
        waiting.put(item)
    workers: list[_Worker] = []
    try:
        for _ in range(min(processes, len(tasks))):
            workers.append(_Worker(threads))
        for worker in workers:
            worker.start(waiting, events)
        missing = len(tasks)
        while missing:
            index, event = events.get()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, int):
                tell(index, event)
            else:
                missing -= 1
                yield index, event
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A worker process and the thread of this process that talks to it."""

    def __init__(self, threads: int) -> None:
        parallel = "true" if threads > 1 else "false"
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": parallel, **dict.fromkeys(_THREADS, str(threads))}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._thread: threading.Thread | None = None

    def start(self, waiting: queue.SimpleQueue, events: queue.SimpleQueue) -> None:
        """Do the tasks of `waiting`, one after another; answers, progress and exceptions go to `events`."""
        self._thread = threading.Thread(target=self._talk, args=(waiting, events), daemon=True)
        self._thread.start()

    def _talk(self, waiting: queue.SimpleQueue, events: queue.SimpleQueue) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                index, task = waiting.get_nowait()
                try:
                    for event in self._do(task):
                        events.put((index, event))
                except Exception as error:
                    events.put((index, error))
                    return

    def _do(self, task: Task) -> Iterator[int | Answer]:
        """Send a task, yield the progress that the worker reports, and its answer at last. Raises what it raised."""
        assert self._process.stdin and self._process.stdout
        message = json.dumps([task.name, task.arguments]).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # said below
            self._process.stdin.write(message)
            self._process.stdin.flush()
        for line in self._process.stdout:
            if not line.endswith(b"\n"):  # it ended in the middle of one
                break
            answer = json.loads(line)
            if isinstance(answer, int):
                yield answer
            elif "error" in answer:
                raise _exception(answer, task)
            else:
                yield answer["result"]
                return
        raise WorkerError(f"the process that worked on {task.what} {self._last_words()}")

    def _last_words(self) -> str:
        """How the worker ended."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        said = f": {one_line(lines[-1])}" if lines else ""
        if status >= 0:
            return f"ended with status {status}{said}"
        with contextlib.suppress(ValueError):  # a number without a name
            if signal.Signals(-status).name == "SIGKILL":
                return "was killed (SIGKILL), perhaps for lack of memory: give fewer --processes"
            return f"was killed by {signal.Signals(-status).name}{said}"
        return f"was killed by signal {-status}{said}"

    def end(self) -> None:
        """Kill the process, unless it has ended, and wait for it."""
        self._process.kill()
        self._process.wait()
        if self._thread:
            self._thread.join()  # it reads the end of the process's output
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # unsent data
                if stream:
                    stream.close()


def _exception(answer: Answer, task: Task) -> Exception:
    """The exception that a worker told of by `_told`."""
    kind, message = answer["error"], answer["message"]
    if kind == "UserError":
        return ConfigError(message)
    if kind == "MemoryError":
        return MemoryError(f"{message} ({task.what})" if message else task.what)
    if kind == "OSError":
        return OSError(answer["errno"], message, answer["filename"])
    return WorkerError(f"the process that worked on {task.what} failed: {one_line(message)}")


# ------------------------------------------------------------------------------------------ in a worker


def serve(tasks: queue.SimpleQueue[bytes]) -> NoReturn:
    """Be a worker: do the tasks that arrive."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer

    def send(answer: int | Answer) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        from tiny_transformer_np.corpus import encoding  # workers alone need it

        while True:
            name, arguments = json.loads(tasks.get())
            try:
                send({"result": encoding.TASKS[name](**arguments, tell=send)})
            except Exception as error:
                send(_told(error))
    except BrokenPipeError:  # nobody reads the answers
        os._exit(0)


def _told(error: Exception) -> Answer:
    """An exception as JSON."""
    if isinstance(error, UserError):
        return {"error": "UserError", "message": str(error)}
    if isinstance(error, MemoryError):
        return {"error": "MemoryError", "message": str(error)}
    if isinstance(error, OSError) and error.errno:
        name = None if error.filename is None else os.fsdecode(error.filename)
        return {"error": "OSError", "message": error.strerror or str(error), "errno": error.errno, "filename": name}
    return {"error": "other", "message": f"{type(error).__name__}: {error}"}
