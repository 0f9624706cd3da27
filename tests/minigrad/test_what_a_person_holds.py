"""Arrays that a person took stay what they were: gradients keep their numbers, `p.data` stays the live weight."""

import copy
import pickle

import numpy as np
import pytest
from small_net import in_arena

import kernels
import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim, runtime

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
MAKERS = {
    "adamw": lambda params: optim.AdamW(params, 0.1),
    "adamw in an arena": lambda params: in_arena(params, learning_rate=0.1),
    "sgd": lambda params: optim.SGD(params, 0.02, momentum=0.9),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Net(nn.Module):
    """Two layers whose weights, two parameters, share one array; a norm; a table for the fused head."""

    def __init__(self):
        mg.random.seek(0)
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.second.weight.data = self.first.weight.data
        self.table = nn.Embedding(6, 4)

    def forward(self, x):
        return F.linear_cross_entropy(self.norm(self.second(F.gelu(self.first(x)))), self.table.weight, np.arange(5))


def step(net, optimizer):
    loss = net(mg.tensor(X))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.data)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("make", [MAKERS["adamw"], MAKERS["sgd"]])
def test_a_kept_gradient_never_changes(make, kernel_set):
    with kernels.use(kernel_set):
        net = Net()
        optimizer = make(net.parameters())
        held = []
        for _ in range(3):
            step(net, optimizer)
            held += [(p.grad, p.grad.copy()) for p in net.parameters()]
            net(mg.tensor(X)).backward()  # a second one is added to the first
        for grad, copied in held:
            np.testing.assert_array_equal(grad, copied)


@pytest.mark.parametrize("make", [MAKERS["adamw"], MAKERS["sgd"]])
def test_data_taken_at_any_time_is_the_live_weight(make):
    net = Net()
    before = {name: p.data for name, p in net.named_parameters()}
    values = {name: array.copy() for name, array in before.items()}
    optimizer = make(net.parameters())
    between = {name: p.data for name, p in net.named_parameters()}
    step(net, optimizer)
    for name, p in net.named_parameters():
        assert p.data is before[name] is between[name] and not np.array_equal(p.data, values[name])
    net.load_state_dict(values)
    assert all(np.array_equal(before[name], values[name]) for name in values)


def test_data_taken_in_an_arena_is_the_live_weight():
    net = Net()
    optimizer = MAKERS["adamw in an arena"](net.named_parameters())
    held = {name: p.data for name, p in net.named_parameters()}
    for _ in range(2):
        step(net, optimizer)
        optimizer.state_dict()
    assert all(p.data is held[name] for name, p in net.named_parameters())


def test_a_weight_that_is_not_contiguous_is_trained_in_place():
    memory = np.ones((3, 4), np.float32)
    p, q = nn.Parameter(memory.T), nn.Parameter(np.ones((4, 3), np.float32))
    for parameter in (p, q):
        parameter.grad = np.arange(12, dtype=np.float32).reshape(4, 3)
        optim.AdamW([parameter], 0.1).step()
    np.testing.assert_array_equal(memory.T, q.data)


@every_optimizer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_pair_learns_and_leaves_the_original_alone(make, duplicate):
    net = Net()
    optimizer = make(net.named_parameters())
    step(net, optimizer)
    other_net, other_optimizer = duplicate((net, optimizer))
    weights = {name: p.data.copy() for name, p in net.named_parameters()}
    losses = [step(other_net, other_optimizer) for _ in range(3)]
    assert losses[2] < losses[0]
    assert all(np.array_equal(p.data, weights[name]) for name, p in net.named_parameters())
    assert [step(net, optimizer) for _ in range(3)] == losses
    for (name, p), q in zip(net.named_parameters(), other_net.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)
        np.testing.assert_array_equal(p.grad, q.grad, err_msg=name)


@every_optimizer
def test_a_copied_model_belongs_to_no_optimizer_and_its_gradients_begin_at_nothing(make):
    """As in PyTorch: with a copied gradient the copy's first backward would give the sum of both."""
    net = Net()
    make(net.parameters())
    net(mg.tensor(X)).backward()
    other = copy.deepcopy(net)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert q.grad_buffer is None and not np.shares_memory(p.data, q.data)
        assert q.grad is None and p.grad is not None and pickle.loads(pickle.dumps(p)).grad is None


def test_a_tensor_of_a_graph_is_not_copied():
    y = nn.Parameter(np.ones(3)) * 2.0
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match=r"only leaf tensors can be copied or pickled; use \.detach"):
            duplicate(y)
    np.testing.assert_array_equal(copy.deepcopy(y.detach()).data, y.data)


