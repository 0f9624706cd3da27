"""Check mode: the call of every operation is recorded, and repeated it gives the same bits from the same inputs."""

import numpy as np
import pytest
from op_table import ROWS, Row

import kernels
import minigrad as mg
from minigrad.debug.recorded_calls import check_mode


def repeated(out):
    """Assert that the call which made `out` gives it again."""
    call = out.node.call
    assert call is not None, f"{out.node.op} has no recorded call"
    again = call.again(call.tensors())
    again = again if isinstance(again, mg.Tensor) else again[0]
    np.testing.assert_array_equal(again.data, out.data, strict=True)
    assert [(t.shape, t.dtype) for t in call.tensors() if t.requires_grad] == [
        (parent.shape, parent.dtype) for parent in out.node.parents if parent is not None
    ]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_every_operation_can_be_repeated(row: Row):
    inputs = [mg.tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in row.arrays()]
    with kernels.use("reference"), check_mode():
        outs = row.fn(mg, *inputs)
        repeated(outs if isinstance(outs, mg.Tensor) else outs[0])


CONVERTED = {
    "sum-dtype": lambda x: x.sum(dim=0, dtype=np.float64), "mean-dtype": lambda x: x.mean(dim=0, dtype=np.float64),
    "cumsum-of-all": lambda x: x.cumsum(), "concatenate-of-all": lambda x: mg.concatenate([x, x], axis=None),
    "concatenate-promoted": lambda x: mg.concatenate([x, np.ones((1, 3))]), "var": lambda x: x.var(unbiased=False),
    "stack-promoted": lambda x: mg.stack([x, np.ones((2, 3))]),
    "einsum-list": lambda x: mg.einsum("ij,kj->ik", [x, x]), "norm-dtype": lambda x: x.norm(dtype=np.float64),
    "axis": lambda x: x.sum(axis=(), keepdims=True), "shape": lambda x: mg.reshape(x, shape=(3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("call", CONVERTED.values(), ids=CONVERTED)
def test_a_call_that_converts_its_input_is_repeated_from_what_it_computed_on(call):
    x = mg.tensor(np.arange(6, dtype=np.float32).reshape(2, 3), requires_grad=True)
    with check_mode():
        repeated(call(x))
