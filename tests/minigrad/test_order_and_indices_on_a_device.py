"""Order, indices, joining and reductions give on a device what they give on the CPU, and stay there."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import runtime

pytestmark = pytest.mark.compiler
INDEX = np.array([[[0, 1, 2, 1]]] * 2)
CALLS = {
    "sort": lambda x: mg.sort(x, dim=1, descending=True).values, "argsort": lambda x: mg.argsort(x, 1),
    "topk": lambda x: mg.topk(x, 2).values, "max": lambda x: mg.max(x, dim=1).values, "argmax": lambda x: mg.argmax(x),
    "argmin": lambda x: mg.argmin(x, dim=1), "all": mg.all, "any": lambda x: mg.any(x, dim=1),
    "count_nonzero": lambda x: mg.count_nonzero(x, dim=1), "gather": lambda x: mg.gather(x, 1, INDEX),
    "take_along_dim": lambda x: mg.take_along_dim(x, INDEX[:1], 1), "index_select": lambda x: x.index_select(1, [0, 3]),
    "getitem": lambda x: x[[0, 1]], "masked_fill": lambda x: x.masked_fill(mask_of(x), 2.0),
    "masked_select": lambda x: x.masked_select(mask_of(x)), "tril": mg.tril, "triu": mg.triu,
    "diagonal": lambda x: mg.diagonal(x, 1, 1, 2), "trace": lambda x: mg.trace(x, dim1=1, dim2=2),
    "std": lambda x: mg.std(x, dim=1), "var": lambda x: mg.var(x, axis=0), "logsumexp": lambda x: mg.logsumexp(x, 1),
    "cumsum": mg.cumsum, "prod": lambda x: mg.prod(x, dim=1), "norm": mg.norm, "inf": lambda x: mg.norm(x, np.inf, 1),
    "mean": mg.mean, "pad": lambda x: mg.pad(x, pad=(1, 2), value=3.0), "tile": lambda x: mg.tile(x, 2, 1),
    "reflect": lambda x: mg.pad(x, pad=(1, 2), mode="reflect"), "roll": lambda x: mg.roll(x, 5), "flip": mg.flip,
    "repeat": lambda x: mg.repeat(x, 2, axis=1), "split": lambda x: mg.split(x, 3, dim=1)[1],
    "unbind": lambda x: mg.unbind(x)[1], "hstack": lambda x: mg.hstack([x, x]), "inner": lambda x: mg.inner(x, x),
    "outer": lambda x: mg.outer(x, x), "einsum": lambda x: mg.einsum("ijk,ikl", x, x),
    "einsum-diagonal": lambda x: mg.einsum("ijj->ij", x),
}  # fmt: skip


def mask_of(x):
    return np.asarray(np.arange(48).reshape(3, 4, 4) % 3 == 0, like=x.data)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_values_and_gradients_are_those_of_the_cpu(call):
    runtime.require("cuda-sim")
    values = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    here = mg.tensor(values, requires_grad=True)
    there = mg.tensor(runtime.asarray("cuda-sim")(values), requires_grad=True)
    expected, found = call(here), call(there)
    assert type(found.data) is type(there.data)
    np.testing.assert_allclose(found.data.get(), expected.data, rtol=1e-5)
    if expected.requires_grad:
        expected.sum().backward()
        found.sum().backward()
        np.testing.assert_allclose(there.grad.get(), here.grad, rtol=1e-5, atol=1e-6)
