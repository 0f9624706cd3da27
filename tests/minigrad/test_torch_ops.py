"""Every operation that PyTorch has too: same values and same gradients, in float64, on both kernel sets."""

import contextlib

import numpy as np
import pytest
from op_table import ROWS, SAME, Row

import kernels
import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

CASES = [
    pytest.param(row, kernel_set, id=f"{row.name}-{kernel_set}" if row.has_kernels else row.name)
    for row in ROWS
    if row.torch is not None
    for kernel_set in (kernels.SETS if row.has_kernels else ("fast",))
]
WITHOUT_PEER = {"astype", "seeded_dropout"}  # checked in test_ops_gradcheck and in tests/kernels


def as_list(out):
    return list(out) if isinstance(out, (list, tuple)) else [out]


def test_every_operation_but_these_has_a_peer():
    assert {row.op for row in ROWS} - {case.values[0].op for case in CASES} == WITHOUT_PEER


@pytest.mark.parametrize("row,kernel_set", CASES)
def test_values_and_gradients_are_those_of_torch(row: Row, kernel_set):
    arrays = row.arrays()
    ours = [mg.tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    rng = np.random.default_rng(2)
    with kernels.use(kernel_set):
        outs = as_list(row.fn(mg, *ours))
        upstream = [rng.standard_normal(o.shape) for o in outs]
        for o, u in zip(outs, upstream, strict=True):
            o.backward(u, retain_graph=len(outs) > 1)
    peer = as_list((row.fn if row.torch is SAME else row.torch)(torch, *theirs))
    torch.autograd.backward(peer, [torch.tensor(u) for u in upstream])

    for out, expected in zip(outs, peer, strict=True):
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12, strict=True)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(mine, mg.Tensor):
            np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-10, atol=1e-12, strict=True)
