"""TransformerLM: its shapes, its first weights, causality, and its random numbers."""

import math
import sys

import numpy as np
import pytest
from small_models import batch_of, make_model, model_config, same_bits

import kernels
import minigrad
from minigrad import random
from minigrad.graph import Node


def n_parameters(c):
    """Counted by hand: embeddings, then per block two norms, qkv, proj, fc, proj, then the last norm and the head."""
    C, b = c.n_embd, int(c.bias)
    block = 2 * (C + b * C) + (3 * C * C + b * 3 * C) + (C * C + b * C) + (4 * C * C + b * 4 * C) + (4 * C * C + b * C)
    embeddings = c.vocab_size * C + (c.block_size * C if c.positions == "learned" else 0)
    head = 0 if c.tie_weights else c.vocab_size * C
    return embeddings + c.n_layer * block + C + b * C + head


def nodes_below(tensor):
    """Every node of the graph that made a tensor."""
    seen, stack = [], [tensor.node]
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node not in seen:
            seen.append(node)
            stack.extend(node.parents)
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_shapes_and_number_of_parameters(bias, tie_weights, positions):
    model = make_model(bias=bias, tie_weights=tie_weights, positions=positions, n_layer=3)
    ids, _ = batch_of(model.config, B=3, T=5)
    assert model(ids).shape == (3, 5, 11)
    assert model(ids).dtype == np.float32
    assert model.num_parameters() == n_parameters(model.config)


def test_last_only_gives_the_last_logits():
    model = make_model()
    ids, _ = batch_of(model.config)
    last = model(ids, last_only=True)
    assert last.shape == (2, 1, 11)
    np.testing.assert_allclose(last.data, model(ids).data[:, -1:], rtol=1e-5, atol=1e-7)


def test_the_first_loss_is_that_of_guessing():
    model = make_model(vocab_size=65, block_size=32, n_embd=32)
    ids, targets = batch_of(model.config, B=8)
    assert model(ids, targets).item() == pytest.approx(math.log(65), abs=0.05)


def test_the_first_weights_have_gpt2s_spread():
    """N(0, 0.02), the two projections into the stream by sqrt(2 n_layer) smaller; biases 0, norms 1."""
    model = make_model(vocab_size=200, block_size=64, n_embd=64, n_layer=3, tie_weights=False)
    for name, array in model.state_dict().items():
        if ".ln" in name or name.startswith("ln"):
            assert np.all(array == (1.0 if name.endswith("weight") else 0.0)), name
        elif name.endswith("bias"):
            assert np.all(array == 0.0), name
        else:
            std = 0.02 / math.sqrt(6) if name.endswith("proj.weight") else 0.02
            assert array.std() == pytest.approx(std, rel=5 / math.sqrt(2 * array.size)), name  # five sigma
            assert abs(array.mean()) < 5 * std / math.sqrt(array.size), name


def test_tied_weights_are_one_parameter_whose_uses_add_up():
    """The tied gradient is the sum of the embedding's and the head's in an untied model of equal weights."""
    tied, untied = make_model(dtype=np.float64), make_model(dtype=np.float64, tie_weights=False)
    assert "head.weight" not in tied.state_dict()
    weights = {name: array.copy() for name, array in tied.state_dict().items()}
    untied.load_state_dict(weights | {"head.weight": weights["token_embedding.weight"]})
    ids, targets = batch_of(tied.config)
    for model in (tied, untied):
        model(ids, targets).backward()
    as_input, as_output = untied.token_embedding.weight.grad, untied.head.weight.grad
    assert np.abs(as_input).max() > 0 and np.abs(as_output).max() > 0
    np.testing.assert_allclose(tied.token_embedding.weight.grad, as_input + as_output, rtol=1e-12, atol=1e-15)


def test_without_biases_there_are_none():
    assert not [name for name in make_model(bias=False).state_dict() if "bias" in name]
    assert [name for name in make_model(bias=True).state_dict() if "bias" in name]


def test_sinusoidal_positions_are_no_parameters_but_tell_positions_apart():
    model = make_model(positions="sinusoidal")
    assert "position_embedding.weight" not in model.state_dict()
    table = model.sinusoids  # (8, 8): pairs of sine and cosine, of size sqrt(2) 0.02
    np.testing.assert_allclose(table[3, :4] / (0.02 * math.sqrt(2)),
                               [math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)], rtol=1e-6)  # fmt: skip
    logits = model(np.zeros((1, 8), np.int64)).data[0]  # equal tokens: only the position differs
    assert len(np.unique(logits, axis=0)) == 8


