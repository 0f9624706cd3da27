"""Every row-wise fast kernel gives the reference's numbers, in float32 and float64, at every awkward size.

Sizes are 1, primes, and just past a vector (31, 33), a block or a chunk. Cross-entropy and attention have
files of their own.
"""

import numpy as np
import pytest
from parity import assert_close, check, normal, strided, widened

from kernels import backend

cpu, reference = backend("cpu"), backend("reference")

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LAYOUTS = pytest.mark.parametrize("layout", ["plain", "transposed", "sliced"])
WIDTHS = (1, 5, 16, 31, 33, 64, 80, 127, 128, 129)
ROWS = (1, 2, 15, 17, 127, 1025)  # 1025: the first count past 64 chunks of 16 rows


@DTYPES
@LAYOUTS
def test_linear(dtype, layout):
    rng = np.random.default_rng(1)
    for rows, K, C in [(1, 1, 1), (31, 5, 33), (127, 129, 16), (1025, 80, 7), (2, 128, 131)]:
        x, weight, bias = (normal(rng, dtype, *s) for s in ((rows, K), (C, K), (C,)))
        dout = strided(normal(rng, dtype, rows, C), layout)
        x, weight = strided(x, layout), strided(weight, layout)
        check("linear_forward", x, weight, bias)
        check("linear_forward", x, weight, None)
        check("linear_backward", dout, x, weight, bias)


@DTYPES
def test_linear_of_more_than_is_packed_at_a_time(dtype):
    """Sums in chunks that are not alike and in several stretches; more columns and, for dweight, rows than fit.

    Of small whole numbers, so that float32 sums are exact however many there are.
    """
    rng = np.random.default_rng(2)
    for rows, K, C in [(40, 500, 20), (1100, 2100, 1100)]:
        shapes = (rows, K), (C, K), (C,), (rows, C)
        x, weight, bias, dout = (rng.integers(-3, 4, shape).astype(dtype) for shape in shapes)
        check("linear_forward", x, weight, bias)
        check("linear_backward", dout, x, weight, bias)


def test_linear_of_no_rows():
    rng = np.random.default_rng(0)
    x, weight, bias, dout = (rng.standard_normal(shape) for shape in [(0, 7), (11, 7), (11,), (0, 11)])
    assert check("linear_forward", x, weight, bias)[0].shape == (0, 11)
    _, dweight, dbias = check("linear_backward", dout, x, weight, bias)
    assert not dweight.any() and not dbias.any()


def test_linear_of_arrays_that_must_not_be_written_to():
    """As broadcasting makes them."""
    rng = np.random.default_rng(0)
    x, weight, bias, dout = (rng.standard_normal(shape) for shape in [(6, 7), (11, 7), (11,), (6, 11)])
    bias.flags.writeable = dout.flags.writeable = False
    check("linear_forward", x, weight, bias)
    check("linear_backward", dout, x, weight, bias)
    check("linear_backward", dout, None, weight, bias)


def test_linear_of_a_batch_and_without_the_gradients_nobody_wants():
    rng = np.random.default_rng(2)
    x, weight, bias = (normal(rng, np.float32, *s) for s in ((2, 3, 5, 7), (11, 7), (11,)))
    dout = normal(rng, np.float32, 2, 3, 5, 11)
    assert check("linear_forward", x, weight, bias)[0].shape == (2, 3, 5, 11)
    for wanted in [(x, weight, bias), (None, weight, bias), (x, None, bias), (x, weight, None), (None, None, None)]:
        check("linear_backward", dout, *wanted)


@DTYPES
@LAYOUTS
def test_layernorm(dtype, layout):
    rng = np.random.default_rng(3)
    for rows, C in [(r, 33) for r in ROWS] + [(17, c) for c in WIDTHS]:
        x, dout, dresidual = (strided(normal(rng, dtype, rows, C), layout) for _ in range(3))
        weight, bias = normal(rng, dtype, C), normal(rng, dtype, C)
        check("layernorm_forward", x, weight, bias, 1e-5)
        check("layernorm_forward", x, weight, None, 1e-5)
        _, mean, rstd = reference.layernorm_forward(*widened((x, weight, bias)), 1e-5)
        # of one number nothing is left after the mean is gone: dx is 0, its error is that of what cancelled
        scale = (float(rstd.max()), 0.0, 0.0) if C == 1 else 0.0
        saved = x, weight, mean.astype(dtype), rstd.astype(dtype)
        check("layernorm_backward", dout, *saved, scale=scale)
        check("layernorm_backward", dout, *saved, dresidual, scale=scale)


