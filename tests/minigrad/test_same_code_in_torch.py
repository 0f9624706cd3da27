"""The same lines about modules, run with `minigrad` and with `torch`: the same names, lengths and kinds of errors."""

import contextlib
import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch


def names(pairs):
    return [name for name, _ in pairs]


def kinds(modules):
    return [type(module).__name__ for module in modules]


def linear(nn):
    return nn.Linear(2, 2)


def network(nn, T):
    """Shared modules and weights, buffers of both kinds, and attributes that are None."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.b.weight = self.a.weight
            self.scale = nn.Parameter(T.ones(1))
            self.register_buffer("mean", T.ones(2))
            self.register_buffer("count", T.ones(2), persistent=False)
            self.register_buffer("nothing", None)
            self.register_parameter("absent", None)
            self.layers = nn.ModuleList([self.a])

        def forward(self, x):
            return self.b(self.a(x)) * self.scale + self.mean

    return Network()


def chain_by_name(nn, T):
    chain = nn.Sequential()
    chain.add_module("fc", linear(nn))
    chain.add_module("act", nn.ReLU())
    chain.fc = nn.Linear(2, 5)  # takes the first one's place
    before = kinds(chain), names(chain.named_parameters()), tuple(chain(T.ones(1, 2)).shape)
    del chain.act
    modules = nn.ModuleList([linear(nn)])
    setattr(modules, "0", nn.ReLU())
    return before, kinds(chain), len(chain), kinds(modules)


def edited(container):
    def edit(nn, T):
        modules = [linear(nn), nn.ReLU(), linear(nn)]
        held = nn.Sequential(*modules) if container == "Sequential" else nn.ModuleList(modules)
        held[1], held[-1] = nn.Tanh(), nn.Identity()
        del held[0]
        held.insert(1, nn.SiLU())
        held.extend([nn.ReLU()]).append(nn.GELU())
        held += type(held)(nn.Sigmoid()) if container == "Sequential" else [nn.Sigmoid()]
        longer = held + held
        last = held.pop(-1)
        del held[1:2]
        return (
            kinds(held),
            kinds(longer),
            kinds([last]),
            kinds(held[1:]),
            kinds(held[::-1]),
            names(held.named_children()),
        )

    return edit


def dict_of_modules(nn, T):
    modules = nn.ModuleDict([("a", linear(nn)), ("b", nn.ReLU())])
    modules.update(nn.ModuleDict({"c": nn.ModuleList([nn.Sequential(linear(nn))])}))
    modules.d = nn.Tanh()
    found = names(modules.items()), names(modules.named_parameters()), names(modules.named_modules())
    modules.pop("c")
    return found, list(modules), "a" in modules, kinds([modules.b]), len(nn.ModuleDict(None)), len(nn.ModuleList(None))


def listed(**how):
    def ask(nn, T):
        net = network(nn, T)
        recurse = {key: value for key, value in how.items() if key == "recurse"}
        duplicates = {key: value for key, value in how.items() if key == "remove_duplicate"}
        found = net.named_parameters("p", **how), net.named_buffers("p", **how), net.named_children()
        return (
            [names(pairs) for pairs in found], names(net.named_modules(prefix="p", **duplicates)),
            list(net.state_dict()), len([*net.parameters(**recurse)]), len([*net.buffers(**recurse)]),
        )  # fmt: skip

    return ask


def changed(nn, T):
    net = network(nn, T)
    net.mean = nn.Parameter(T.ones(2))  # no buffer any more
    del net.count
    net.count = T.ones(2)  # a plain attribute
    net.register_buffer("nothing", T.ones(3))
    net.register_parameter("absent", nn.Parameter(T.ones(1)))
    del net.scale
    return sorted(names(net.named_parameters())), names(net.named_buffers()), sorted(net.state_dict())


def converted(nn, T):
    net, kept = network(nn, T), []
    net(T.ones(3, 2)).sum().backward()
    weight = net.a.weight.data
    kept.append(
        net.float().a.weight.data is weight if T is mg else net.float().a.weight.data_ptr() == weight.data_ptr()
    )
    for convert in (
        net.half, net.double, net.float, lambda: net.to(T.float64), lambda: net.to(dtype=T.float32),
        lambda: net.to(T.ones(1, dtype=T.float64)),
    ):  # fmt: skip
        convert()
        kept.append([str(x.dtype).split(".")[-1] for x in (net.scale, net.mean, net.count, net.scale.grad)])
    return kept, net.a.weight is net.b.weight


def copied(nn, T):
    net = network(nn, T)
    net(T.ones(3, 2)).sum().backward()
    other = copy.deepcopy(net)
    other(T.ones(3, 2)).sum().backward()
    shared = other.a.weight is other.b.weight, other.layers[0] is other.a, other.a.weight is net.a.weight
    return shared, bool((other.scale.grad == net.scale.grad).all()), names(other.named_buffers())


def modes(nn, T):
    net = network(nn, T)
    net(T.ones(3, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    zeros = bool((net.scale.grad == 0).all())
    net.zero_grad()
    found = net.eval().layers[0].training, net.train().a.training, zeros, net.scale.grad is None
    return *found, [p.requires_grad for p in net.requires_grad_(False).parameters()]


def partly_loaded(nn, T):
    net = network(nn, T)
    keys = net.load_state_dict({"scale": T.ones(1) * 3.0, "more": T.ones(1)}, strict=False)
    return net.scale.item(), keys.missing_keys, keys.unexpected_keys


CASES = {
    "a chain by name": chain_by_name,
    "a chain is edited": edited("Sequential"), "a list is edited": edited("ModuleList"),
    "a dict": dict_of_modules, "names": listed(), "own names": listed(recurse=False),
    "all names": listed(remove_duplicate=False), "attributes are changed": changed, "converted": converted,
    "copied": copied, "modes": modes, "partly loaded": partly_loaded,
    "a chain is no list": lambda nn, T: isinstance(nn.Sequential(), nn.ModuleList),
    "empty containers": lambda nn, T: [bool(nn.Sequential()), bool(nn.ModuleList()), bool(nn.ModuleDict())],
    "flat from the front": lambda nn, T: tuple(nn.Flatten(0, 1)(T.ones(2, 3, 4)).shape),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_modules_answer_as_in_torch(case):
    assert case(nn, mg) == case(torch.nn, torch)


ERRORS = {
    "load a list": lambda nn, T: network(nn, T).load_state_dict([1]),
    "load too little": lambda nn, T: network(nn, T).load_state_dict({}),
    "load another shape": lambda nn, T: network(nn, T).load_state_dict({"scale": T.ones(3)}, strict=False),
    "train to a string": lambda nn, T: network(nn, T).train("no"),
    "convert to integers": lambda nn, T: network(nn, T).to(T.int64),
    "a tensor for a parameter": lambda nn, T: setattr(network(nn, T), "scale", T.ones(1)),
    "a number for a buffer": lambda nn, T: setattr(network(nn, T), "mean", 3),
    "a number for a module": lambda nn, T: setattr(network(nn, T), "a", 3),
    "a buffer for a parameter": lambda nn, T: network(nn, T).register_buffer("scale", T.ones(1)),
    "a parameter for a module": lambda nn, T: network(nn, T).register_parameter("a", nn.Parameter(T.ones(1))),
    "a module for a parameter": lambda nn, T: network(nn, T).add_module("scale", linear(nn)),
    "a number as name": lambda nn, T: network(nn, T).register_buffer(3, T.ones(1)),
    "no name": lambda nn, T: network(nn, T).add_module("", linear(nn)),
    "a name with a dot": lambda nn, T: network(nn, T).register_parameter("a.b", None),
    "a list of one module": lambda nn, T: nn.ModuleList(linear(nn)),
    "extend by one": lambda nn, T: nn.ModuleList().extend(linear(nn)),
    "a list of tensors": lambda nn, T: nn.ModuleList([T.ones(1)]),
    "a chain of a list": lambda nn, T: nn.Sequential([linear(nn)]),
    "past the end": lambda nn, T: nn.ModuleList([linear(nn)])[3],
    "set past the end": lambda nn, T: nn.Sequential().__setitem__(3, linear(nn)),
    "a dict of a list": lambda nn, T: nn.ModuleDict([linear(nn)]),
    "update by a number": lambda nn, T: nn.ModuleDict().update(3),
    "a dict of numbers": lambda nn, T: nn.ModuleDict({"a": 3}), "no such key": lambda nn, T: nn.ModuleDict()["a"],
    "a method as key": lambda nn, T: nn.ModuleDict({"keys": linear(nn)}),
    "no such module": lambda nn, T: nn.Sequential(linear(nn)).fc,
    "no forward": lambda nn, T: nn.ModuleList()(3), "flat from nowhere": lambda nn, T: nn.Flatten(3)(T.ones(2, 3)),
    "a size of 2.0": lambda nn, T: nn.Linear(2.0, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_modules_refuse_what_torch_refuses_in_one_line(case):
    with pytest.raises(Exception) as theirs:
        case(torch.nn, torch)
    with pytest.raises(theirs.type) as ours:
        case(nn, mg)
    assert "\n" not in str(ours.value)


def test_weights_of_torch_load_as_they_are_and_a_wrong_state_is_both_errors():
    """PyTorch raises RuntimeError; earlier versions raised ValueError."""
    ours, theirs = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().numpy())
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in nn.Linear(3, 2).state_dict().items()})
    for error in (RuntimeError, ValueError):
        with pytest.raises(error, match="missing bias"):
            ours.load_state_dict({"weight": theirs.weight.detach()})
