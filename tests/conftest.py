"""Settings of the test process, made before any test module is imported, and the requirements of each marker."""

import os

# Waiting threads must sleep: threads that spin take the cores from other processes. OpenMP reads this when it is
# loaded, which PyTorch may do first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONUNBUFFERED", None)  # programs started by tests buffer their output as a user's do

import functools
import importlib.util
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import pytest

import kernels
from kernels import matmul_precision
from kernels.cpu import micro_kernel_bfloat16
from kernels.cuda import gpu, nvrtc
from kernels.system.cli import interpreter
from minigrad import random, runtime

THREADS = runtime.configure()  # one pool of threads, as in train.py

# ------------------------------------------------------------------------------------------ what tests need


class Supply(NamedTuple):
    """The requirement of a marker. Where it is missing, tests with the marker are skipped."""

    what: str
    there: Callable[[], bool]
    get: str = ""  # the command that installs it; empty if no command can


def on_device(name):
    """Whether the tests of the CUDA kernels run on that device; `make gpu-report` sets it."""
    return os.environ.get("MINIGRAD_TEST_DEVICE", "cuda-sim") == name


VERSION = sys.version_info[:3]
PIP = f"{interpreter()} -m pip install"
#: marker -> its requirement. A test that cannot run everywhere has one of these markers: a skip without a marker, or
#: with one whose requirement is met, is a failure.
SUPPLIES = {
    "pytorch": Supply("PyTorch", lambda: importlib.util.find_spec("torch") is not None, f"{PIP} torch==2.13.0"),
    "jax": Supply("JAX", lambda: importlib.util.find_spec("jax") is not None, f"{PIP} 'jax[cpu]==0.10.2'"),
    "transformers": Supply(
        "transformers, of the extra oracles",
        lambda: importlib.util.find_spec("transformers") is not None,
        f"{PIP} -e '.[oracles]'",
    ),
    "gpu_check": Supply(
        "NVIDIA's compiler and CuPy",
        lambda: nvrtc.missing() is None and importlib.util.find_spec("cupy") is not None,
        f"{PIP} -e '.[gpu-check]'",
    ),
    "docs": Supply(
        "the extra docs",
        lambda: all(importlib.util.find_spec(name) for name in ("nbclient", "ipykernel", "pdoc")),
        f"{PIP} -e '.[docs]'",
    ),
    "data": Supply(
        "pyarrow, of the extra data", lambda: importlib.util.find_spec("pyarrow") is not None, f"{PIP} -e '.[data]'"
    ),
    "mypy": Supply("mypy", lambda: importlib.util.find_spec("mypy") is not None, f"{PIP} -e '.[dev]'"),
    "numpy21": Supply(
        "NumPy 2.1 or newer", lambda: np.lib.NumpyVersion(np.__version__) >= "2.1.0", f"{PIP} 'numpy>=2.1'"
    ),
    "compiler": Supply("g++", lambda: shutil.which("g++") is not None, "apt install g++"),
    "cuda_sim": Supply("--device cuda-sim", lambda: on_device("cuda-sim"), "unset MINIGRAD_TEST_DEVICE"),
    "gpu": Supply("an NVIDIA GPU", lambda: gpu.problem() is None),
    "no_gpu": Supply("a machine without an NVIDIA GPU", lambda: gpu.problem() is not None),
    "bfloat16": Supply(
        "a processor that multiplies bfloat16 (AVX512-BF16)", lambda: micro_kernel_bfloat16.HAS_BFLOAT16
    ),
    "amx": Supply("a processor with AMX", lambda: micro_kernel_bfloat16.HAS_AMX),
    "two_threads": Supply("two cores, and NUMBA_NUM_THREADS > 1", lambda: numba.config.NUMBA_NUM_THREADS > 1),
    "pdb": Supply("a pdb that hands flags to the program, as Python 3.13.0's does not", lambda: VERSION != (3, 13, 0)),
    "posix": Supply("a POSIX system", lambda: os.name == "posix"),
    "linux": Supply(
        "Linux, with a /proc of its own",
        lambda: platform.system() == "Linux" and os.access("/proc/self/clear_refs", os.W_OK),
    ),
    "root": Supply("the rights of root", lambda: hasattr(os, "geteuid") and os.geteuid() == 0),
}


@functools.cache
def lacks(name):
    """Why tests with this marker cannot run here; None if they can."""
    supply = SUPPLIES[name]
    return None if supply.there() else f"needs {supply.what}" + (f": {supply.get}" if supply.get else "")


def lacking(item):
    """The markers of a test whose requirements are missing."""
    return [name for name in SUPPLIES if item.get_closest_marker(name) and lacks(name)]


# ------------------------------------------------------------------------------------------ hooks

LEFT_OUT = "minigrad/left_out"  # in pytest's cache: the markers that the last run could not supply


def pytest_addoption(parser):
    parser.addoption(
        "--left-out",
        action="store_true",
        help="run what the last run left out: slow tests, and those that lacked something; what still lacks "
        "something that a command could have supplied fails",
    )


def pytest_configure(config):
    for name, supply in SUPPLIES.items():
        config.addinivalue_line("markers", f"{name}: needs {supply.what}")
    if config.option.left_out:
        config.option.markexpr = " or ".join(["slow", *config.cache.get(LEFT_OUT, [])])


def pytest_runtest_setup(item):
    if names := lacking(item):
        pytest.skip("; ".join(map(lacks, names)))


def pytest_runtest_teardown(item):
    """Note the errors that a test of the CUDA kernels measured, beside its result: `make gpu-report` reads them."""
    if parity := sys.modules.get("cuda_parity"):
        item.user_properties += [(f"error {kernel} {dtype}", found) for (kernel, dtype), found in parity.ERRORS.items()]
        parity.ERRORS.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Make a skip a failure unless the requirement of one of the test's markers is missing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        names = lacking(item)
        if not names:
            report.outcome = "failed"
            report.longrepr = f"skipped, but no marker in tests/conftest.py names what is missing: {report.longrepr[2]}"
        elif item.config.option.left_out and all(SUPPLIES[name].get for name in names):
            report.outcome, report.longrepr = "failed", f"left out again: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Make the skip of a whole module a failure: it hides its tests and their markers."""
    report = yield
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped as a whole; mark its tests instead: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter, config):
    """Name the tests that are not run by default, after pytest's own lines about skipped tests."""
    if "not slow" in config.option.markexpr:
        terminalreporter.write_line('left out: tests marked slow; run them: make test ARGS="-m slow"')


def pytest_sessionfinish(session):
    config = session.config
    worker = hasattr(config, "workerinput")  # a process of xdist's
    if hasattr(config, "cache") and not config.option.left_out and not worker:
        config.cache.set(LEFT_OUT, [name for name in SUPPLIES if lacks(name)])


@pytest.fixture(autouse=True, scope="session")
def programs_get_signals():
    """Reset SIGINT and SIGHUP, which `nohup` and `&` make this process and its children ignore."""
    for name in ("SIGINT", "SIGHUP"):
        if (number := getattr(signal, name, None)) and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def same_start():
    """Every test has the same kernels, threads and random position, whatever ran before it.

    A test that calls a command's main() changes kernels and threads.
    """
    random.seek(0)
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    matmul_precision.select("float32")
    with kernels.use("fast"):
        yield
