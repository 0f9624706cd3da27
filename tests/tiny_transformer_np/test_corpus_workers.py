"""What goes wrong in a worker process is the error of the process that asked, and no worker outlives it."""

import errno
import os
import signal
from contextlib import closing

import pytest

from kernels.system import cli
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import workers
from tiny_transformer_np.corpus.workers import Task, WorkerError

#: tasks for these tests, defined in the worker
TASKS = """
    import errno, os, signal, time
    from tiny_transformer_np.config import ConfigError
    from tiny_transformer_np.corpus import encoding

    def raising(error, tell):
        raise eval(error)

    def ending(how, tell):
        print("noise", flush=True)
        os.write(2, b"the last words\\n")
        os.kill(os.getpid(), how) if how else os._exit(3)

    def telling(numbers, tell):
        print("noise on stdout", flush=True)
        for number in numbers:
            tell(number)
        return {"pid": os.getpid(), "threads": os.environ["RAYON_NUM_THREADS"]}

    def sleeping(tell):
        time.sleep(60)

    encoding.TASKS.update(raising=raising, ending=ending, telling=telling, sleeping=sleeping)
"""


@pytest.fixture(autouse=True)
def _tasks(monkeypatch):
    monkeypatch.setattr(workers, "_START", workers._START.replace("    serve(tasks)", f"{TASKS}\n    serve(tasks)"))


def results(*tasks, processes=1, threads=1):
    told = []
    with closing(workers.results(tasks, processes, lambda *args: told.append(args), threads)) as found:
        return dict(found), told


def test_answers_come_with_the_progress_of_each_task():
    tasks = [Task("telling", "it", {"numbers": [n, 10 * n]}) for n in range(5)]
    found, told = results(*tasks, processes=2, threads=3)
    assert sorted(found) == [0, 1, 2, 3, 4] and {answer["threads"] for answer in found.values()} == {"3"}
    assert sorted(told) == [(n, m) for n in range(5) for m in (n, 10 * n)]
    assert os.getpid() not in {answer["pid"] for answer in found.values()}


@pytest.mark.parametrize(
    "raised, error, said",
    [
        ("ConfigError('bad data')", ConfigError, "bad data"),
        pytest.param("MemoryError()", MemoryError, "book.txt", marks=pytest.mark.slow),
        ("MemoryError('8 GB')", MemoryError, r"8 GB \(book.txt\)"),
        (
            "ZeroDivisionError('a\\nb')",
            WorkerError,
            "the process that worked on book.txt failed: ZeroDivisionError: a b",
        ),
        pytest.param("OSError('no number')", WorkerError, "failed: OSError: no number", marks=pytest.mark.slow),
    ],
)
def test_an_exception_of_a_task_is_raised_here(raised, error, said):
    with pytest.raises(error, match=f"^.*{said}$") as raised_here:
        results(Task("raising", "book.txt", {"error": raised}))
    assert type(raised_here.value) is error


def test_an_error_of_the_system_keeps_its_number_and_file():
    with pytest.raises(OSError) as raised:
        results(Task("raising", "book.txt", {"error": "OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'a/b')"}))
    assert raised.value.errno == errno.ENOSPC and cli.describe(raised.value) == "No space left on device: a/b"


@pytest.mark.posix
@pytest.mark.parametrize(
    "how, said",
    [
        (0, "ended with status 3: the last words"),
        pytest.param(signal.SIGSEGV, "was killed by SIGSEGV: the last words", marks=pytest.mark.slow),
        (signal.SIGKILL, r"was killed \(SIGKILL\), perhaps for lack of memory: give fewer --processes"),
    ],
)
def test_a_worker_that_dies_is_an_error_that_says_how(how, said):
    with pytest.raises(WorkerError, match=f"^the process that worked on book.txt {said}$"):
        results(Task("ending", "book.txt", {"how": int(how)}), Task("sleeping", "x"), processes=2)


def test_a_worker_that_cannot_start_is_an_error_that_says_why(monkeypatch):
    monkeypatch.setattr(workers, "_START", workers._START.replace("    serve(tasks)", "    import no_such_module"))
    with pytest.raises(
        WorkerError, match=r"ended with status 1: ModuleNotFoundError: No module named 'no_such_module'"
    ):
        results(Task("sleeping", "x"))
    with pytest.raises(WorkerError, match="failed: KeyError: 'nothing'"):
        monkeypatch.undo()
        results(Task("nothing", "x"))


@pytest.mark.posix
def test_no_worker_outlives_a_loop_that_is_left():
    with closing(workers.results([Task("telling", "x", {"numbers": []}), Task("sleeping", "x")], 1, print)) as found:
        _, answer = next(found)
    with pytest.raises(ProcessLookupError):
        os.kill(answer["pid"], 0)
