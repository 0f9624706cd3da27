"""Kernels are compiled by workers, processes of their own: all processes have the bits of what these made."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernels import prepare
from kernels.cpu import compile_workers, spin_calibration
from kernels.cpu.compile import jit
from kernels.layernorm import cpu as layernorm

ROOT = Path(__file__).resolve().parents[2]
BITS = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "kernels")!r}]
import numpy as np
from parity import arguments
from test_compile_workers import digest
from kernels import backend
for name in sys.argv[1:]:
    kernel = getattr(backend("cpu"), name)
    print(name, digest(kernel(*arguments(name, np.random.default_rng(1), np.float32, T=150))))
"""


def digest(value):
    """A hash of the bits of nested sequences of arrays."""
    if isinstance(value, (list, tuple)):
        return hashlib.sha256("".join(map(digest, value)).encode()).hexdigest()
    return hashlib.sha256(np.asarray(value).tobytes()).hexdigest()


def bits(cache, *names):
    """What a process prints that calls these kernels: {name: hash}; and what it says on stderr."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    run = subprocess.run([sys.executable, "-c", BITS, *names], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(line.split() for line in run.stdout.splitlines()), run.stderr


def test_the_first_process_has_the_bits_of_those_behind_it(tmp_path):
    """It does not run what it compiled itself, which may round otherwise: see `kernels.cpu.compile_workers`."""
    first, said = bits(tmp_path, "layernorm_forward")
    assert said == "compiling layernorm/cpu.py: _forward (once, then cached)\n"
    assert bits(tmp_path, "layernorm_forward") == (first, "")


@pytest.mark.slow
def test_all_kernels_have_the_same_bits_in_whichever_order_they_are_compiled(tmp_path):
    from parity import ALL_KERNELS, IN_PLACE

    names = [name for name in ALL_KERNELS if name not in IN_PLACE]
    first, _ = bits(tmp_path / "a", *names)
    again, said = bits(tmp_path / "a", *names)
    assert again == first and not said
    assert bits(tmp_path / "b", *reversed(names))[0] == first


def test_a_process_without_a_cache_loads_what_a_worker_made():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from kernels.system import cache; cache.folder = lambda name: None\n"
        "from kernels.cpu import spin_calibration; spin_calibration.pauses_in(1e-6); "
        "print(spin_calibration._pause_often.stats)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cache_misses=Counter()" in run.stdout, run.stdout + run.stderr
    assert run.stderr == "compiling cpu/spin_calibration.py: _pause_often (once, then cached)\n"


# ------------------------------------------------------------------------------------- one worker


def task():
    """One that takes little time, and the entry it is for."""
    kernel = spin_calibration._pause_often
    if not kernel.overloads:
        spin_calibration.pauses_in(1e-6)
    sig = next(iter(kernel.overloads))
    entry = kernel._cache._entry(sig, kernel.targetctx.codegen())
    return kernel.py_func.__module__, kernel.py_func.__qualname__, sig, entry


@pytest.fixture
def worker():
    worker = compile_workers.Worker()
    yield worker
    worker.close()


def test_a_worker_that_ended_is_started_again(worker):
    first = worker.compile(task())
    assert len(first) > 1000
    worker._process.kill()
    worker._process.wait()
    assert len(worker.compile(task())) > 1000


@pytest.mark.parametrize("start", ["raise SystemExit(1)", "print('nonsense')", "import time; time.sleep(0.1)"])
def test_what_a_worker_cannot_compile_is_compiled_here(worker, start, monkeypatch):
    monkeypatch.setattr(compile_workers, "_START", start)
    assert worker.compile(task()) is None
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert worker.compile(task()) is None


def test_a_worker_answers_a_task_that_it_cannot_do(worker):
    module, name, sig, entry = task()
    assert worker.compile((module, name, sig, "of another processor")) is None
    assert worker.compile((module, name, ("no type",), entry)) is None
    assert worker.compile((module, name, sig, entry)) is not None


@pytest.mark.posix
def test_a_worker_dies_with_the_process_that_started_it():
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'kernels')!r}]\n"
        "import test_compile_workers as t, time\n"
        "t.compile_workers._worker.compile(t.task())\n"
        "print(t.compile_workers._worker._process.pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGINT)  # as a Ctrl-C does to all of a terminal's processes: not a worker's affair
        time.sleep(0.1)
        os.kill(pid, 0)
        parent.kill()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {pid} outlives the process that started it")


@pytest.mark.posix
def test_a_process_that_compiled_ends_without_warnings(tmp_path):
    """Of a worker that still runs, or of its pipes; nor does a process that was forked from it."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from kernels.cpu import compile_workers, spin_calibration\n"
        "spin_calibration.pauses_in(1e-6)\n"
        "assert compile_workers._worker._process is not None\n"
        "child = os.fork()\n"
        "if child: print(os.waitpid(child, 0)[1])"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-X", "dev", "-W", "always::ResourceWarning", "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.stdout == "0\n", run.stderr
    assert run.stderr == "compiling cpu/spin_calibration.py: _pause_often (once, then cached)\n"


# ------------------------------------------------------------------------------------- a rehearsal


asked = []


class Stub(compile_workers.Worker):
    """Remembers what it was to compile; compiles nothing."""

    def compile(self, task):
        asked.append(task[:2])


def test_a_rehearsal_names_each_missing_kernel_once_and_uses_the_plain_ones(monkeypatch, capsys):
    x = np.ones((2, 5), np.float32)
    for name in "_forward", "_backward":  # of which nothing was compiled or kept yet
        fresh = jit(parallel=True)(getattr(layernorm, name).py_func)
        monkeypatch.setattr(fresh._cache, "_folder", None)
        monkeypatch.setattr(layernorm, name, fresh)
    monkeypatch.setattr(compile_workers, "Worker", Stub)
    monkeypatch.setattr(compile_workers, "_worker", Stub())
    asked.clear()
    results = []

    def rehearsal():
        import kernels

        for _ in range(2):
            out, mean, rstd = kernels.for_array(x).layernorm_forward(x, x[0], None, 1e-5)
            kernels.for_array(x).layernorm_backward(x, x, x[0], mean, rstd)
            results.append(out)

    prepare(rehearsal)
    assert sorted(asked) == [("kernels.layernorm.cpu", "_backward"), ("kernels.layernorm.cpu", "_forward")]
    assert len(results) == 2 and not results[0].any()
    said = capsys.readouterr().err.splitlines()
    assert [line.split(",")[1] for line in said] == [" then cached): 1 of 2", " then cached): 2 of 2"]
