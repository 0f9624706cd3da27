"""A NaN or infinity planted at a node is found at that node, forward or backward; a bad leaf is named as such."""

import sys

import numpy as np
import pytest

import kernels
from minigrad import functional as F
from minigrad import graph, ops, random
from minigrad._tensor import Tensor
from minigrad.debug import find_nonfinite
from tiny_transformer_np import TransformerConfig, TransformerLM


def six_layers():
    random.seek(0)
    config = TransformerConfig(vocab_size=11, block_size=8, n_layer=6, n_head=2, n_embd=16)
    model = TransformerLM(config)
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    return model, lambda: model(ids[:, :-1], ids[:, 1:])


def test_sound_model_has_nothing_to_find():
    model, make_loss = six_layers()
    assert find_nonfinite(make_loss, dict(model.named_parameters())) is None
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("seed", range(20))
def test_planted_in_a_random_output(seed, monkeypatch):
    """The output of the n-th operation gets one bad element, the same in every replay."""
    model, make_loss = six_layers()
    n_nodes = len(graph.ancestors(make_loss().node))
    rng = np.random.default_rng(seed)
    nth, bad = int(rng.integers(n_nodes)), (np.nan, np.inf)[seed % 2]
    original, planted = graph.record, []

    def record(out, parents, backward, saved):
        node = original(out, parents, backward, saved)
        if node is not None:
            planted.append(node)
            if (len(planted) - 1) % n_nodes == nth:
                out.reshape(-1)[int(rng.integers(out.size))] = bad
        return node

    monkeypatch.setattr(graph, "record", record)
    found = find_nonfinite(make_loss, dict(model.named_parameters()))
    assert found.what == "output" and found.node is planted[nth]
    assert f"#{found.node.id} {found.node.op}" in found.message and "input 0" in found.message


@pytest.mark.parametrize("op", ["gelu", "layernorm", "causal_self_attention", "embedding"])
def test_planted_in_a_backward_function(op, monkeypatch):
    model, make_loss = six_layers()
    home = sys.modules[getattr(ops, op).__module__]
    original, calls = getattr(home, f"{op}_backward"), []

    def bad_backward(dout, **saved):
        grads = original(dout, **saved)
        calls.append(1)
        if len(calls) == 2 or op == "embedding":
            (grads[0] if isinstance(grads, tuple) else grads).reshape(-1)[3] = np.nan
        return grads

    bad_backward.__name__ = f"{op}_backward"
    monkeypatch.setattr(home, f"{op}_backward", bad_backward)
    found = find_nonfinite(make_loss, dict(model.named_parameters()))
    assert found.what == "gradient" and found.node.op == op
    module = {"gelu": "blocks.4.mlp", "layernorm": "blocks.5.ln2", "causal_self_attention": "blocks.4.attn"}
    assert found.node.module.endswith(module.get(op, "embedding"))


def test_a_bad_weight_is_named():
    model, make_loss = six_layers()
    model.blocks[2].attn.proj.weight.data[3, 4] = np.inf
    found = find_nonfinite(make_loss, dict(model.named_parameters()))
    assert found.what == "leaf" and "blocks.2.attn.proj.weight" in found.message and "(3, 4)" in found.message


def test_only_the_fast_kernel_is_bad(monkeypatch):
    fast = kernels.backend("cpu")
    model, make_loss = six_layers()
    original = fast.gelu_forward
    monkeypatch.setattr(fast, "gelu_forward", lambda x, approximate: original(x, approximate) * np.float32(np.nan))
    found = find_nonfinite(make_loss, dict(model.named_parameters()))
    assert found.what == "kernel" and found.node.op == "gelu" and "reference kernels stay finite" in found.message
    assert found.node.module == "blocks.0.mlp"
    with kernels.use("reference"):
        assert find_nonfinite(make_loss) is None


def test_a_mask_of_infinities_is_no_fault():
    scores = Tensor(np.zeros((3, 3)), requires_grad=True)
    mask = np.tri(3, dtype=bool)
    assert find_nonfinite(lambda: F.softmax(F.where(mask, scores, -np.inf), dim=-1).sum()) is None


def test_overflow_is_found_where_it_happens_not_where_it_becomes_nan():
    x = Tensor(np.array([1.0, 800.0]), requires_grad=True)
    found = find_nonfinite(lambda: (x.exp() - x.exp()).sum())
    assert found.node.op == "exp" and "800" in found.message
