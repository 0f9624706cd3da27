"""Modules: names, saving and loading, modes, initial weights, and the gradient of every module and its parameters."""

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import nn


class Attention(nn.Module):
    """A module with modules of its own, for names that nest."""

    def __init__(self):
        self.qkv = nn.Linear(4, 12, bias=False)
        self.drop = nn.Dropout(0.5)
        self.n_head = 2  # neither a parameter nor a module

    def forward(self, x):
        return self.drop(mg.causal_self_attention(self.qkv(x), self.n_head))


class Net(nn.Module):
    def __init__(self):
        self.wte = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([Attention(), Attention()])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.wte.weight  # tied
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, ids):
        x = self.wte(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x)) * self.scale


NAMES = ["scale", "wte.weight", "blocks.0.qkv.weight", "blocks.1.qkv.weight", "norm.weight", "norm.bias"]


@pytest.fixture
def net():
    mg.random.seek(0)
    return Net()


# ------------------------------------------------------------------------------------------- names


def test_names_are_paths_of_attributes_and_a_tied_parameter_comes_once(net):
    assert list(net.state_dict()) == [*NAMES, "head.weight"]  # under both names, as in PyTorch
    assert [path for path, _ in net.named_modules()] == [
        "", "wte", "blocks", "blocks.0", "blocks.0.qkv", "blocks.0.drop", "blocks.1", "blocks.1.qkv", "blocks.1.drop",
        "norm", "head",
    ]  # fmt: skip
    assert net.num_parameters() == 1 + 20 + 2 * 48 + 8
    parameters = dict(net.named_parameters())
    assert list(parameters) == NAMES
    assert all(array is parameters.get(name, net.wte.weight).data for name, array in net.state_dict().items())


def test_a_state_dict_of_one_model_makes_another_the_same(net):
    mg.random.seek(1)
    other = Net()
    ids = np.array([[0, 3, 4]])
    arrays = {name: parameter.data for name, parameter in other.named_parameters()}
    other.eval().load_state_dict({name: array.copy() for name, array in net.state_dict().items()})
    np.testing.assert_array_equal(other(ids).data, net.eval()(ids).data)
    for name, parameter in other.named_parameters():
        assert parameter.data is arrays[name]  # copied in, not rebound: an optimizer's arena may hold it
    assert other.head.weight is other.wte.weight


def test_loading_names_every_wrong_key_and_changes_nothing(net):
    state = {name: np.zeros_like(array) for name, array in net.state_dict().items()}
    del state["blocks.0.qkv.weight"], state["norm.bias"]
    state |= {"extra": np.zeros(1), "head.bias": np.zeros(5), "norm.weight": np.zeros(3), "scale": np.zeros((1, 1))}
    before = {name: array.copy() for name, array in net.state_dict().items()}
    with pytest.raises(ValueError, match="cannot load these weights into Net") as caught:
        net.load_state_dict(state)
    for problem in (
        "missing blocks.0.qkv.weight", "missing norm.bias", "unexpected extra", "unexpected head.bias",
        "norm.weight has shape (3,), expected (4,)", "scale has shape (1, 1), expected (1,)",
    ):  # fmt: skip
        assert problem in str(caught.value)
    assert "wte" not in str(caught.value)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_zero_grad_and_astype_reach_every_parameter(net):
    net(np.array([[1, 2]])).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    net(np.array([[1, 2]])).sum().backward()
    assert net.astype(np.float64) is net
    assert {(p.dtype, p.grad.dtype) for p in net.parameters()} == {(np.dtype(np.float64), np.dtype(np.float64))}
    assert net.head.weight is net.wte.weight


# ------------------------------------------------------------------------------------------- modes


def test_train_and_eval_reach_every_module(net):
    assert all(module.training for _, module in net.named_modules())
    assert net.eval() is net
    assert not any(module.training for _, module in net.named_modules())
    net.train()
    assert all(module.training for _, module in net.named_modules())


def test_dropout_drops_while_training_only():
    x = mg.tensor(np.ones(1000, np.float32))
    drop = nn.Dropout(0.25)
    mg.random.seek(0)
    out = drop(x)
    assert set(np.unique(out.data)) == {np.float32(0.0), np.float32(1.0 / 0.75)}
    assert 180 < int((out.data == 0).sum()) < 320  # 250 expected, sigma 14
    assert not np.array_equal(out.data, drop(x).data)  # each use has a stream of its own
    mg.random.seek(0)
    np.testing.assert_array_equal(drop(x).data, out.data)
    assert drop.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_a_dropout_probability_that_is_none_is_refused(p):
    with pytest.raises(ValueError, match=f"dropout probability is {p}; expected 0 <= p <= 1"):
        nn.Dropout(p)


