"""Gradients formed in the array where they are summed, and arrays that are computed again instead of being saved."""

import gc
import weakref

import numpy as np
import pytest

import kernels
import minigrad as mg
from kernels import matmul_precision
from minigrad import functional as F
from minigrad import graph, optim
from minigrad.nn import Embedding, LayerNorm, Linear, Module
from minigrad.ops import nn as ops

IDS = np.array([[1, 5, 1, 7], [0, 5, 5, 2]])


class Tied(Module):
    """One table as embedding and as head; GELU between two layers."""

    def __init__(self):
        self.table, self.up, self.down = Embedding(9, 6), Linear(6, 8), Linear(8, 6)

    @classmethod
    def of_seed(cls):
        """Always the same weights."""
        mg.random.seek(0)
        return cls()

    def forward(self, ids):
        x = self.down(F.gelu(self.up(self.table(ids))))
        return F.linear(x, self.table.weight)


def in_arena(model):
    """The model, in an arena that holds something already."""
    for flat in optim.GradientArena(model).gather().flats:
        flat.grad[...] = np.nan
    return model


def gradients(model, times=1, retain_graph=False):
    """Copies of all gradients after that many backward passes."""
    model.zero_grad()
    for i in range(times):
        loss = F.softmax_cross_entropy(model(IDS), np.roll(IDS, i))
        loss.backward(retain_graph=retain_graph)
        if retain_graph:
            loss.backward()
    return {name: p.grad.copy() for name, p in model.named_parameters()}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("large_table", [1, 1000])
@pytest.mark.parametrize("times", [1, 3])
def test_the_bits_are_those_of_gradients_that_are_added_up(times, large_table, monkeypatch):
    monkeypatch.setattr(ops, "LARGE_TABLE", large_table)
    model = Tied()
    monkeypatch.setattr(graph, "observer", lambda node, dout, grads: None)  # then every gradient is an array of its own
    added = gradients(model, times)
    monkeypatch.setattr(graph, "observer", None)
    assert same(gradients(model, times), added)
    assert same(gradients(in_arena(model), times), added)
    if times == 1:
        twice = gradients(model, retain_graph=True)
        assert all(np.allclose(twice[name], 2 * added[name], rtol=1e-5, atol=1e-7) for name in added)


@pytest.mark.parametrize("arena", [False, True])
def test_a_gradient_is_formed_where_it_is_summed(arena, monkeypatch):
    monkeypatch.setattr(ops, "LARGE_TABLE", 1)
    formed, model = [], in_arena(Tied()) if arena else Tied()
    for name in ("linear_backward", "embedding_backward"):
        function = getattr(ops, name)

        def spied(dout, slot, function=function, **saved):
            grads = function(dout, slot=slot, **saved)
            formed.append(grads[1] if type(grads) is tuple else grads)
            return grads

        monkeypatch.setattr(ops, name, graph.accumulates(function.accumulates)(spied))
    gradients(model)
    head, down, up, table = formed
    assert np.shares_memory(down, model.down.weight.grad) and np.shares_memory(up, model.up.weight.grad)
    assert np.shares_memory(head, model.table.weight.grad) == arena  # else the second use makes a new array of the sum
    assert np.shares_memory(table, model.table.weight.grad) == arena


def test_who_observes_sees_the_gradients_of_each_node_alone(monkeypatch):
    """Hooks, observers and steps are to see this node's gradient, not a sum."""
    monkeypatch.setattr(ops, "LARGE_TABLE", 1)
    model, seen = Tied(), []
    expected = gradients(model)
    remove = in_arena(model).down.weight.register_hook(seen.append)
    gradients(model, times=2)
    remove()
    assert len(seen) == 2 and not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], expected["down.weight"])
    model.zero_grad()
    loss, shown = F.softmax_cross_entropy(model(IDS), IDS), {}
    monkeypatch.setattr(graph, "observer", lambda node, dout, grads: shown.setdefault(node.op, []).append(grads))
    loss.backward()
    table = model.table.weight.grad
    assert table is model.table.weight.grad_buffer
    assert shown["embedding"][1][0] is not table and shown["linear"][1][1] is not table
    assert np.array_equal(shown["embedding"][1][0] + shown["linear"][1][1], table)


