"""How the tests of the CUDA kernels compare a device with the reference in float64.

An error is the largest difference over the largest magnitude expected. Inputs are rounded to the tested dtype first
and then widened for the reference: both see the same numbers.

The device is the simulated one, or a GPU with MINIGRAD_TEST_DEVICE=cuda, as `make gpu-report` sets it.
"""

import os

import ml_dtypes
import numpy as np
import pytest

from cudasim import array as sim
from kernels import backend
from minigrad import runtime

reference = backend("reference")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF = np.dtype(np.float16)
DEVICE = os.environ.get("MINIGRAD_TEST_DEVICE", "cuda-sim")
PLACE = runtime.module(DEVICE)  # holds arrays and runs kernels there
#: what the tests need to run kernels there
ON_DEVICE = pytest.mark.compiler if DEVICE == "cuda-sim" else pytest.mark.gpu
ERRORS = {}  # (kernel, dtype) -> the largest error so far; tests/conftest.py notes it beside each test's result
#: for parametrize: every storage type
STORAGE = [
    pytest.param(np.dtype(np.float32), id="float32"),
    pytest.param(np.dtype(np.float64), id="float64"),
    pytest.param(HALF, id="float16"),
    pytest.param(BFLOAT16, id="bfloat16"),
]
#: largest error: some roundings of the accumulating type; of a 16-bit type one rounding of what is stored
LIMITS = {"float32": 2e-6, "float64": 1e-14, "float16": 4.9e-4, "bfloat16": 3.95e-3}


def device(value):
    """The same value with every array on the device."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(device, value))
    return PLACE.asarray(value) if isinstance(value, np.ndarray) else value


def host(value):
    """The inverse of `device`."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(host, value))
    return PLACE.asnumpy(value) if hasattr(value, "get") else value


def wide(value):
    """A copy with every array of floats in float64."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(wide, value))
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(np.float64 if value.dtype.kind in "fV" else value.dtype)


def host_reads():
    """How often the host has waited for a value of the simulated device; a GPU does not count it."""
    return sim.host_reads


def error(actual, expected, kernel=None, dtype=None):
    """The largest difference over the largest magnitude expected; noted in ERRORS if a kernel is named."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    difference = np.abs(actual[finite] - expected[finite]).max(initial=0.0)
    found = difference / (np.abs(expected[finite]).max(initial=0.0) or 1.0)
    if kernel:
        note(kernel, dtype, found)
    return found


def note(kernel, dtype, found):
    """Keep an error in ERRORS if it is the largest."""
    key = kernel, np.dtype(dtype).name
    ERRORS[key] = max(ERRORS.get(key, 0.0), float(found))


def check(kernel, *args, roundings=1, accum=()):
    """A kernel's outputs on the device against the reference's; returns them on the host.

    roundings: how many times a 16-bit output was rounded. accum: which outputs have the dtype of sums.
    """
    dtype = next(a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype.kind in "fV" and a.ndim)
    on_device = device(args)
    actual = host(kernel(*on_device))
    expected = getattr(reference, kernel.__name__)(*wide(args))
    actual, expected = (r if isinstance(r, tuple) else (r,) for r in (actual, expected))
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if e is None:
            assert a is None
            continue
        wanted = np.dtype(np.float64 if dtype == np.float64 else np.float32) if i in accum else dtype
        wanted = wanted if np.asarray(e).dtype.kind == "f" else np.asarray(e).dtype
        assert a.dtype == wanted, f"output {i} is {a.dtype}, expected {wanted}"
        limit = LIMITS[wanted.name] * (roundings if wanted.itemsize == 2 else 1) if wanted.kind in "fV" else 0
        found = error(a, e, kernel.__name__, dtype)
        assert found <= limit, f"{kernel.__name__}, output {i} in {dtype}: error {found:.2g} > {limit:.2g}"
    for before, after in zip(args, host(on_device), strict=True):
        if isinstance(before, np.ndarray):
            assert before.tobytes() == after.tobytes(), "an input was modified"
    return actual


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def misaligned(x):
    """x on the device, one element past where its memory begins."""
    flat = np.concatenate([np.zeros(1, x.dtype), x.reshape(-1)])
    return PLACE.asarray(flat)[1:].reshape(x.shape)
