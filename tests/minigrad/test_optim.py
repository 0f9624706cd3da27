"""Optimizers: the same trajectory as PyTorch's, what decays and what does not, the arena, state, and clipping."""

import math

import numpy as np
import pytest
from small_net import in_arena

import kernels
import minigrad as mg
from minigrad import nn, optim

SHAPES = {"w": (4, 3), "b": (3,), "late": (2, 5), "scale": (1,)}


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return {name: nn.Parameter(rng.standard_normal(shape).astype(dtype)) for name, shape in SHAPES.items()}


def gradients(step, skip=()):
    """Gradients of one step, over six orders of magnitude."""
    rng = np.random.default_rng([1, step])
    drawn = {name: rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3) for name, shape in SHAPES.items()}
    return {name: None if name in skip else grad for name, grad in drawn.items()}


def compare_with_torch(ours, theirs, params, peers, skipped, steps=20):
    import torch as th

    for step in range(steps):
        for name, grad in gradients(step, skipped(step)).items():
            params[name].grad = grad
            peers[name].grad = None if grad is None else th.tensor(grad)
        ours.learning_rate = theirs.param_groups[0]["lr"] = 0.1 / (1 + step)  # as a scheduler does
        for group in theirs.param_groups:
            group["lr"] = ours.learning_rate
        ours.step()
        theirs.step()
        for name, parameter in params.items():
            expected = peers[name].detach().numpy()
            np.testing.assert_allclose(parameter.data, expected, rtol=1e-12, atol=1e-13, err_msg=f"{name}, step {step}")


def never(step):
    return ()


def sometimes(step):
    """`late` joins at step 4, `b` misses every third: ages differ, so the arena is updated in several runs."""
    return (("late",) if step < 4 else ()) + (("b",) if step % 3 == 0 else ())


@pytest.mark.pytorch
@pytest.mark.parametrize("skipped", [never, sometimes])
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_adamw_walks_as_torch_does(kernel_set, skipped):
    import torch as th

    params = parameters()
    peers = {name: th.tensor(p.data.copy(), requires_grad=True) for name, p in params.items()}
    groups = [("decay", ["w", "late"], 0.3), ("no decay", ["b", "scale"], 0.0)]
    setting = {"betas": (0.8, 0.95), "eps": 1e-6}
    ours = optim.AdamW([{"name": n, "params": {k: params[k] for k in ks}, "weight_decay": d} for n, ks, d in groups],
                       learning_rate=0.1, **setting)  # fmt: skip
    theirs = th.optim.AdamW([{"params": [peers[k] for k in ks], "weight_decay": d} for _, ks, d in groups], **setting)
    with kernels.use(kernel_set):
        compare_with_torch(ours, theirs, params, peers, skipped)


