"""Every operation: its gradient is the numerical gradient on both kernel sets, dtypes stay, inputs are not touched."""

import numpy as np
import pytest
from op_table import ROWS, Row

import kernels
import minigrad as mg
from minigrad import ops
from minigrad._tensor import Tensor

# the largest error over all rows is 8e-11 with this step; what is left is rounding
RTOL, STEP = 1e-9, 3e-4

CASES = [
    pytest.param(row, kernel_set, id=f"{row.name}-{kernel_set}" if row.has_kernels else row.name)
    for row in ROWS
    for kernel_set in (kernels.SETS if row.has_kernels else ("fast",))
]
DTYPE_CASES = [case for case in CASES if case.values[0].op != "astype"]  # whose dtype is an argument


def tensors(arrays):
    return [mg.tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in arrays]


def run(row, arrays):
    """Forward and backward with random upstream gradients -> outputs, upstream gradients, gradients of the inputs."""
    inputs = tensors(arrays)
    out = row.fn(mg, *inputs)
    outs = list(out) if isinstance(out, (list, tuple)) else [out]
    rng = np.random.default_rng(1)
    upstream = [rng.standard_normal(o.shape).astype(o.dtype) for o in outs]
    before = [u.copy() for u in upstream]
    for o, u in zip(outs, upstream, strict=True):
        o.backward(u, retain_graph=len(outs) > 1)
    for u, copy in zip(upstream, before, strict=True):
        np.testing.assert_array_equal(u, copy, "backward modified dout", strict=True)
    return outs, [t.grad for t in inputs if isinstance(t, Tensor)]


def test_every_public_operation_has_a_row():
    assert {row.op for row in ROWS} == set(ops.__all__)


def test_names_of_rows_are_unique():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("op", ["amax", "sum"])
def test_the_row_of_an_op_calls_that_op(op):
    row = next(row for row in ROWS if row.op == op)
    assert row.fn(mg, *tensors(row.arrays())).node.backward.__name__ == f"{op}_backward"


@pytest.mark.parametrize("row,kernel_set", CASES)
def test_gradient_is_the_numerical_gradient(row: Row, kernel_set):
    # every coordinate; the fast kernels, which wake threads at each call, along random directions beyond 24 of them
    most = 24 if row.has_kernels and kernel_set == "fast" else 200
    with kernels.use(kernel_set):
        mg.gradcheck(lambda *inputs: row.fn(mg, *inputs), row.arrays(), rtol=RTOL, step=STEP, max_coordinates=most)


@pytest.mark.parametrize("row,kernel_set", CASES)
def test_forward_and_backward_leave_their_inputs_alone(row: Row, kernel_set):
    arrays = row.arrays()
    copies = [a.copy() for a in arrays]
    with kernels.use(kernel_set):
        run(row, arrays)  # checks dout itself
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row,kernel_set", DTYPE_CASES)
def test_dtype_in_is_dtype_out_and_dtype_of_the_gradients(row: Row, kernel_set, dtype):
    with kernels.use(kernel_set):
        outs, grads = run(row, row.arrays(dtype))
    assert {o.dtype for o in outs} == {np.dtype(dtype)}
    assert all(type(o.data) is np.ndarray for o in outs)
    assert all(type(g) is np.ndarray and g.dtype == dtype for g in grads)


@pytest.mark.parametrize("row,kernel_set", DTYPE_CASES)
def test_float32_agrees_with_float64(row: Row, kernel_set):
    with kernels.use(kernel_set):
        outs32, grads32 = run(row, row.arrays(np.float32))
        outs64, grads64 = run(row, [a.astype(np.float64) if a.dtype.kind == "f" else a for a in row.arrays(np.float32)])
    for narrow, wide in zip([*(o.data for o in outs32), *grads32], [*(o.data for o in outs64), *grads64], strict=True):
        # upstream differs in its rounding only; sums here have at most a few hundred terms
        np.testing.assert_allclose(narrow, wide, rtol=0, atol=1e-5 * max(1.0, np.abs(wide).max(initial=0.0)))


