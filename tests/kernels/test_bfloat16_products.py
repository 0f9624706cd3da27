"""Products of operands rounded to bfloat16 equal the exact products of the rounded operands, summed in float32."""

import ml_dtypes
import numpy as np
import pytest
from parity import run_without_amx

from kernels import backend, matmul_precision
from kernels.cpu.matmul import multiply
from kernels.linear import cpu as linear

reference = backend("reference")

pytestmark = pytest.mark.bfloat16

# M, K, N: whole blocks, ragged ones, less than a block, several stretches of each
SHAPES = [
    (64, 64, 64),
    (33, 31, 65),
    (1, 1, 1),
    (5, 2, 127),
    (129, 1031, 31),
    (2100, 1031, 2100),
    (2100, 1031, 33),
    (17, 1031, 2100),
]


def operands(form, M, K, N):
    """a (M, K) and b (K, N) as `linear` multiplies them: forward, dx, dweight."""
    rng = np.random.default_rng(M + K + N)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((M, K), (K, N)))
    a = np.ascontiguousarray(a.T).T if form == "dweight" else a
    return a, np.ascontiguousarray(b.T).T if form == "forward" else b


def rounded(x):
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


def worst(out, a, b, before=0.0):
    """The largest error beside what a float32 sum of these products may have."""
    size = np.abs(rounded(a)) @ np.abs(rounded(b)) + np.abs(before)
    return (np.abs(out - (rounded(a) @ rounded(b) + before)) / size).max()


@pytest.fixture
def bfloat16_operands():
    matmul_precision.select("bfloat16")
    yield
    matmul_precision.select("float32")


@pytest.mark.parametrize("form", ["forward", "dx", "dweight"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_product_of_the_rounded_operands(shape, form, bfloat16_operands):
    a, b = operands(form, *shape)
    bias = np.linspace(-1, 1, shape[2], dtype=np.float32)
    out = multiply(a, b, np.full((shape[0], shape[2]), np.nan, np.float32), bias)
    assert worst(out, a, b, bias) < 1e-6
    before = out.copy()
    multiply(a, b, out, add=True)
    assert worst(out, a, b, before.astype(np.float64)) < 1e-6


def test_a_number_that_is_not_finite_reaches_its_row_alone(bfloat16_operands):
    a, b = operands("dx", 40, 40, 40)
    a[3, 5], a[7, 9] = np.nan, np.inf
    out = multiply(a, b, np.empty((40, 40), np.float32))
    assert np.isnan(out[3]).all() and np.isinf(out[7]).all()
    assert np.isfinite(np.delete(out, (3, 7), axis=0)).all()


def test_one_thread_gives_the_same_bits(bfloat16_operands):
    from numba import get_num_threads, set_num_threads

    a, b = operands("forward", 300, 700, 500)
    before, outs = get_num_threads(), []
    for threads in (before, 1):
        set_num_threads(threads)
        outs.append(multiply(a, b, np.empty((300, 500), np.float32)))
    set_num_threads(before)
    assert np.array_equal(*outs)


@pytest.mark.parametrize("kernels", [linear, reference], ids=["compiled", "plain"])
def test_linear_uses_it_when_told_to_and_float64_never_does(kernels, bfloat16_operands):
    x, weight = operands("dx", 8, 33, 9)
    inputs, bias = np.ascontiguousarray(weight[:8]), np.zeros(33, np.float32)
    assert worst(kernels.linear_forward(x, weight.T, None), x, weight) < 1e-6
    dx, dweight, _ = kernels.linear_backward(x, inputs, weight, None)
    assert worst(dx, x, weight) < 1e-6 and worst(dweight, x.T, inputs) < 1e-6
    dx, dweight, dbias = kernels.linear_backward(x, None, weight, bias)
    assert worst(dx, x, weight) < 1e-6 and dweight is None
    np.testing.assert_allclose(dbias, x.sum(axis=0), rtol=1e-5)

    x, weight, inputs = (array.astype(np.float64) for array in (x, weight, inputs))
    np.testing.assert_allclose(kernels.linear_forward(x, weight.T, None), x @ weight, rtol=1e-12)
    dx, dweight, _ = kernels.linear_backward(x, inputs, weight, None)
    np.testing.assert_allclose(dx, x @ weight, rtol=1e-12)
    np.testing.assert_allclose(dweight, x.T @ inputs, rtol=1e-12)


def test_the_plain_rounding_is_that_of_the_format(bfloat16_operands):
    x = np.array(
        [1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8 + 2**-20), 3e-45, 3.4e38, np.inf, -np.inf, np.nan], np.float32
    )
    np.testing.assert_array_equal(matmul_precision.rounded(x), x.astype(ml_dtypes.bfloat16).astype(np.float32))
    every = np.frombuffer(np.random.default_rng(0).bytes(1 << 16), np.float32)
    with np.errstate(invalid="ignore"):  # some are NaN
        expected = every.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(matmul_precision.rounded(every), expected)


@pytest.mark.amx
def test_the_other_instruction_gives_the_same(tmp_path):
    """Without AMX pairs are multiplied in vector registers: compiled anew in a process of its own."""
    code = (
        "from test_bfloat16_products import SHAPES, operands, worst\n"
        "import numpy as np; from kernels import matmul_precision\n"
        "from kernels.cpu import gemm_bfloat16; from kernels.cpu.matmul import multiply\n"
        "matmul_precision.select('bfloat16')\n"
        "for shape in SHAPES:\n"
        "    for form in ('forward', 'dx', 'dweight'):\n"
        "        a, b = operands(form, *shape)\n"
        "        out = multiply(a, b, np.empty((shape[0], shape[2]), np.float32))\n"
        "        assert worst(out, a, b) < 1e-6, (shape, form)\n"
        "compiled = gemm_bfloat16._multiply_panels\n"
    )
    run_without_amx(code, tmp_path)