def past_a_norm(used_before):
    """The gradient of x, which is used by a norm and, before or after it, by a sum."""
    x = mg.tensor(np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4) ** 3, requires_grad=True)
    hidden, norm = x * 2.0, LayerNorm(4)
    beside = F.gelu(hidden) if used_before else hidden
    normal = norm(hidden)
    beside = beside if used_before else F.gelu(hidden)
    (beside * normal).sum().backward()
    return x.grad, norm.weight.grad


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("used_before", [False, True])
def test_layernorm_adds_the_gradient_of_the_residual_connection(used_before, kernel_set, monkeypatch):
    """If that is there already; and not while the pass is observed."""
    given, function = [], ops.layernorm_backward

    def spied(dout, slot=graph.NO_SLOT, **saved):
        residual = slot.grad
        given.append(None if residual is None else (residual, residual.copy()))
        return function(dout, slot=slot, **saved)

    monkeypatch.setattr(ops, "layernorm_backward", graph.accumulates(function.accumulates)(spied))
    with kernels.use(kernel_set):
        added = past_a_norm(used_before)
        monkeypatch.setattr(graph, "observer", lambda node, dout, grads: None)
        plain = past_a_norm(used_before)
    first, second = given
    assert (first is None, second) == (used_before, None)
    assert first is None or np.array_equal(*first)  # it may be others' too
    for a, b in zip(added, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize(
    "operation", [F.gelu, LayerNorm(4), LayerNorm(4, bias=False)], ids=["gelu", "layernorm", "unbiased"]
)
def test_what_costs_little_is_not_kept_for_a_linear_layer(operation, kernel_set):
    x = mg.tensor(np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4) ** 3, requires_grad=True)
    layer = Linear(4, 2)
    with kernels.use(kernel_set):
        hidden = operation(x)
        array, kept = weakref.ref(hidden.data), hidden.data.copy()
        out = layer(hidden)
        del hidden
        gc.collect()
        assert array() is None
        assert np.array_equal(out.node.saved["x"], kept)  # who looks at it sees it
        out.backward(np.ones((3, 2), np.float32))
    assert np.allclose(layer.weight.grad, np.ones((2, 3), np.float32) @ kept)


# ------------------------------------------------------------------------------------------- kept at half the size


class Block(Module):
    """What a transformer layer keeps: norm, qkv, attention, projection, gelu between two layers."""

    def __init__(self):
        self.ln, self.qkv, self.proj = LayerNorm(8), Linear(8, 24), Linear(8, 8)
        self.up, self.down = Linear(8, 32), Linear(32, 8)

    def forward(self, x):
        x = x + self.proj(F.causal_self_attention(self.qkv(self.ln(x)), 2))
        return x + self.down(F.gelu(self.up(self.ln(x))))


def kept_bytes(out):
    """Of the arrays that backward of a Tensor would need, each once; weights, which are kept anyway, left out."""
    arrays, todo = {}, [value for node in graph.ancestors(out.node) for value in node._saved.values()]
    for value in todo:
        if type(value) is graph.Recompute:
            todo.extend(value.args)
        elif isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[1] == 16:  # (B, T, C)
            arrays[id(value)] = value.nbytes
    return sum(arrays.values())


@pytest.fixture
def bfloat16_operands():
    matmul_precision.select("bfloat16")
    yield
    matmul_precision.select("float32")


def test_what_is_kept_takes_half_the_memory_where_products_round(bfloat16_operands):
    block = Block()
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 16, 8), dtype=np.float32), requires_grad=True)
    dout = np.random.default_rng(1).standard_normal((2, 16, 8), dtype=np.float32)
    with kernels.use("reference"):  # any processor has these
        found = {}
        for dtype in ("float32", "bfloat16"):
            matmul_precision.select(dtype)
            out = block(x)
            found[dtype] = kept_bytes(out)
            assert all(v.dtype == np.float32 for n in graph.ancestors(out.node) for v in n.saved.values()
                       if isinstance(v, np.ndarray))  # fmt: skip
            out.backward(dout)
            found[dtype, "grads"] = [x.grad, *(p.grad for p in block.parameters())]
            x.grad = None
            for p in block.parameters():
                p.grad = None
        with mg.no_grad():
            assert block(x).node is None
    assert found["bfloat16"] == found["float32"] / 2
    for exact, rounded in zip(found["float32", "grads"], found["bfloat16", "grads"], strict=True):
        assert np.abs(rounded - exact).max() < 2e-2 * np.abs(exact).max()
    assert not np.array_equal(found["float32", "grads"][0], found["bfloat16", "grads"][0])


