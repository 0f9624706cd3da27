"""Modules: names of weights, values, gradients and initial weights are PyTorch's."""

import contextlib
import inspect

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


ABSENT = {
    "device", "dtype",  # of every layer
    "_weight", "_freeze", "min_value", "max_value",  # PyTorch's own, and its older spellings
}  # fmt: skip


@pytest.mark.parametrize("name", [
    name for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and name not in ("Parameter", "Sequential")
])  # fmt: skip
def test_arguments_of_modules_stand_in_the_order_of_torch(name):
    def arguments(function):
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ABSENT]
        return [(p.name, p.default) for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

    ours, theirs = getattr(nn, name), getattr(torch.nn, name)
    assert arguments(ours.__init__) == arguments(theirs.__init__)
    if ours.forward is not nn.Module.forward and name != "RMSNorm":  # whose forward says x there
        assert arguments(ours.forward) == arguments(theirs.forward)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_arguments_of_optimizers_stand_in_the_order_of_torch(name):
    ours, theirs = (inspect.signature(getattr(whose.optim, name)).parameters for whose in (mg, torch))
    positional = [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [p.name for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert all(ours[key].default == theirs[key].default for key in positional)
    others = {key: parameter.default for key, parameter in theirs.items() if key not in positional}
    getattr(mg.optim, name)([nn.Parameter(mg.ones(2))], **others)