@DTYPES
def test_layernorm_of_a_batch(dtype):
    rng = np.random.default_rng(4)
    x, weight, bias = (normal(rng, dtype, *s) for s in ((2, 3, 5, 16), (16,), (16,)))
    _, mean, rstd = check("layernorm_forward", x, weight, bias, 1e-5)
    assert mean.shape == rstd.shape == (2, 3, 5)
    dout, dresidual = (normal(rng, dtype, 2, 3, 5, 16) for _ in range(2))
    check("layernorm_backward", dout, x, weight, mean, rstd, dresidual)


def test_layernorm_of_no_rows():
    x, weight = np.zeros((0, 7)), np.ones(7)
    out, mean, rstd = check("layernorm_forward", x, weight, weight, 1e-5)
    assert out.shape == (0, 7)
    check("layernorm_backward", x, x, weight, mean, rstd, x)


@DTYPES
def test_layernorm_loses_no_variance_beside_a_large_mean(dtype):
    """E[x^2] - E[x]^2 would: of values 4096 +- 1 float32 would keep no digit of the variance."""
    rng = np.random.default_rng(5)
    x = (4096 + rng.integers(-4, 5, (17, 64)) / 4).astype(dtype)  # exact in float32, and so are their sums
    check("layernorm_forward", x, normal(rng, dtype, 64), normal(rng, dtype, 64), 1e-5)


@DTYPES
@LAYOUTS
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu(dtype, layout, approximate):
    rng = np.random.default_rng(6)
    for shape in [(1, 1), (1, 31), (3, 43), (2, 3, 5, 7), (1, 8191), (3, 2731), (2, 8193)]:
        x, dout = (strided(3 * normal(rng, dtype, *shape), layout) for _ in range(2))
        check("gelu_forward", x, approximate)
        check("gelu_backward", dout, x, approximate)


@DTYPES
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu_far_out(dtype, approximate):
    """Far left it is 0 and far right it is x, without overflow on the way; near 0 every digit counts."""
    far = np.array([-1e4, -100, -50, -20, 20, 50, 100, 1e4], dtype)
    near = np.linspace(-1e-3, 1e-3, 7, dtype=dtype)
    tail = np.linspace(-6, -4, 21, dtype=dtype)
    for x in (far, near, tail) if approximate == "none" else (far, near):  # tanh has no digits in the tail
        check("gelu_forward", x, approximate)
        check("gelu_backward", np.ones_like(x), x, approximate)
    out = cpu.gelu_forward(far, approximate)
    assert (out[:3] == 0).all() and (out[-3:] == far[-3:]).all()
    right = np.geomspace(9, np.finfo(dtype).max / 2, 1000, dtype=dtype)
    np.testing.assert_array_equal(cpu.gelu_forward(right, approximate), right)


@DTYPES
@LAYOUTS
def test_embedding(dtype, layout):
    rng = np.random.default_rng(7)
    for n, V, C in [(1, 1, 1), (31, 5, 63), (129, 13, 64), (127, 1009, 65), (7, 3, 129)]:
        weight, dout = (strided(normal(rng, dtype, *s), layout) for s in ((V, C), (n, C)))
        ids = rng.integers(0, V, n)
        check("embedding_forward", weight, ids)
        check("embedding_backward", dout, ids, V)
    ids = rng.integers(0, 5, (2, 3))
    assert check("embedding_forward", normal(rng, dtype, 5, 4), ids)[0].shape == (2, 3, 4)
    check("embedding_backward", normal(rng, dtype, 2, 3, 4), ids, 5)


@pytest.mark.parametrize("backend", [reference, cpu])
def test_embedding_gradients_of_repeated_ids_add_up(backend):
    """np.add.at semantics: `dweight[ids] += dout` would keep one of the three rows for id 1."""
    dout = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    dweight = backend.embedding_backward(dout, np.array([1, 3, 1, 1]), 4)
    assert dweight.tolist() == [[0, 0], [13, 130], [0, 0], [2, 20]]