@every_optimizer
def test_tied_data_stays_tied(make):
    net = Net()
    optimizer = make(net.parameters())
    pairs = [(net, optimizer)]
    for _ in range(3):
        pairs.append(copy.deepcopy(pairs[-1]))
        for each, its_optimizer in pairs:
            step(each, its_optimizer)
            first, second = each.first.weight, each.second.weight
            assert np.shares_memory(first.data, second.data) and first.data.ctypes.data == second.data.ctypes.data
            assert not np.shares_memory(first.grad, second.grad)


@pytest.mark.parametrize("view", [lambda w: w.T, lambda w: w[:], lambda w: w[:, 1:3]])
def test_data_tied_by_a_view_stays_tied(view):
    first = nn.Parameter(np.ones((4, 4), np.float32))
    second = nn.Parameter(view(first.data))
    optimizer = in_arena([first, second, nn.Parameter(np.ones(3, np.float32))])
    first.grad, second.grad = np.ones_like(first.data), np.ones_like(second.data)
    optimizer.step()
    assert np.shares_memory(first.data, second.data) and not (first.data == 1.0).any()


def test_half_of_a_tie_is_not_moved_into_an_arena():
    first = nn.Parameter(np.ones(3, np.float32))
    second = nn.Parameter(first.data)
    with pytest.raises(ValueError, match="shares its data with a parameter that is not in the arena"):
        optim.AdamW([first, second], arena=optim.GradientArena([first]))
    assert first.data is second.data


def test_a_tie_made_after_the_arena_is_refused():
    first, second = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.zeros(3, np.float32))
    optimizer = in_arena([("first", first), ("second", second)])
    second.data = first.data
    with pytest.raises(ValueError, match="the data of second has been a part of another parameter's"):
        optimizer.step()
    second.data = np.full(3, 2.0, np.float32)
    first.data = first.data[::-1]  # of its own
    optimizer.step()
    assert second.data.tolist() == [2.0] * 3


def test_a_model_in_an_arena_may_change_its_dtype():
    norm = nn.LayerNorm(4)
    in_arena(norm.named_parameters())
    norm.astype(np.float64)
    norm(mg.tensor(X.astype(np.float64))).sum().backward()
    assert norm.weight.grad.dtype == np.float64


def test_read_only_data_is_refused():
    p = nn.Parameter(np.frombuffer(np.ones(3, np.float32).tobytes(), np.float32))
    p.grad = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"0\.0 is read-only"):
        optim.AdamW([p]).step()


def test_tied_data_stays_tied_in_another_dtype():
    net = Net().astype(np.float64)
    assert net.first.weight.data is net.second.weight.data and net.first.weight.dtype == np.float64


@pytest.mark.compiler
def test_tied_data_stays_tied_on_a_device():
    runtime.require("cuda-sim")
    net = Net().to(runtime.asarray("cuda-sim"))
    optimizer = MAKERS["adamw in an arena"](net.parameters())
    assert net.first.weight.data is net.second.weight.data
    before = net.first.weight.data.get()
    net.first.weight.grad = net.second.weight.grad = net.first.weight.data * 0 + 1
    optimizer.step()
    assert net.first.weight.data is net.second.weight.data
    assert not np.array_equal(net.first.weight.data.get(), before)


def test_hooks_get_copies():
    net, seen = Net(), []
    in_arena(net.parameters())
    for p in net.parameters():
        p.register_hook(seen.append)
    net(mg.tensor(X)).backward()
    before = [grad.copy() for grad in seen]
    net(mg.tensor(X)).backward()
    for grad, copied in zip(seen, before, strict=False):
        np.testing.assert_array_equal(grad, copied)
        assert not any(np.shares_memory(grad, p.grad) for p in net.parameters())


def test_an_arena_of_other_parameters_is_refused():
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    with pytest.raises(ValueError, match="the arena holds b, which is no parameter of this optimizer"):
        optim.AdamW([("a", p)], arena=optim.GradientArena([("a", p), ("b", q)]))


# --------------------------------------------------------------------- written between forward and backward


WRITES = {
    "adamw": lambda net: MAKERS["adamw"](net.parameters()).step,
    "adamw in an arena": lambda net: MAKERS["adamw in an arena"](net.parameters()).step,
    "sgd": lambda net: MAKERS["sgd"](net.parameters()).step,
    "load_state_dict": lambda net: lambda: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}),
}


class Plain(nn.Module):
    def __init__(self):
        self.fc, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.fc(x)).sum()


