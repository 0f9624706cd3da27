"""Rules that put a gradient where the optimizer keeps it, and arrays that are made again instead of being kept."""

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

    def forward(self, ids):
        x = self.down(F.gelu(self.up(self.table(ids))))
        return F.linear(x, self.table.weight)


def gradients(model, times=1, optimizer=False, retain_graph=False):
    """Copies of all gradients after that many backward passes."""
    if optimizer:
        optim.AdamW(model.named_parameters())
        for parameter in model.parameters():
            parameter.grad_buffer = np.full(parameter.shape, np.nan, np.float32)  # whatever was left there
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
    plain = gradients(model, times)
    assert same(gradients(model, times, optimizer=True), plain)
    if times == 1:
        twice = gradients(model, optimizer=True, retain_graph=True)
        assert all(np.allclose(twice[name], 2 * plain[name], rtol=1e-5, atol=1e-7) for name in plain)


def test_a_gradient_is_written_where_it_is_kept(monkeypatch):
    monkeypatch.setattr(ops, "LARGE_TABLE", 1)
    given, model = [], Tied()
    for name in ("linear_backward", "embedding_backward"):
        rule = getattr(ops, name)

        def spied(dout, into=None, rule=rule, **saved):
            given.append(into)
            return rule(dout, **saved, into=into)

        monkeypatch.setattr(ops, name, graph.takes_into(rule.takes_into)(spied))
    gradients(model, optimizer=True)
    head, down, up, table = given
    assert head[0] is table[0] is model.table.weight.grad and (head[1], table[1]) == (False, True)
    assert down[0] is model.down.weight.grad and up[0] is model.up.weight.grad


def test_nothing_is_put_in_place_where_somebody_looks(monkeypatch):
    """Hooks, watchers and steps are to see this rule's gradient, not a sum."""
    monkeypatch.setattr(ops, "LARGE_TABLE", 1)
    model, seen = Tied(), []
    expected = gradients(model)
    model.down.weight.register_hook(lambda grad: seen.append(grad.copy()))
    gradients(model, times=2, optimizer=True)
    assert len(seen) == 2 and not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], expected["down.weight"])
    model.zero_grad()
    loss, shown = F.softmax_cross_entropy(model(IDS), IDS), {}
    monkeypatch.setattr(graph, "watcher", lambda node, dout, grads: shown.setdefault(node.op, []).append(grads))
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
def test_a_rule_adds_to_the_gradient_that_came_past_it(used_before, kernel_set, monkeypatch):
    """Which the last of the rules does that use x; where somebody looks, none does."""
    given, rule = [], ops.layernorm_backward

    def spied(dout, beside=None, **saved):
        given.append(None if beside is None else (beside, beside.copy()))
        return rule(dout, **saved, beside=beside)

    monkeypatch.setattr(ops, "layernorm_backward", graph.adds_to(rule.adds_to)(spied))
    with kernels.use(kernel_set):
        added = past_a_norm(used_before)
        monkeypatch.setattr(graph, "watcher", lambda node, dout, grads: None)
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
        assert np.array_equal(out.node.saved["x"], kept)  # to whoever looks, it is there
        out.backward(np.ones((3, 2), np.float32))
    assert np.allclose(layer.weight.grad, np.ones((2, 3), np.float32) @ kept)


def test_what_a_recipe_needs_must_not_have_been_overwritten():
    x = mg.tensor(np.ones((3, 4), np.float32), requires_grad=True)
    out = Linear(4, 2)(F.gelu(x))
    graph.mark_overwritten(x.data)
    with pytest.raises(RuntimeError, match="saved array 'x' was overwritten"):
        out.backward(np.ones((3, 2), np.float32))


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
        if type(value) is graph.Recipe:
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
        with graph.no_grad():
            assert block(x).node is None
    assert found["bfloat16"] == found["float32"] / 2
    for exact, rounded in zip(found["float32", "grads"], found["bfloat16", "grads"], strict=True):
        assert np.abs(rounded - exact).max() < 2e-2 * np.abs(exact).max()
    assert not np.array_equal(found["float32", "grads"][0], found["bfloat16", "grads"][0])


