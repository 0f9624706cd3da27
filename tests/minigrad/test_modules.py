"""What a PyTorch user does with modules: containers, buffers, saving, and the mistakes that would lose a parameter."""

from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def linear():
    return nn.Linear(2, 2)


class Plain(nn.Module):
    """Whose attributes a test sets."""


CONTAINERS = {
    "list": lambda m: [m], "tuple": lambda m: (1, m), "dict": lambda m: {"a": m}, "set": lambda m: {m},
    "nested": lambda m: {"a": [1, (2, [m])]},
}  # fmt: skip


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("held", [linear(), linear().weight], ids=["module", "parameter"])
def test_layers_in_a_plain_container_would_never_be_trained_and_are_refused(make, held):
    name = "ModuleDict" if isinstance(make(held), dict) else "ModuleList"
    with pytest.raises(TypeError, match=rf"Plain\.layers is a \w+ that holds a \w+, .*use nn\.{name}"):
        Plain().layers = make(held)


def test_layers_appended_later_to_a_plain_list_are_refused_when_parameters_are_asked_for():
    net = Plain()
    net.layers = []
    net.layers.append(linear())
    for ask in (net.parameters, net.state_dict):
        with pytest.raises(TypeError, match=r"Plain\.layers is a list that holds a Linear"):
            list(ask())


def test_plain_containers_of_other_things_are_kept_as_they_are():
    net = Plain()
    itself = []
    itself.append(itself)
    for value in ([1, 2], {"a": [3]}, (None, "x"), itself, [np.ones(2)], [mg.tensor([1.0])]):
        net.value = value
        assert net.value is value


def test_a_module_that_knows_its_parent_can_be_called_saved_printed_and_trained():
    parent, child = Plain(), linear()
    parent.child, child.parent = child, parent
    assert list(parent.state_dict()) == ["child.weight", "child.bias"]
    assert [path for path, _ in parent.named_modules()] == ["", "child"]
    assert len(list(parent.parameters())) == 2 and len(list(parent.modules())) == 2
    assert parent.eval().apply(lambda module: None) is parent and not child.training
    assert "..." in repr(parent)
    assert child(mg.tensor(np.ones((1, 2), np.float32))).shape == (1, 2)


def test_what_would_replace_a_parameter_a_module_or_a_buffer_by_something_else_is_refused():
    layer = linear()
    layer.register_buffer("scale", np.ones(2))
    for name, value, kind in (
        ("weight", mg.tensor(np.ones((2, 2))), "Parameter"), ("weight", np.ones((2, 2)), "Parameter"),
        ("scale", 3, "Tensor"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"Linear\.{name} is a {kind}; it can become None or another {kind}"):
            setattr(layer, name, value)
    net = Plain()
    net.layer = layer
    with pytest.raises(TypeError, match=r"Plain\.layer is a Module; .* not a int"):
        net.layer = 3
    net.layer = layer.weight = layer.scale = None
    net.layer, layer.weight = linear(), nn.Parameter(np.ones((2, 2)))
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_buffers_are_saved_moved_and_not_learned():
    net = Plain()
    net.layer = linear()
    net.layer.register_buffer("mean", np.zeros(2, np.float32))
    net.register_buffer("count", mg.tensor(np.array(3)), persistent=False)
    net.register_buffer("nothing", None)
    assert list(net.state_dict()) == ["layer.weight", "layer.bias", "layer.mean"]
    assert [name for name, _ in net.named_parameters()] == ["layer.weight", "layer.bias"]
    assert [name for name, _ in net.named_buffers()] == ["count", "layer.mean"]
    net.astype(np.float64)
    assert (net.layer.mean.dtype, net.count.dtype) == (np.float64, np.array(3).dtype)  # integers stay
    net.layer.mean = net.layer.mean + 1.0
    np.testing.assert_array_equal(net.state_dict()["layer.mean"], [1.0, 1.0])
    net.load_state_dict({**net.state_dict(), "layer.mean": np.full(2, 7.0)})
    np.testing.assert_array_equal(net.layer.mean.data, [7.0, 7.0])
    assert len(list(net.buffers())) == 2


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.register_buffer("forward", np.ones(1)), KeyError),
        (lambda m: m.register_buffer("a.b", None), KeyError),
        (lambda m: m.register_buffer("a", 3), TypeError),
        (lambda m: m.register_parameter("a", mg.tensor([1.0])), TypeError),
        (lambda m: m.add_module("a", 3), TypeError), (lambda m: nn.ModuleList([3]), TypeError),
        (lambda m: nn.Sequential(np.tanh), TypeError), (lambda m: nn.ModuleDict({"a.b": m}), KeyError),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_refused(call, error):
    with pytest.raises(error):
        call(Plain())