# ------------------------------------------------------------------------------------------- formed in forward


def head_loss(model, i=0):
    """The loss by the fused head, tied to the table; two gradients come to the table."""
    x = model.down(F.gelu(model.up(model.table(IDS))))
    return F.linear_cross_entropy(x, model.table.weight, np.roll(IDS, i))


def collected(model):
    grads = {name: p.grad.copy() for name, p in model.named_parameters()}
    model.zero_grad()
    return grads


def separate_losses(numbers, scale=1.0):
    """The sum of the gradients of several losses, each alone in a model of its own."""
    total = {}
    for i in numbers:
        model = Tied.of_seed()
        head_loss(model, i).backward(np.float32(scale))
        for name, grad in collected(model).items():
            total[name] = total[name] + grad if name in total else grad
    return total


def close(a, b):
    return all(np.allclose(a[name], b[name], rtol=1e-5, atol=1e-8) for name in b)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_gradient_is_formed_in_forward_where_it_is_summed(kernel_set, scale):
    with kernels.use(kernel_set):
        alone, model = separate_losses([0], scale), in_arena(Tied.of_seed())
        weight, loss = model.table.weight, head_loss(model)
        assert weight.grad is None and np.isfinite(weight.grad_buffer).all()
        assert np.shares_memory(loss.node.saved["dweight"], weight.grad_buffer)
        loss.backward(np.float32(scale))
        assert weight.grad is weight.grad_buffer
        assert same(collected(model), alone)


@pytest.mark.parametrize("arena", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_gradients_formed_in_forward_are_added_up_in_any_order(arena, order):
    model = in_arena(Tied.of_seed()) if arena else Tied.of_seed()
    losses = [head_loss(model, i) for i in range(3)]
    for i in order:
        losses[i].backward()
    assert close(collected(model), separate_losses(range(3)))


def test_a_forgotten_loss_or_gradient_does_no_harm():
    model = in_arena(Tied.of_seed())
    loss = head_loss(model)
    model.zero_grad()
    other = head_loss(model, 1)
    other.backward()
    model.zero_grad()  # the gradient of `loss` is still to come
    loss.backward()
    assert same(collected(model), separate_losses([0]))
    head_loss(model, 2)  # never used: its array is free again
    head_loss(model, 1).backward()
    assert model.table.weight.grad is model.table.weight.grad_buffer
    assert same(collected(model), separate_losses([1]))


def test_a_gradient_formed_in_forward_is_not_mixed_up_with_one_that_was_gathered():
    """The optimizer copies a gradient from elsewhere into that place: the waiting one is lost, and backward says so."""
    model = Tied.of_seed()
    arena = optim.GradientArena(model)
    optimizer = optim.AdamW(model.named_parameters(), arena=arena)
    loss, other = head_loss(model), head_loss(model, 1)
    other.backward()
    optimizer.grad_norm()
    with pytest.raises(RuntimeError, match="linear_cross_entropy saved 'dweight'"):
        loss.backward()


@pytest.mark.parametrize("arena", [False, True])
@pytest.mark.parametrize("observed", [False, True])
def test_what_was_formed_in_forward_serves_several_backwards(observed, arena, monkeypatch):
    model, alone = Tied.of_seed(), separate_losses([0])
    if arena:
        in_arena(model)
    if observed:
        monkeypatch.setattr(graph, "observer", lambda node, dout, grads: None)
    loss = head_loss(model)
    loss.backward(retain_graph=True)
    assert same({name: p.grad for name, p in model.named_parameters()}, alone)
    loss.backward(retain_graph=True)
    loss.backward()
    thrice = collected(model)
    assert all(np.allclose(thrice[name], 3 * alone[name], rtol=1e-6) for name in alone)


def test_a_leaf_with_hooks_gets_arrays_of_its_own():
    model, alone, seen = in_arena(Tied.of_seed()), separate_losses([0]), []
    loss = head_loss(model)
    model.table.weight.register_hook(seen.append)  # between forward and backward
    loss.backward()
    buffer = model.table.weight.grad_buffer
    assert len(seen) == 1 and not any(np.shares_memory(grad, buffer) for grad in seen)
    assert close(collected(model), alone)
    loss = head_loss(model)
    assert not np.shares_memory(loss.node.saved["dweight"], buffer)
    loss.backward()
    assert close(collected(model), alone)
