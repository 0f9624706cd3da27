"""Functions and modules beside PyTorch's of the same name: the same values and gradients."""

import contextlib
import itertools

import numpy as np

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def compare(function, *arrays, **settings):
    """mg.F.FUNCTION and torch.nn.functional.FUNCTION: the same values, and gradients of all floats among `arrays`."""
    theirs = getattr(torch.nn.functional, function)
    compare_calls(getattr(mg.F, function), theirs, arrays, settings)


def compare_calls(ours, theirs, arrays, settings):
    def is_float(x):
        return isinstance(x, np.ndarray) and x.dtype.kind == "f"

    def of_torch(x, requires_grad=False):
        return torch.tensor(x, requires_grad=requires_grad and is_float(x)) if isinstance(x, np.ndarray) else x

    mine = [mg.tensor(a, requires_grad=True) if is_float(a) else a for a in arrays]
    others = [of_torch(a, True) for a in arrays]
    settings_of_torch = {name: of_torch(value) for name, value in settings.items()}
    outs, expected = ours(*mine, **settings), theirs(*others, **settings_of_torch)
    outs, expected = ((x if isinstance(x, tuple) else (x,)) for x in (outs, expected))
    assert len(outs) == len(expected)
    for out, peer in zip(outs, expected, strict=True):
        np.testing.assert_allclose(out.data, peer.detach().numpy(), rtol=1e-10, atol=1e-12, strict=True)
    upstream = np.random.default_rng(2).standard_normal(outs[0].shape)
    outs[0].backward(upstream)
    expected[0].backward(torch.tensor(upstream))
    for a, b in zip(mine, others, strict=True):
        if isinstance(a, mg.Tensor):
            peer = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
            np.testing.assert_allclose(np.zeros(a.shape) if a.grad is None else a.grad, peer, rtol=1e-9, atol=1e-11)


def product(**choices):
    """Every combination, as dicts."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def check_modules(ours, theirs, *inputs, call=lambda m, *x: m(*x)):
    """Two modules with the same names and shapes: either takes the other's weights; then as `compare_calls`."""
    weights = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(weights)
    assert {key: a.shape for key, a in ours.state_dict().items()} == {key: a.shape for key, a in weights.items()}
    theirs.load_state_dict({key: torch.tensor(-a) for key, a in ours.state_dict().items()})
    ours.load_state_dict(theirs.state_dict())
    compare_calls(lambda *x: call(ours, *x), lambda *x: call(theirs, *x), inputs, {})
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(own.grad, other.grad.numpy(), rtol=1e-9, atol=1e-11)