def test_registering_by_function_is_setting_the_attribute():
    net = Plain()
    net.add_module("layer", linear())
    net.register_parameter("scale", nn.Parameter(np.ones(1)))
    net.register_parameter("shift", None)
    assert list(net.state_dict()) == ["scale", "layer.weight", "layer.bias"] and net.shift is None


def test_loading_with_strict_false_says_what_was_left_out():
    net = linear()
    found = net.load_state_dict({"weight": mg.tensor(np.ones((2, 2))), "more": np.ones(1)}, strict=False)
    assert found == (["bias"], ["more"]) and found.missing_keys == ["bias"] and found.unexpected_keys == ["more"]
    np.testing.assert_array_equal(net.weight.data, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"weight has shape \(3,\), expected \(2, 2\)"):
        net.load_state_dict({"weight": np.ones(3)}, strict=False)
    assert net.load_state_dict(net.state_dict()) == ([], [])


def test_lists_of_modules_take_what_lists_take():
    first, second, third = linear(), linear(), linear()
    modules = nn.ModuleList([first])
    assert modules.extend([third]) is modules
    modules.insert(1, second)
    assert (
        list(modules) == [first, second, third] and modules[1:][0] is second and isinstance(modules[:2], nn.ModuleList)
    )
    modules[-1] = first
    assert modules[2] is first and second in modules and third not in modules
    del modules[0]
    assert list(modules.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert modules.pop() is first and len(modules) == 1
    with pytest.raises(IndexError):
        modules[5]


def test_a_chain_takes_names_and_grows():
    chain = nn.Sequential(OrderedDict(one=linear(), two=nn.ReLU()))
    assert list(chain.state_dict()) == ["one.weight", "one.bias"] and chain.one is chain[0]
    assert chain.append(nn.Tanh()) is chain and len(chain) == 3 and isinstance(chain[1:], nn.Sequential)
    x = mg.tensor(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(chain(x).data, np.tanh(np.maximum(chain.one(x).data, 0)))
    with pytest.raises(AttributeError, match="no attribute 'three'"):
        chain.three  # noqa: B018


def test_a_subclass_of_a_container_keeps_its_own_parameters():
    class Scaled(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.scale = nn.Parameter(np.ones(1, np.float32))

        def forward(self, x):
            return super().forward(x) * self.scale

    assert list(Scaled(linear()).state_dict()) == ["scale", "0.weight", "0.bias"]


def test_dicts_of_modules():
    modules = nn.ModuleDict({"a": linear()})
    modules["b"] = nn.ReLU()
    modules.update({"c": linear()})
    assert (list(modules), list(modules.keys()), len(modules), "b" in modules) == (
        ["a", "b", "c"],
        ["a", "b", "c"],
        3,
        True,
    )
    assert modules.pop("c") in modules.values() or len(modules) == 2
    assert list(modules.state_dict()) == ["a.weight", "a.bias"]
    assert dict(modules.items())["b"] is modules["b"]


def test_apply_goes_from_the_leaves_to_the_root_once_each():
    net, shared, seen = nn.Sequential(nn.Sequential(linear(), nn.ReLU()), nn.Tanh()), linear(), []
    net.append(shared).append(shared)
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Tanh", "Linear", "Sequential"]


def test_frozen_parameters_get_no_gradient():
    net = nn.Sequential(linear(), linear())
    assert net[0].requires_grad_(False) is net[0]
    net(mg.tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert [p.grad is None for p in net.parameters()] == [True, True, False, False]
    net.zero_grad(set_to_none=False)
    assert [p.grad is None or p.grad.any() for p in net.parameters()] == [True, True, False, False]
    assert next(net.parameters()) is net[0].weight


def test_dropout_of_everything_gives_zeros():
    x = mg.tensor(np.ones(5, np.float32), requires_grad=True)
    out = nn.Dropout(1.0)(x)
    out.sum().backward()
    assert not out.data.any() and not x.grad.any()


REFUSED = {
    "inplace": lambda: nn.ReLU(inplace=True), "dropout inplace": lambda: mg.F.dropout(mg.tensor([1.0]), inplace=True),
    "max_norm": lambda: nn.Embedding(3, 2, max_norm=1.0), "sparse": lambda: nn.Embedding(3, 2, sparse=True),
    "size_average": lambda: nn.MSELoss(size_average=True), "reduce": lambda: nn.CrossEntropyLoss(reduce=True),
    "add_bias_kv": lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
    "device": lambda: nn.Linear(2, 2, device="cpu"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_without_an_equivalent_is_refused_by_name(name):
    with pytest.raises(TypeError, match=name.split()[-1]):
        REFUSED[name]()
