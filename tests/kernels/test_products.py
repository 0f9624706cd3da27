"""Products: the bits are the same whether an operand is packed or read in place, and for any number of rows."""

import numpy as np
import pytest
from parity import assert_same_bits

from kernels import backend, matmul_precision
from kernels.arrays import empty
from kernels.cpu import gemm, micro_kernel_bfloat16
from kernels.cpu.matmul import multiply, operand
from kernels.cpu.micro_kernel import NR_VECTORS
from kernels.cpu.vector_copies import lanes

cpu = backend("cpu")

# rows of a, length of the sums, panels of b: less than a chunk, two, several, several blocks
SHAPES = [(1, 1, 1), (14, 256, 2), (30, 700, 4), (513, 2100, 5), (100, 2100, 16)]


def lying(x, off):
    """x in memory, `off` numbers behind the beginning of a cache line."""
    memory = empty((x.size + off,), x.dtype)[off:]
    memory[:] = x.reshape(-1)
    return memory.reshape(x.shape)


def columns(dtype):
    return NR_VECTORS * lanes(dtype)


def reads_in_place(b, M):
    return gemm._reads_in_place(operand(b), M, columns(b.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed, add", [(False, False), (True, False), (True, True)])
def test_an_operand_read_in_place_gives_the_bits_of_a_packed_one(shape, transposed, add, dtype):
    rng = np.random.default_rng(0)
    M, K, N = shape[0], shape[1], shape[2] * columns(np.dtype(dtype))
    a = rng.standard_normal((K, M) if transposed else (M, K)).astype(dtype)
    a = a.T if transposed else a
    b, start, bias = (rng.standard_normal(n).astype(dtype) for n in ((K, N), (M, N), (N,)))
    ready, packed = lying(b, 0), lying(b, 1)
    assert reads_in_place(ready, M) and not reads_in_place(packed, M)

    results = [multiply(a, x, start.copy(), None if add else bias, add) for x in (ready, packed)]

    assert_same_bits(*results)
    exact = a.astype(np.float64) @ b.astype(np.float64) + (start if add else bias)
    assert np.abs(results[0] - exact).max() < 8 * K * np.finfo(dtype).eps


def test_what_is_read_in_place_has_short_rows_of_complete_panels():
    width = columns(np.dtype(np.float32))
    assert reads_in_place(empty((3, width), np.float32), 14)
    assert not reads_in_place(empty((3, width + width // 2), np.float32), 14)  # it would be read past the end
    assert not reads_in_place(empty((width, width), np.float32).T, 14)
    assert not reads_in_place(empty((3, gemm.IN_PLACE_ROW_BYTES), np.float32), 14)
    assert not reads_in_place(empty((3, width), np.float32), gemm.IN_PLACE_M + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_same_bits_however_many_rows_there_are(dtype):
    """The last rows go through smaller micro-kernels."""
    rng = np.random.default_rng(0)
    K, N = gemm.KC + 5, columns(np.dtype(dtype)) + 1
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((3 * gemm.MR, K), (N, K)))
    of_all = multiply(a, b.T, empty((len(a), N), dtype))
    for rows in range(1, len(a)):
        assert_same_bits(multiply(a[:rows], b.T, empty((rows, N), dtype)), of_all[:rows])


@pytest.mark.parametrize("rounding", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])
@pytest.mark.parametrize("M, K, N", [(3, 0, 5), (0, 4, 5), (3, 4, 0), (0, 0, 0)])
def test_a_sum_of_nothing_is_nothing(M, K, N, rounding, monkeypatch):
    monkeypatch.setattr(matmul_precision, "dtype", rounding)
    a, b, start = np.ones((M, K), np.float32), np.ones((N, K), np.float32).T, np.ones((M, N), np.float32)
    bias = np.arange(N, dtype=np.float32)
    expected = np.full((M, N), K, np.float32)
    np.testing.assert_array_equal(multiply(a, b, np.full_like(start, np.nan)), expected)
    np.testing.assert_array_equal(multiply(a, b, np.full_like(start, np.nan), bias), expected + bias)
    np.testing.assert_array_equal(multiply(a, b, start.copy(), add=True), expected + 1)
    np.testing.assert_array_equal(multiply(a, b, start.copy(), bias, add=True), expected + 1)  # then without the bias


def test_bfloat16_products_are_refused_where_the_processor_has_none(monkeypatch):
    """The compiler would end the process."""
    monkeypatch.setattr(micro_kernel_bfloat16, "HAS_BFLOAT16", False)
    monkeypatch.setattr(matmul_precision, "dtype", "bfloat16")
    x = np.ones((2, 1, 4, 8), np.float32)
    attention = {"scale": 1.0, "causal": True, "p": 0.0, "seed": 0, "step": 0, "stream": 0}
    for call in (
        lambda: cpu.linear_forward(x, np.ones((3, 8), np.float32), None),
        lambda: cpu.linear_backward(x, x, np.ones((8, 8), np.float32), None),
        lambda: cpu.attention_forward(x, x, x, **attention),
        lambda: cpu.attention_backward(x, x, x, x, x, np.ones((2, 1, 4), np.float32), **attention),
        lambda: cpu.linear_cross_entropy_forward(x, np.ones((3, 8), np.float32), np.zeros((2, 1, 4), np.int64), -100,
                                                 "sum", 1.0, True),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="no instruction for bfloat16"):
            call()
