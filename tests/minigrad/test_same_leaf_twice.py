"""One leaf as several inputs of an operation gets the sum of all their gradients, wherever an optimizer keeps it."""

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import ops, optim, runtime
from minigrad.nn import Parameter
from minigrad.opcases import CASES

TARGETS = np.array([1, 3, -100, 0])
CHOICE = np.arange(16).reshape(4, 4) % 3 == 0

#: op -> (shape, how many of its inputs one leaf can be, call(*leaves)); the values are probabilities, for the
#: sake of pow and binary_cross_entropy
CALLS = {
    "add": ((4, 4), 2, ops.add),
    "sub": ((4, 4), 2, ops.sub),
    "mul": ((4, 4), 2, ops.mul),
    "div": ((4, 4), 2, ops.div),
    "pow": ((4, 4), 2, ops.pow),
    "maximum": ((4, 4), 2, ops.maximum),
    "minimum": ((4, 4), 2, ops.minimum),
    "where": ((4, 4), 2, lambda a, b: ops.where(CHOICE, a, b)),
    "matmul": ((4, 4), 2, ops.matmul),
    "concatenate": ((4, 4), 2, lambda a, b: ops.concatenate([a, b])),
    "einsum": ((4, 4), 2, lambda a, b: ops.einsum("ij,jk->ik", a, b)),
    "stack": ((4, 4), 2, lambda a, b: ops.stack([a, b])),
    "linear": ((4, 4), 2, ops.linear),
    "linear, with a bias": ((4, 4), 2, lambda x, w: ops.linear(x, w, mg.tensor([1.0, 2.0, 3.0, 4.0]))),
    "layernorm": ((4,), 3, ops.layernorm),
    "flash_attention": ((1, 2, 4, 3), 3, ops.flash_attention),
    "linear_cross_entropy": ((4, 4), 2, lambda x, w: ops.linear_cross_entropy(x, w, TARGETS)),
}  # fmt: skip


def accepts(op, shape, n):
    """Whether the operation takes one leaf of this shape as its first n inputs."""
    try:
        getattr(ops, op)(*[Parameter(np.ones(shape, np.float32))] * n)
    except (TypeError, ValueError):
        return False
    return True


#: op -> how many inputs with gradients it has, where there are several
SEVERAL = {case.op: n for case in CASES if (n := sum(a.dtype.kind == "f" for a in case.arrays())) > 1}
for op in sorted(SEVERAL.keys() - {name.split(",")[0] for name in CALLS}):
    shape = next(shape for shape in ((4, 4), (4,), (1, 2, 4, 3)) if accepts(op, shape, SEVERAL[op]))
    CALLS[op] = shape, SEVERAL[op], getattr(ops, op)


def gradients(call, leaves, passes=1):
    """The sum of the leaves' gradients, each counted once, for an upstream gradient that is not all ones."""
    for _ in range(passes):
        out = call(*leaves)
        upstream = np.random.default_rng(5).standard_normal(out.shape).astype(out.dtype)
        out.backward(np.asarray(upstream, like=out.data))
    return sum(leaf.grad for leaf in {id(leaf): leaf for leaf in leaves}.values())


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("arena", [False, True], ids=["plain", "arena"])
@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("name", CALLS)
def test_both_gradients_count(name, kernel_set, arena, passes):
    shape, n, call = CALLS[name]
    values = np.random.default_rng(3).uniform(0.2, 0.9, shape).astype(np.float32)
    with kernels.use(kernel_set):
        expected = gradients(call, [Parameter(values.copy()) for _ in range(n)], passes)
        leaf = Parameter(values.copy())
        if arena:
            optim.GradientArena([("other", Parameter(np.ones(7, np.float32))), ("leaf", leaf)]).gather()
            leaf.grad_buffer[...] = np.nan  # whatever was left there
        found = gradients(call, [leaf] * n, passes)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("name", CALLS)
def test_so_it_is_with_the_output_of_another_operation(name, kernel_set):
    """Which is used a third time, past the operation: backward functions may add to that gradient."""
    shape, n, call = CALLS[name]
    values = np.random.default_rng(3).uniform(0.2, 0.9, shape).astype(np.float32)

    def past(*inputs):
        return call(*inputs).sum() + (inputs[0] * inputs[0]).sum()

    with kernels.use(kernel_set):
        expected = gradients(past, [Parameter(values.copy()) for _ in range(n)])
        found = gradients(lambda leaf: past(*[leaf * 1.0] * n), [Parameter(values.copy())])
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.compiler
def test_on_a_device():
    runtime.require("cuda-sim")
    values = np.random.default_rng(3).uniform(0.2, 0.9, (4, 4)).astype(np.float32)
    placed = runtime.asarray("cuda-sim")
    for name in ("linear", "linear_cross_entropy"):
        call = CALLS[name][2]
        expected = gradients(call, [Parameter(placed(values)) for _ in range(2)])
        leaf = Parameter(placed(values))
        optim.GradientArena([("leaf", leaf)]).gather()
        np.testing.assert_allclose(gradients(call, [leaf, leaf]).get(), expected.get(), rtol=2e-5, atol=2e-6)


def test_every_operation_of_several_inputs_is_here():
    assert SEVERAL.keys() == {name.split(",")[0] for name in CALLS}