# ------------------------------------------------------------------------------------------- containers


def test_module_list_and_sequential():
    layers = [nn.Linear(2, 3), nn.Linear(3, 2)]
    modules = nn.ModuleList(layers)
    assert modules.append(nn.LayerNorm(2)) is modules
    assert len(modules) == 3
    assert list(modules)[:2] == layers
    assert modules[1] is layers[1]
    assert modules[-1].weight.shape == (2,)
    assert list(modules.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        modules(1)
    x = mg.tensor(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(nn.Sequential(*layers)(x).data, layers[1](layers[0](x)).data)
    assert nn.Sequential()(x) is x


def test_repr_shows_settings_and_what_is_inside(net):
    assert repr(nn.Linear(2, 3)) == "Linear(2, 3, bias=True)"
    assert repr(nn.Embedding(5, 4)) == "Embedding(5, 4)"
    assert repr(nn.LayerNorm(4, bias=False)) == "LayerNorm(4, eps=1e-05, bias=False)"
    assert repr(nn.Dropout(0.1)) == "Dropout(p=0.1)"
    assert repr(net.blocks) == (
        "ModuleList(\n"
        "  (0): Attention(\n    (qkv): Linear(4, 12, bias=False)\n    (drop): Dropout(p=0.5)\n  )\n"
        "  (1): Attention(\n    (qkv): Linear(4, 12, bias=False)\n    (drop): Dropout(p=0.5)\n  )\n)"
    )


# ------------------------------------------------------------------------------------------- weights, gradients


def test_the_same_seed_gives_the_same_weights():
    def weights(seed):
        mg.random.seek(seed)
        return Net().state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name], strict=True)
    assert not np.array_equal(first["wte.weight"], other["wte.weight"])
    assert not np.array_equal(first["blocks.0.qkv.weight"], first["blocks.1.qkv.weight"])  # each drawn anew


def test_initial_weights_have_their_spread():
    mg.random.seek(0)
    linear = nn.Linear(100, 300)
    for values in (linear.weight.data, linear.bias.data):
        assert np.abs(values).max() <= 0.1  # 1 / sqrt(100)
        assert values.dtype == np.float32
    assert linear.weight.data.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    table = nn.Embedding(200, 100).weight.data
    assert (table.mean(), table.std()) == (pytest.approx(0.0, abs=0.03), pytest.approx(1.0, rel=0.03))
    norm = nn.LayerNorm(3)
    np.testing.assert_array_equal([norm.weight.data, norm.bias.data], [[1] * 3, [0] * 3])


IDS = np.array([[1, 4, 1], [0, 2, 1]])
X = np.random.default_rng(5).standard_normal((2, 3, 4))
MODULES = {
    "linear": (lambda: nn.Linear(4, 3), X), "linear-plain": (lambda: nn.Linear(4, 3, bias=False), X),
    "layernorm": (lambda: nn.LayerNorm(4), X), "layernorm-plain": (lambda: nn.LayerNorm(4, bias=False), X),
    "embedding": (lambda: nn.Embedding(5, 4), IDS), "dropout": (lambda: nn.Dropout(0.5), X),
    "sequential": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.2)), X),
    "attention": (Attention, X), "tied-net": (Net, IDS),
}  # fmt: skip


@pytest.mark.parametrize("make,x", MODULES.values(), ids=MODULES)
def test_every_module_and_its_parameters_pass_the_gradient_check(make, x):
    mg.random.seek(0)
    module = make().astype(np.float64)
    inputs = {"x": x, **dict(module.named_parameters())}

    def fn(x, *_):
        mg.random.seek(9)  # the same masks every time
        return module(x)

    with kernels.use("reference"):  # the fast ones are checked op by op
        mg.gradcheck(fn, inputs, rtol=1e-8, step=3e-4)


def test_a_module_keeps_float32_and_gives_every_parameter_a_float32_gradient(net):
    out = net(IDS)
    out.sum().backward()
    assert {out.dtype, *(p.dtype for p in net.parameters()), *(p.grad.dtype for p in net.parameters())} == {
        np.dtype(np.float32)
    }
