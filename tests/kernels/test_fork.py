"""Kernels in forked processes: without a message GNU's OpenMP ends these, and a pool of processes waits for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELPERS = """
import inspect, multiprocessing, os, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
import kernels
from kernels.layernorm.cpu import layernorm_forward

x = np.random.default_rng(0).normal(size=(640, 48)).astype(np.float32)
weight = np.ones(48, np.float32)

def compute(forward=layernorm_forward):
    return forward(x, weight, weight, 1e-5)[0].tobytes()

def attempt(function=compute):
    try:
        return function()
    except RuntimeError as error:
        return str(error)

def in_fork(function=compute):
    "What attempt(function) gives in a forked process, or the number of the signal that ended it."
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, repr(attempt(function)[:200]).encode())
        os._exit(0)
    os.close(write)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return eval(os.read(read, 10000)) if ended == 0 else ended

fork = multiprocessing.get_context("fork")
"""
STARTED = """
before = in_fork()
expected = compute()
assert before == expected[:200], before  # whoever forks first may run kernels on both sides

error = in_fork()
assert "spawn" in error and "NUMBA_THREADING_LAYER=workqueue" in error, error

def call_each():
    "Every compiled function, with arguments of whatever type: the names of those that do something else than raise."
    kernels.backend("cpu")  # some were not even imported before the fork
    modules = [module for name, module in sys.modules.items() if name.startswith("kernels.")]
    functions = {f for module in modules for f in vars(module).values() if isinstance(f, Dispatcher)}
    assert len(functions) > 60
    for function in functions:
        n = len(inspect.signature(function.py_func).parameters)
        if "spawn" not in attempt(lambda: function(*[None] * n)):
            return function.__name__
    return "all raise"

assert in_fork(call_each) == "all raise", in_fork(call_each)
assert len(in_fork(lambda: compute(kernels.backend("reference").layernorm_forward))) == 200  # needs no threads
assert "spawn" in in_fork(lambda: compute(kernels.for_array(x).layernorm_forward))
assert "spawn" in in_fork(lambda: in_fork())  # a fork of the fork

with fork.Pool(2) as pool:
    assert all("spawn" in error for error in pool.map(attempt, [compute, compute]))
assert compute() == expected  # and here they still work
"""
WORKQUEUE = """
expected = compute()
assert in_fork() == expected[:200]
with fork.Pool(2) as pool:
    assert pool.map(attempt, [compute, compute]) == [expected, expected]
"""


def run(code, layer):
    env = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-c", HELPERS + code]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.linux  # where Numba comes with GNU's OpenMP
def test_the_first_kernel_in_a_fork_raises_once_the_threads_have_started():
    result = run(STARTED, "omp")
    assert result.returncode == 0, result.stderr


def test_forks_run_kernels_with_the_layer_that_the_message_names():
    result = run(WORKQUEUE, "workqueue")
    assert result.returncode == 0, result.stderr