@pytest.mark.parametrize("retain_graph", [False, True])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_weight_written_between_forward_and_backward_is_refused(write, retain_graph):
    net = Plain()
    change = write(net)
    loss = net(mg.tensor(X))
    if retain_graph:
        loss.backward(retain_graph=True)
    else:
        for p in net.parameters():
            p.grad = np.ones_like(p.data)
    change()
    with pytest.raises(RuntimeError, match=r"load_state_dict, .* has changed since the forward"):
        loss.backward()
    net.zero_grad()
    net(mg.tensor(X)).backward()  # a new forward pass is as good as any


@pytest.mark.parametrize("view", [lambda w: w, lambda w: w.T, lambda w: w[:, :4], lambda w: w.reshape(4, 4)])
def test_a_saved_view_of_a_weight_counts_too(view):
    x, w = mg.tensor(X, requires_grad=True), nn.Parameter(np.eye(4, dtype=np.float32))
    loss = (x @ view(w)).sum()
    w.grad = np.ones_like(w.data)
    optim.SGD([w]).step()
    with pytest.raises(RuntimeError, match="matmul saved 'b'"):
        loss.backward()


def test_a_weight_from_which_something_is_recomputed_counts_too():
    """The norm's output is not saved for the layer behind it, but computed again, from weight and bias."""
    x, norm, fc = mg.tensor(X, requires_grad=True), nn.LayerNorm(4), nn.Linear(4, 2)
    loss = fc(norm(x)).sum()
    norm.bias.grad = np.ones(4, np.float32)
    optim.SGD([norm.bias]).step()
    with pytest.raises(RuntimeError, match="linear saved 'x'"):
        loss.backward()


def test_a_norm_changed_before_the_next_layer_is_not_recomputed():
    x, norm, fc = mg.tensor(X, requires_grad=True), nn.LayerNorm(4), nn.Linear(4, 2)
    hidden = norm(x)
    expected = hidden.data.sum(axis=0)
    norm.bias.grad = np.ones(4, np.float32)
    optim.SGD([norm.bias], 1.0).step()
    fc(hidden).sum().backward()  # right: it saw the output of the old norm
    np.testing.assert_allclose(fc.weight.grad, [expected, expected], rtol=1e-5)


def test_a_weight_that_is_gathered_into_an_arena_counts_too():
    w, b = nn.Parameter(np.eye(4, dtype=np.float32)), nn.Parameter(np.zeros(4, np.float32))
    optimizer = in_arena([w, b])
    loss = F.linear(mg.tensor(X, requires_grad=True), w, b).sum()
    w.data = np.zeros((4, 4), np.float32)
    optimizer.step()
    with pytest.raises(RuntimeError, match="linear saved 'weight'"):
        loss.backward()


def test_arrays_in_a_tuple_count_too():
    w = nn.Parameter(np.ones(4, np.float32))
    loss = mg.record(w.data * w.data, (w,), pair_backward, pair=(w.data, 2.0)).sum()
    w.grad = np.ones(4, np.float32)
    optim.SGD([w]).step()
    with pytest.raises(RuntimeError, match="pair saved 'pair'"):
        loss.backward()


def pair_backward(dout, pair):
    return dout * pair[1] * pair[0]


def test_in_an_arena_too_other_weights_do_not_matter():
    a, b = Plain(), Plain()
    optimizer = in_arena([*a.parameters(), *b.parameters()])
    loss = a(mg.tensor(X))
    for parameter in b.parameters():
        parameter.grad = np.ones_like(parameter.data)
    optimizer.step()
    b.load_state_dict(b.state_dict())
    loss.backward()
    assert a.fc.weight.grad is not None


def test_after_an_exception_a_node_is_not_used_again():
    x, w, calls = nn.Parameter(np.ones((5, 4), np.float32)), nn.Parameter(np.ones((6, 4), np.float32)), []
    loss = F.linear_cross_entropy(x * 1.0, w, np.arange(5))

    def fail_once(grad):
        calls.append(grad)
        if len(calls) == 1:
            raise KeyboardInterrupt

    w.register_hook(fail_once)
    with pytest.raises(KeyboardInterrupt):
        loss.backward(np.float32(0.5))
    with pytest.raises(RuntimeError, match="has been through backward"):
        loss.backward(np.float32(0.5))


def test_weights_that_take_no_part_do_not_matter():
    a, b = Plain(), Plain()
    table, bias = nn.Embedding(5, 4), nn.Parameter(np.zeros(4, np.float32))
    loss = a(table(np.arange(5)) + bias)
    unsaved = table.weight, bias, a.fc.bias  # their gradients do not depend on them
    for parameter in (*b.parameters(), *unsaved):
        parameter.grad = np.ones_like(parameter.data)
    optim.AdamW([*b.parameters(), *unsaved]).step()
    b.load_state_dict(b.state_dict())
    loss.backward()
    assert a.fc.weight.grad is not None and table.weight.grad is not None
