"""Modules: names of weights, values, gradients and initial weights are PyTorch's."""

import contextlib

import pytest
from torch_peer import check_modules, normal

import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

MODULES = {
    "Linear": ((3, 2), (4, 3)), "LayerNorm": (((2, 3),), (4, 2, 3)), "RMSNorm": ((3,), (4, 3)),
    "Conv1d": ((4, 6, 3, 2, 1, 1, 2), (2, 4, 9)), "Conv2d": ((3, 2, (2, 3)), (2, 3, 5, 6)),
    "MaxPool1d": ((3, 2, 1), (2, 3, 9)), "MaxPool2d": ((2,), (2, 3, 6, 6)), "AvgPool1d": ((3, 2, 1), (2, 3, 9)),
    "AvgPool2d": ((2,), (2, 3, 6, 6)), "ReLU": ((), (3, 4)), "GELU": ((), (3, 4)), "SiLU": ((), (3, 4)),
    "Tanh": ((), (3, 4)), "Sigmoid": ((), (3, 4)), "Softmax": ((1,), (3, 4)), "LogSoftmax": ((1,), (3, 4)),
    "LeakyReLU": ((0.2,), (3, 4)), "ELU": ((0.7,), (3, 4)), "Softplus": ((2.0,), (3, 4)), "Hardtanh": ((), (3, 4)),
    "LogSigmoid": ((), (3, 4)), "Identity": ((54,), (3, 4)), "Flatten": ((), (2, 3, 4)), "Dropout": ((0.0,), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_the_weights_of_torch_and_gives_its_values_and_gradients(name):
    arguments, shape = MODULES[name]
    ours, theirs = getattr(nn, name)(*arguments).double(), getattr(torch.nn, name)(*arguments).double()
    check_modules(ours, theirs, normal(*shape))


def test_initial_weights_have_the_spread_of_torch():
    torch.manual_seed(0)
    mg.random.seek(0)
    for make in (
        lambda n: n.Linear(200, 100), lambda n: n.Conv2d(20, 50, 3), lambda n: n.Conv1d(40, 50, 3, groups=2),
        lambda n: n.MultiheadAttention(96, 4), lambda n: n.MultiheadAttention(96, 4, kdim=32),
        lambda n: n.Embedding(99, 50),
    ):  # fmt: skip
        ours, theirs = make(nn), make(torch.nn)
        for (name, own), (other_name, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert (name, own.shape, str(own.dtype)) == (other_name, tuple(other.shape), "float32")
            if own.size > 1000:
                assert own.data.std() == pytest.approx(float(other.detach().std()), rel=0.05), name
            if not other.detach().any():
                assert not own.data.any(), name
    assert not nn.Embedding(4, 3, padding_idx=2).weight.data[2].any()