@pytest.mark.pytorch
@pytest.mark.parametrize("skipped", [never, sometimes])
@pytest.mark.parametrize("momentum,weight_decay", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.2), (0.0, 0.2)])
def test_sgd_walks_as_torch_does(momentum, weight_decay, skipped):
    import torch as th

    params = parameters()
    peers = {name: th.tensor(p.data.copy(), requires_grad=True) for name, p in params.items()}
    ours = optim.SGD(params.items(), momentum=momentum, weight_decay=weight_decay)
    theirs = th.optim.SGD(peers.values(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    compare_with_torch(ours, theirs, params, peers, skipped)


def test_clipping_in_the_step_is_a_gradient_scaled_beforehand():
    scaled, plain = parameters(), parameters()
    one, two = optim.AdamW(scaled.items()), optim.AdamW(plain.items())
    for step in range(3):
        for name, grad in gradients(step).items():
            scaled[name].grad, plain[name].grad = grad, grad * 0.25
        one.step(norm=8.0 - 1e-6, max_norm=2.0)
        two.step(norm=1.5, max_norm=2.0)  # within it: as it is
    for name in SHAPES:
        np.testing.assert_allclose(scaled[name].data, plain[name].data, rtol=1e-14)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("norm", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_changes_nothing(kernel_set, norm):
    params = parameters()
    optimizer = optim.AdamW(params.items())
    with kernels.use(kernel_set):
        for step, size in enumerate((1.0, norm, 1.0)):
            for name, grad in gradients(step).items():
                params[name].grad = grad
            before = {name: p.data.copy() for name, p in params.items()}, optimizer.state_dict()
            optimizer.step(norm=size, max_norm=1.0)
            same = all(np.array_equal(p.data, before[0][name]) for name, p in params.items())
            assert same == (size != 1.0)
            if same:
                np.testing.assert_equal(optimizer.state_dict(), before[1])
    assert set(optimizer.state_dict()["step"].values()) == {2} and optimizer.steps_taken() == 2


# ------------------------------------------------------------------------------------------- groups


class Model(nn.Module):
    def __init__(self):
        mg.random.seek(0)
        self.wte = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 6)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight  # tied: an embedding still


def test_nothing_one_dimensional_decays_nor_does_an_embedding():
    decay, keep = optim.decay_groups(Model(), 0.1)
    assert (list(decay["params"]), decay["weight_decay"]) == (["fc.weight"], 0.1)
    assert (list(keep["params"]), keep["weight_decay"]) == (["wte.weight", "norm.weight", "norm.bias", "fc.bias"], 0.0)


def test_decay_moves_only_the_decay_group():
    model = Model()
    optimizer = optim.AdamW(optim.decay_groups(model, 0.5), learning_rate=0.1)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = np.zeros(p.shape, np.float32)
    optimizer.step()
    for name, p in model.named_parameters():
        expected = before[name] * (np.float32(0.95) if name == "fc.weight" else 1.0)
        np.testing.assert_allclose(p.data, expected, rtol=1e-6, err_msg=name)


def test_describe_lists_groups_counts_and_names():
    text = optim.AdamW(optim.decay_groups(Model(), 0.1)).describe()
    lines = text.splitlines()
    assert lines[0].split() == ["decay", "weight_decay", "0.1", "1", "tensors", "24", "numbers"]
    assert lines[1].split() == ["fc.weight", "(6,", "4)"]
    assert lines[2].split() == ["no", "decay", "weight_decay", "0", "4", "tensors", "42", "numbers"]
    assert [line.split()[0] for line in lines[3:]] == ["wte.weight", "norm.weight", "norm.bias", "fc.bias"]


def test_bad_settings_are_refused():
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    groups = [{"params": [("a", p)]}, {"params": [("b", p)]}]
    for params in ([p, p], [("a", p), ("b", p)], [("a", p), ("a", q)], groups):
        with pytest.raises(ValueError, match="twice"):
            optim.AdamW(params)
    for params in ([], [{"params": []}]):
        with pytest.raises(ValueError, match="at least one parameter"):
            optim.SGD(params)
    for setting, message in (
        ({"lr": -1.0}, "lr is -1.0; expected a number that is not negative"),
        ({"learning_rate": -1.0}, "lr is -1.0; expected a number that is not negative"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected a number that is not negative"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\); both must lie in \[0, 1\)"),
        ({"eps": -1e-8}, "eps is -1e-08"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.AdamW([p], **setting)


# ------------------------------------------------------------------------------------------- the arena


def backward(model):
    model.fc(model.norm(model.wte(np.array([1, 2])))).sum().backward()


def test_data_and_gradients_become_views_of_one_flat_array():
    model, plain = Model(), Model()
    optimizer = in_arena(model.named_parameters())
    for m in (model, plain):
        backward(m)
        backward(m)  # adds into the same views
    for kind in ("data", "grad"):
        ours, theirs = ([getattr(p, kind) for p in m.parameters()] for m in (model, plain))
        assert len({id(array.base) for array in ours}) == 1
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    plain.zero_grad()
    for m in (model, plain):
        backward(m)  # a view that was used before starts from nothing again
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_every_parameter_of_odd_size_begins_a_cache_line_and_what_lies_between_stays_zero():
    params = {name: nn.Parameter(np.ones(size, np.float32)) for name, size in (("a", 3), ("b", 65), ("c", 16))}
    adamw = in_arena(params.items(), weight_decay=0.1)
    for parameter in params.values():
        parameter.grad = np.ones(parameter.shape, np.float32)
    norm = adamw.grad_norm()
    adamw.step()
    for parameter in params.values():
        assert parameter.data.ctypes.data % 64 == parameter.grad.ctypes.data % 64 == 0
    assert float(norm) == pytest.approx(math.sqrt(3 + 65 + 16))
    (moments,) = adamw._moments
    flat = moments.flat
    assert all(np.count_nonzero(x) == 3 + 65 + 16 for x in (flat.data, flat.grad, moments.m, moments.v))


@pytest.mark.parametrize("make", [optim.AdamW, in_arena])
def test_a_gradient_set_by_hand_is_used_and_the_callers_array_left_alone(make):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    optimizer, other = make([p]), make([q])
    (q * 3.0).sum().backward()
    mine = np.full(3, 3.0)
    p.grad = mine
    optimizer.step(norm=4.0, max_norm=2.0)
    other.step(norm=4.0, max_norm=2.0)
    np.testing.assert_array_equal(p.data, q.data)
    (p * 3.0).sum().backward()  # adds to the one set by hand
    np.testing.assert_array_equal(p.grad, np.full(3, 6.0))
    np.testing.assert_array_equal(mine, np.full(3, 3.0))
    with pytest.raises(ValueError, match=r"grad has shape \(1,\); the tensor has \(3,\)"):
        p.grad = np.ones(1)  # would broadcast


@pytest.mark.parametrize("make", [optim.AdamW, in_arena])
def test_a_rebound_data_array_is_noticed(make):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    optimizer, other = make([p]), make([q])
    p.data = np.full(3, 5.0)
    q.data[...] = 5.0
    p.grad, q.grad = np.full(3, 0.5), np.full(3, 0.5)
    optimizer.step()
    other.step()
    np.testing.assert_array_equal(p.data, q.data)
    assert (p.data < 5.0).all()
    p.data = np.ones((3, 1))
    with pytest.raises(ValueError, match=r"0\.0 is now \(3, 1\) float64.*make a new optimizer"):
        optimizer.step()
    p.data = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"\(3,\) float32"):
        optimizer.step()


@pytest.mark.parametrize("make", [optim.AdamW, in_arena])
def test_two_widths_in_one_optimizer(make):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3, np.float32))
    optimizer = make([p, q], learning_rate=0.1)
    p.grad, q.grad = np.ones(3), np.ones(3, np.float32)
    assert optimizer.grad_norm() == pytest.approx(6**0.5)
    optimizer.step()
    assert (p.dtype, q.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(p.data, q.data, rtol=1e-6)


@pytest.mark.parametrize("make", [optim.AdamW, in_arena])
def test_grad_norm_skips_what_has_no_gradient(make):
    params = parameters()
    optimizer = make(params.items())
    assert optimizer.grad_norm() == 0.0
    params["late"].grad = np.full((2, 5), 3.0)
    params["late"].grad[0, 0] = -3.0
    assert optimizer.grad_norm() == pytest.approx(3 * 10**0.5, rel=1e-15)
    params["b"].grad = np.array([np.nan, 0.0, 0.0])
    assert np.isnan(optimizer.grad_norm())
