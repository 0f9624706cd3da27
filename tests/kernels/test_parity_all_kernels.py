"""Every kernel on every backend gives the reference's numbers, of the arguments in its spec; specs are complete.

What is awkward in one kernel (sizes, layouts, limits) is tested in the files named after ops.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from parity import IN_PLACE, assert_same_bits, check, check_in_place

import kernels
from kernels import spec

sys.path.insert(0, str(Path(__file__).parent / "cuda"))  # for cuda_parity

import cuda_parity

KERNELS = pytest.mark.parametrize("name", spec.kernels())
#: one row and one of everything; a few; past vectors, tiles and chunks
SIZES = (
    spec.Sizes(B=1, T=1, C=2, H=1, V=1, P=3),
    spec.Sizes(B=3, T=17, C=33, H=3, V=13, P=127, p=0.5),
    spec.RAGGED,
)


@KERNELS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cpu(name, dtype):
    for sizes in SIZES:
        arguments = spec.kernels()[name].arguments(sizes, np.random.default_rng(1), np.dtype(dtype))
        (check_in_place if name in IN_PLACE else check)(name, *arguments)


@KERNELS
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_settings_of_numpys_float64_neither_fail_nor_widen(name, backend):
    """As in scale=1 / np.sqrt(D)."""
    kernel, results = getattr(kernels.backend(backend), name), []
    for convert in (float, np.float64):
        arguments = spec.kernels()[name].arguments(SIZES[1], np.random.default_rng(1), np.dtype(np.float32))
        arguments = [convert(a) if isinstance(a, float) else a for a in arguments]
        results.append((kernel(*arguments), arguments if name in IN_PLACE else ()))
    assert_same_bits(results[0], results[1])


@cuda_parity.ON_DEVICE
@KERNELS
@pytest.mark.parametrize("dtype", cuda_parity.STORAGE)
def test_cuda(name, dtype):
    """Of 16-bit arrays the bound is wide: sums of rounded numbers, which may cancel. Tight ones are in cuda/."""
    for sizes in SIZES:
        arguments = spec.kernels()[name].arguments(sizes, np.random.default_rng(2), dtype)
        on_device = cuda_parity.device(arguments)
        result = getattr(kernels.backend("cuda"), name)(*on_device)
        plain = cuda_parity.wide(arguments)
        expected = getattr(kernels.backend("reference"), name)(*plain)
        pairs = [(result, expected), *zip(on_device, plain, strict=True)] if name in IN_PLACE else [(result, expected)]
        for a, e in pairs:
            compare(cuda_parity.host(a), e, name, dtype)


def compare(actual, expected, name, dtype):
    if isinstance(expected, list | tuple):
        for a, e in zip(actual, expected, strict=True):
            compare(a, e, name, dtype)
    elif expected is not None and not isinstance(expected, str | type | np.dtype):
        limit = {"float32": 1e-5, "float64": 1e-13}.get(dtype.name, 8 * cuda_parity.LIMITS[dtype.name])
        limit = 5e-4 if name == "cast" and dtype.itemsize > 2 else limit  # to float16
        assert cuda_parity.error(actual, expected, name, dtype) <= limit


@pytest.mark.parametrize("op", kernels.OPS)
def test_a_spec_is_complete(op):
    """Each kernel has a seeded bug, and each file of CUDA kernels that is listed exists."""
    said, home = spec.specs()[op], Path(kernels.__file__).parent / op
    assert {bug.kernel for bug in said.BUGS if not bug.kernel.startswith("_")} >= {k.name for k in said.KERNELS}
    assert set(said.SOURCES) <= {path.name for path in home.glob("*.cu")}