def test_more_tokens_than_the_context_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="9 tokens do not fit the model's context of 8"):
        model(np.zeros((1, 9), np.int64))


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_no_position_sees_a_later_one(kernel_set):
    """Changing token s changes no bit of the logits before s, and does change those at s."""
    model = make_model(block_size=70)  # past a tile of the attention kernel
    ids, _ = batch_of(model.config, B=1)
    with kernels.use(kernel_set):
        before = model(ids).data
        for s in range(70):
            changed = ids.copy()
            changed[0, s] = (changed[0, s] + 1) % 11
            after = model(changed).data
            assert after[:, :s].tobytes() == before[:, :s].tobytes(), s
            assert (after[:, s] != before[:, s]).any(), s


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("tie_weights", [True, False])
def test_every_parameter_gets_a_gradient(kernel_set, tie_weights):
    model = make_model(tie_weights=tie_weights, dropout=0.1, vocab_size=5)  # so few that every token occurs
    ids, targets = batch_of(model.config, B=4)
    with kernels.use(kernel_set):
        model(ids, targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == np.float32, name
        assert np.isfinite(parameter.grad).all() and (parameter.grad != 0).any(), name


def test_weights_are_a_function_of_the_seed():
    assert same_bits(make_model(3).state_dict(), make_model(3).state_dict())
    other = make_model(4).state_dict()
    same = [name for name, array in make_model(3).state_dict().items() if np.array_equal(array, other[name])]
    assert all(name.endswith("bias") or "ln" in name for name in same)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_dropout_moves_on_with_each_pass_repeats_after_seek_and_ends_with_eval(kernel_set):
    model = make_model(dropout=0.3)
    ids, _ = batch_of(model.config)
    with kernels.use(kernel_set):
        random.seek(1, step=7)
        first, second = model(ids).data, model(ids).data
        random.seek(1, step=7)
        again = model(ids).data
        random.seek(1, step=7, micro_batch=1)
        other_micro_batch = model(ids).data
        model.eval()
        calm, calm_again = model(ids).data, model(ids).data
    assert first.tobytes() == again.tobytes()
    assert calm.tobytes() == calm_again.tobytes()
    for other in (second, other_micro_batch, calm):
        assert not np.array_equal(first, other)


def test_dropout_differs_from_layer_to_layer():
    """No two uses in a pass share a random position, so no two masks are equal."""
    model = make_model(dropout=0.3, n_layer=3)
    ids, _ = batch_of(model.config)
    streams = [node.saved["stream"] for node in nodes_below(model(ids)) if node.saved.get("p")]
    assert len(streams) == 1 + 3 * 3  # embedding; in each block attention's own and one after each part
    assert len(set(streams)) == len(streams)


def test_eval_model_has_no_dropout_nodes():
    model = make_model(dropout=0.3).eval()
    ids, _ = batch_of(model.config)
    assert not [node for node in nodes_below(model(ids)) if node.op == "dropout" or node.saved.get("p")]


def test_nodes_know_their_module():
    model = make_model()
    ids, targets = batch_of(model.config)
    where = {(node.op, node.module) for node in nodes_below(model(ids, targets))}
    expected = {
        ("embedding", "token_embedding"), ("linear", "blocks.1.attn.qkv"), ("linear", "blocks.0.mlp.fc"),
        ("causal_self_attention", "blocks.1.attn"), ("gelu", "blocks.0.mlp"), ("layernorm", "ln_final"),
    }  # fmt: skip
    assert expected <= where
    assert not any(module.startswith("blocks.2") for _, module in where)


def test_config_of_a_model_is_kept():
    assert make_model(n_layer=1).config == model_config(n_layer=1)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_module_names_do_not_depend_on_the_size_of_the_vocabulary(monkeypatch, tie_weights):
    found = []
    for large in (10**9, 1):
        monkeypatch.setattr("tiny_transformer_np.model.LARGE_VOCABULARY", large)
        model = make_model(tie_weights=tie_weights)
        nodes = nodes_below(model(*batch_of(model.config)))
        found.append({(node.op, node.module) for node in nodes if node.module not in ("head", "TransformerLM")})
        found.append({node.module for node in nodes})
        assert {"blocks.1.attn", "ln_final"} <= found[-1] and "" not in found[-1]
    assert found[:2] == found[2:]


def test_a_breakpoint_in_a_module_is_hit_whatever_the_vocabulary(monkeypatch):
    monkeypatch.setattr("tiny_transformer_np.model.LARGE_VOCABULARY", 1)
    stops = []
    monkeypatch.setattr("builtins.breakpoint", lambda: stops.append(sys._getframe(1).f_locals["step"].module))
    model = make_model()
    with minigrad.break_on(module="blocks.1.attn"):
        model(*batch_of(model.config)).backward()
    assert stops and all(module.startswith("blocks.1.attn") for module in stops)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_a_large_vocabulary_gives_the_same_loss_and_gradients_without_logits(monkeypatch, tie_weights):
    found = []
    for large in (10**9, 1):
        monkeypatch.setattr("tiny_transformer_np.model.LARGE_VOCABULARY", large)
        model = make_model(tie_weights=tie_weights)
        ids, targets = batch_of(model.config)
        loss = model(ids, targets, reduction="sum", grad_scale=0.25)
        shapes = {node.shape for node in nodes_below(loss)}
        assert ((*ids.shape, model.config.vocab_size) in shapes) == (large > 1)
        loss.backward(np.asarray(0.5, loss.dtype))
        found.append({"loss": loss.data, **{name: p.grad for name, p in model.named_parameters()}})
    for name, expected in found[0].items():
        assert np.abs(found[1][name] - expected).max() <= 1e-5 * np.abs(expected).max(), name
