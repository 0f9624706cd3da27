"""Optimizers with generated settings walk as PyTorch's do, in float64 to 2e-12."""

import numpy as np
import pytest
from small_net import in_arena

import kernels
from minigrad import nn, optim

pytestmark = pytest.mark.pytorch

SHAPES = {"w": (4, 3), "b": (3,), "late": (2, 5), "scale": (1,), "gain": ()}
COMMON = {"lr": (1e-3, 0.1, 0.5), "weight_decay": (0.0, 0.0, 0.01, 0.3), "maximize": (False, False, True)}
ADAM = {
    **COMMON, "betas": ((0.9, 0.999), (0.0, 0.5), (0.8, 0.0), (0.5, 0.9)), "eps": (1e-8, 1e-3),
    "amsgrad": (False, False, True),
}  # fmt: skip
SETTINGS = {
    "SGD": {**COMMON, "momentum": (0.0, 0.5, 0.9), "dampening": (0.0, 0.0, 0.3), "nesterov": (False, False, True)},
    "Adam": {**ADAM, "decoupled_weight_decay": (False, True)},
    "AdamW": ADAM,
}


def drawn(rng, kind):
    """Some settings of an optimizer; those that are left out are defaults."""
    choices = SETTINGS[kind]
    found = {key: values[rng.integers(len(values))] for key, values in choices.items() if rng.random() < 0.6}
    if found.get("nesterov"):
        found |= {"momentum": 0.9, "dampening": 0.0}
    elif kind == "SGD":
        found["nesterov"] = False
    return found


def drawn_groups(rng, kind, params):
    """Parameters as an iterable, as pairs, or in groups with settings of their own, for both sides the same."""
    names, form = list(params), rng.integers(3)
    if form == 0:
        return None
    split = int(rng.integers(1, len(names)))
    return [(names[:split], drawn(rng, kind)), (names[split:], drawn(rng, kind) if form == 1 else {})]


def walk(seed, kind, make=None, steps=8):
    import torch

    rng = np.random.default_rng(seed)
    ours = {name: nn.Parameter(rng.standard_normal(shape)) for name, shape in SHAPES.items()}
    theirs = {name: torch.tensor(p.data.copy(), requires_grad=True) for name, p in ours.items()}
    settings, groups = drawn(rng, kind), drawn_groups(rng, kind, ours)
    if groups is None:
        given = list(ours.items()) if rng.random() < 0.5 else iter(ours.values())
        peers = theirs.values()
    else:
        given = [{"params": [(n, ours[n]) for n in some], **own} for some, own in groups]
        peers = [{"params": [theirs[n] for n in some], **own} for some, own in groups]
    one = (make or getattr(optim, kind))(given, **settings)
    other = getattr(torch.optim, kind)(peers, foreach=False, **settings)
    for step in range(steps):
        for name, shape in SHAPES.items():
            grad = rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 2)
            missing = (name == "late" and step < 3) or rng.random() < 0.1
            ours[name].grad = None if missing else np.array(grad)
            theirs[name].grad = None if missing else torch.tensor(np.array(grad))
        if step == 4:  # as a scheduler does
            for group, peer in zip(one.param_groups, other.param_groups, strict=True):
                changed = {key: value for key, value in drawn(rng, kind).items() if key in ("lr", "weight_decay")}
                group.update(changed)
                peer.update(changed)
        one.step()
        other.step()
        for name, p in ours.items():
            message = f"{kind} {settings} {groups}: {name}, step {step}"
            np.testing.assert_allclose(p.data, theirs[name].detach(), rtol=2e-12, atol=2e-12, err_msg=message)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("kind", SETTINGS)
def test_generated_settings_walk_as_in_torch(kind, seed):
    walk(seed, kind)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_generated_settings_walk_as_in_torch_in_an_arena(kernel_set, seed):
    with kernels.use(kernel_set):
        walk(seed, "AdamW", in_arena)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SETTINGS)
def test_many_generated_settings_walk_as_in_torch(kind):
    for seed in range(15, 300):
        walk(seed, kind)
        if kind == "AdamW":
            walk(seed, kind, in_arena)


def test_float16_parameters_walk_as_in_torch():
    import torch

    rng = np.random.default_rng(0)
    p, q = nn.Parameter(rng.standard_normal(9).astype(np.float16)), nn.Parameter(np.ones(2, np.float16))
    peers = [torch.tensor(x.data.copy(), requires_grad=True) for x in (p, q)]
    groups = [{"params": [p], "weight_decay": 0.1}, {"params": [q], "weight_decay": 0.0}]
    ours = in_arena(groups, lr=0.1, eps=1e-3)
    peer_groups = [{**group, "params": [peer]} for group, peer in zip(groups, peers, strict=True)]
    theirs = torch.optim.AdamW(peer_groups, lr=0.1, eps=1e-3)
    for _ in range(5):
        for x, peer in zip((p, q), peers, strict=True):
            x.grad = rng.standard_normal(x.shape).astype(np.float16)
            peer.grad = torch.tensor(x.grad)
        ours.step()
        theirs.step()
    for x, peer in zip((p, q), peers, strict=True):
        assert x.dtype == np.float16
        np.testing.assert_allclose(x.data, peer.detach(), rtol=2e-2, atol=2e-2)


def test_states_go_on_as_in_torch_with_settings_and_all():
    """What was changed by hand before `state_dict` is in it, as in PyTorch."""
    import torch

    makers = {
        "SGD": {"momentum": 0.9, "dampening": 0.5}, "Adam": {"amsgrad": True, "weight_decay": 0.1},
        "AdamW": {"amsgrad": True},
    }  # fmt: skip
    for kind, setting in makers.items():
        rng, results = np.random.default_rng(3), []
        start, grads = rng.standard_normal(4), rng.standard_normal((6, 4))
        for array, make, whose in (
            (lambda x: x, lambda x: nn.Parameter(x.copy()), optim),
            (torch.tensor, lambda x: torch.tensor(x, requires_grad=True), torch.optim),
        ):
            p, q = make(start), make(start)
            one = getattr(whose, kind)([p], lr=0.1, **setting)
            for i, grad in enumerate(grads):
                if i == 3:
                    one.param_groups[0]["lr"] = 0.05
                    other = getattr(whose, kind)([q], lr=0.1)  # its settings come from the state
                    if whose is optim:
                        q.data[...] = p.data
                    else:
                        q.data.copy_(p.data)
                    other.load_state_dict(one.state_dict())
                    p, one = q, other
                p.grad = array(grad)
                one.step()
            results.append(np.asarray(p.data))
        np.testing.assert_allclose(*results, rtol=2e-12, err_msg=kind)