SCALARS = {
    "python-float": 2.0, "python-int": 2, "float64-scalar": np.float64(2), "float64-0d": np.array(2.0),
    "int64-scalar": np.int64(2), "int64-0d": np.array(2), "float32-scalar": np.float32(2),
}  # fmt: skip
BINARY = {
    "x+s": lambda x, s: x + s, "s+x": lambda x, s: s + x, "x-s": lambda x, s: x - s, "s-x": lambda x, s: s - x,
    "x*s": lambda x, s: x * s, "s*x": lambda x, s: s * x, "x/s": lambda x, s: x / s, "s/x": lambda x, s: s / x,
    "x**s": lambda x, s: x**s, "s**x": lambda x, s: s**x, "maximum": mg.maximum,
    "where": lambda x, s: mg.where([True], s, x),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", SCALARS.values(), ids=SCALARS)
@pytest.mark.parametrize("fn", BINARY.values(), ids=BINARY)
@pytest.mark.parametrize("shape", [(3,), (1,), ()])
def test_a_scalar_never_changes_the_dtype(fn, scalar, dtype, shape):
    x = mg.tensor(np.full(shape, 3.0, dtype), requires_grad=True)
    out = fn(x, scalar)
    out.sum().backward()
    assert out.dtype == dtype
    assert x.grad.dtype == dtype
    assert type(x.grad) is np.ndarray


def test_integers_beside_a_fraction_become_floats():
    counts = mg.tensor(np.array([1, 2, 3]))
    np.testing.assert_array_equal((counts * 0.5).data, [0.5, 1.0, 1.5])
    assert (counts * 2).dtype == np.int64


@pytest.mark.parametrize("join", [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: mg.stack([a, b]),
                                  lambda a, b: mg.concatenate([a, b]), mg.maximum, lambda a, b: mg.where([True], a, b)],
                         ids=["add", "mul", "stack", "concatenate", "maximum", "where"])  # fmt: skip
def test_two_widths_promote_and_each_gets_its_own_back(join):
    narrow = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    wide = mg.tensor(np.full(2, 2.0), requires_grad=True)
    out = join(narrow, wide)
    out.sum().backward()
    assert (out.dtype, narrow.grad.dtype, wide.grad.dtype) == (np.float64, np.float32, np.float64)


def test_astype_converts_the_gradient_back():
    x = mg.tensor(np.ones(3, np.float32), requires_grad=True)
    y = x.astype(np.float64)
    (y * y).sum().backward()
    assert (y.dtype, x.grad.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(x.grad, [2, 2, 2])
    assert x.astype(np.float32) is x


TIES = {
    "maximum": (mg.maximum, 0.5), "minimum": (mg.minimum, 0.5), "max": (lambda a, b: mg.stack([a, b]).max(), 0.25),
    "min": (lambda a, b: mg.stack([a, b]).min(), 0.25),
}  # fmt: skip


@pytest.mark.parametrize("fn,share", TIES.values(), ids=TIES)
def test_ties_share_the_gradient(fn, share):
    a, b = (mg.tensor(np.ones(2), requires_grad=True) for _ in range(2))
    fn(a, b).sum().backward()
    np.testing.assert_array_equal([a.grad, b.grad], share)


def test_gradients_at_the_kinks_are_finite():
    zero = mg.tensor(np.zeros(3), requires_grad=True)
    (zero.relu() + mg.abs(zero) + zero**0 + zero**2 + zero**1 + zero.clip(-1.0, 1.0)).sum().backward()
    np.testing.assert_array_equal(zero.grad, 0 + 0 + 0 + 0 + 1 + 1)
    base, exponent = mg.tensor(np.zeros(2), requires_grad=True), mg.tensor(np.full(2, 2.0), requires_grad=True)
    (base**exponent).sum().backward()
    np.testing.assert_array_equal([base.grad, exponent.grad], 0.0)


@pytest.mark.parametrize(
    "fn",
    [mg.sigmoid, mg.silu, mg.tanh, lambda x: mg.softmax(x, dim=0), lambda x: mg.log_softmax(x, dim=0), mg.gelu],
)
def test_large_values_overflow_nowhere(fn):
    x = mg.tensor(np.array([-1000.0, 0.0, 1000.0], np.float32), requires_grad=True)
    out = fn(x)  # a RuntimeWarning of NumPy would fail the test
    out.backward(np.ones(3))
    assert np.isfinite(out.data).all()
    assert np.isfinite(x.grad).all()