# ------------------------------------------------------------------------------------------- formed in forward


def head_loss(model, i=0, overwrite=True):
    """The loss by the fused head, tied to the table; two gradients come to the table."""
    x = model.down(F.gelu(model.up(model.table(IDS))))
    return F.linear_cross_entropy(x, model.table.weight, np.roll(IDS, i), overwrite_grads=overwrite)


def kept_by_an_optimizer(model):
    optimizer = optim.AdamW(model.named_parameters())
    for parameter in model.parameters():
        parameter.grad_buffer[...] = np.nan  # whatever was left there
    return optimizer


def collected(model):
    grads = {name: p.grad.copy() for name, p in model.named_parameters()}
    model.zero_grad()
    return grads


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_gradient_is_formed_in_forward_where_it_is_kept(kernel_set, scale):
    model = Tied()
    with kernels.use(kernel_set):
        head_loss(model, overwrite=False).backward(np.float32(scale))
        plain = collected(model)
        kept_by_an_optimizer(model)
        weight, loss = model.table.weight, head_loss(model)
        assert weight.grad is None and np.isfinite(weight.grad_buffer).all()
        assert loss.node.saved["dweight"] is weight.grad_buffer
        loss.backward(np.float32(scale))
        assert weight.grad is weight.grad_buffer and weight.loan is None
        assert same(collected(model), plain)


def test_gradients_formed_in_forward_are_added_up():
    model = Tied()
    for i in range(3):
        head_loss(model, i, overwrite=False).backward()
    plain = collected(model)
    kept_by_an_optimizer(model)
    for i in range(3):
        head_loss(model, i).backward()
    assert same(collected(model), plain)
    losses = [head_loss(model, i) for i in range(3)]  # only the first finds room
    for loss in losses:
        loss.backward()
    assert same(collected(model), plain)
    losses = [head_loss(model, i) for i in range(3)]
    for loss in losses[1:] + losses[:1]:  # others come before what was lent is handed over
        loss.backward()
    again = collected(model)
    assert all(np.allclose(again[name], plain[name], rtol=1e-5, atol=1e-8) for name in plain)


@pytest.mark.parametrize("looked_at", [False, True])
def test_what_was_formed_in_forward_serves_a_second_backward(looked_at, monkeypatch):
    model = Tied()
    head_loss(model, overwrite=False).backward()
    plain = collected(model)
    kept_by_an_optimizer(model)
    if looked_at:
        monkeypatch.setattr(graph, "watcher", lambda node, dout, grads: None)
    loss = head_loss(model)
    loss.backward(retain_graph=True)
    assert same({name: p.grad for name, p in model.named_parameters()}, plain)
    loss.backward()
    twice = collected(model)
    assert all(np.allclose(twice[name], 2 * plain[name], rtol=1e-6) for name in plain)


def test_a_gradient_formed_in_forward_that_is_gone_is_not_used():
    model = Tied()
    optimizer = kept_by_an_optimizer(model)
    loss = head_loss(model)
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="formed in forward, and since then replaced or forgotten"):
        loss.backward()
    optimizer.zero_grad()
    loss, other = head_loss(model), head_loss(model, 1)
    other.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="formed in forward, and since then replaced or forgotten"):
        loss.backward()


def test_nothing_is_lent_without_an_optimizer_or_to_who_has_hooks():
    model = Tied()
    assert head_loss(model).node.saved["dweight"] is not None and model.table.weight.loan is None
    kept_by_an_optimizer(model)
    model.table.weight.register_hook(lambda grad: None)
    head_loss(model).backward()
    assert model.table.weight.loan is None and np.isfinite(model.table.weight.grad).all()