@pytest.mark.parametrize("backend", [reference, cpu])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_backward_may_write_over_x(backend, approximate):
    dout, x = np.random.default_rng(5).standard_normal((2, 67, 131), np.float32)
    before, expected = x.copy(), backend.gelu_backward(dout, x, approximate)
    assert np.array_equal(x, before)
    assert backend.gelu_backward(dout, x, approximate, True) is x
    assert np.array_equal(x, expected)


@pytest.mark.parametrize("backend", [reference, cpu])
def test_weight_gradients_go_into_the_array_that_is_given(backend):
    """That of linear replaces what is there, that of embedding is added to it; the bits are those without `into`."""
    rng = np.random.default_rng(8)
    x, weight, dout = (normal(rng, np.float32, *shape) for shape in ((31, 5), (7, 5), (31, 7)))
    ids, before = rng.integers(0, 7, 31), normal(rng, np.float32, 7, 5)
    into = before.copy()
    assert backend.linear_backward(dout, x, weight, None, into)[1] is into
    assert np.array_equal(into, backend.linear_backward(dout, x, weight, None)[1])
    into = before.copy()
    assert backend.embedding_backward(x, ids, 7, into) is into
    assert np.array_equal(into, before + backend.embedding_backward(x, ids, 7))


@DTYPES
@LAYOUTS
def test_dropout_keeps_the_same_elements_on_both_backends(dtype, layout):
    rng = np.random.default_rng(8)
    for shape in [(1, 1), (1, 31), (3, 43), (5, 7, 11), (1, 8191), (1, 8193), (3, 8193)]:
        x = strided(normal(rng, dtype, *shape), layout)
        for p in (0.0, 2.0**-32, 0.3, 0.9, 1.0 - 2.0**-32, 1.0 - 2.0**-40):
            (out,) = check("dropout_forward", x, p, 5, 7, 11)
            np.testing.assert_array_equal(out == 0, reference.dropout_forward(x, p, 5, 7, 11) == 0)
            check("dropout_backward", x, p, 5, 7, 11)


@pytest.mark.parametrize("backend", [reference, cpu])
def test_dropout_drops_a_share_of_p_and_keeps_the_mean(backend):
    out = backend.dropout_forward(np.ones(100_000, np.float32), 0.3, 1, 2, 3)
    assert abs((out == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 100_000)
    assert np.unique(out).tolist() == [0.0, np.float32(1 / 0.7)]


@pytest.mark.parametrize("backend", [reference, cpu])
@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(backend, p):
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(ValueError, match="dropout probability"):
        backend.dropout_forward(x, p, 1, 2, 3)
    with pytest.raises(ValueError, match="dropout probability"):
        backend.attention_forward(x, x, x, 0.5, True, p, 1, 2, 3)


@DTYPES
@pytest.mark.parametrize("n", [1, 31, 33, 127, 16383, 16385, 40009])
def test_adamw(dtype, n):
    """Rates so large that a wrong update shows beside the parameter; gradients near eps so that eps counts."""
    rng = np.random.default_rng(9)
    param, grad, m = (normal(rng, dtype, n) for _ in range(3))
    grad[::3] *= 1e-3
    m[::3] *= 1e-3
    v = (grad * grad + 1e-6).astype(dtype)
    for step in (1, 2, 1000):
        state = [a.copy() for a in (param, grad, m, v)]
        wide = widened(state)
        setting = (step, 0.2, 0.9, 0.95, 1e-2, 0.1, 0.7)
        assert cpu.adamw_step(*state, *setting) is None
        reference.adamw_step(*wide, *setting)
        for actual, expected in zip(state, wide, strict=True):
            assert_close("adamw_step", actual, expected, np.dtype(dtype))
        assert state[1].tobytes() == grad.tobytes()  # the gradient is only read


@DTYPES
def test_global_norm(dtype):
    rng = np.random.default_rng(10)
    for sizes in [(1,), (31, 127), (16383, 16385, 1), (40009,)]:
        check("global_norm", [normal(rng, dtype, n) for n in sizes])
    matrix = normal(rng, dtype, 33, 65)
    check("global_norm", [matrix, strided(matrix, "transposed"), strided(matrix, "sliced")])
    assert cpu.global_norm([]) == reference.global_norm([]) == 0.0
    assert type(cpu.global_norm([matrix])) is float


def test_global_norm_of_float32_is_summed_in_float64():
    """Squares of 1e25 overflow float32."""
    assert cpu.global_norm([np.full(4, 1e25, np.float32)]) == pytest.approx(2e25, rel=1e-6)
