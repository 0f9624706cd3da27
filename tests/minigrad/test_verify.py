"""`debug.verify` passes right graphs, and names the first node with a wrong gradient, kernel or saved array."""

import numpy as np
import pytest

import kernels
from minigrad import functional as F
from minigrad import random
from minigrad._tensor import Tensor
from minigrad.debug import VerificationError, check_mode, verify
from minigrad.ops import elementwise, nn
from tiny_transformer_np import TransformerConfig, TransformerLM


def small_model(dtype="float32", **settings):
    random.seek(0)
    config = TransformerConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16, dropout=0.1, **settings)
    model = TransformerLM(config).astype(dtype)
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    with check_mode():
        return model, model(ids[:, :-1], ids[:, 1:])


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sound_model_passes_and_is_left_as_it_was(kernel_set, dtype):
    with kernels.use(kernel_set):
        model, loss = small_model(dtype, tie_weights=False)
        before = [parameter.data.copy() for parameter in model.parameters()]
        assert verify(loss) == len([node for node in _nodes(loss) if node.call])
        assert verify(loss, n_nodes=3) == 3
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(np.array_equal(a, p.data) for a, p in zip(before, model.parameters(), strict=True))
        loss.backward()  # nothing was used up


def _nodes(loss):
    from minigrad.graph import ancestors

    return ancestors(loss.node)


def wrong(function, change):
    def changed(*args, **kwargs):
        return change(function(*args, **kwargs))

    changed.__name__ = function.__name__
    return changed


@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_backward_function_is_named(monkeypatch, seed):
    monkeypatch.setattr(nn, "gelu_backward", wrong(nn.gelu_backward, lambda dx: dx * np.asarray(1.001, dx.dtype)))
    _, loss = small_model()
    with pytest.raises(VerificationError, match=r"gelu in blocks\.1\.mlp.*numerical gradient") as caught:
        verify(loss, seed=seed)
    assert caught.value.node.op == "gelu" and caught.value.check == "numerical gradient"
    assert "model.py" in str(caught.value) and "F.gelu" in str(caught.value)


def test_a_saved_array_that_was_changed_is_noticed():
    _, loss = small_model()
    node = next(node for node in _nodes(loss) if node.op == "layernorm" and node.module == "blocks.0.ln2")
    node.saved["rstd"][0, 3] *= 1.01
    with pytest.raises(VerificationError, match=r"blocks\.0\.ln2.*gradient of input 0") as caught:
        verify(loss)
    assert caught.value.check == "gradient"


@pytest.mark.parametrize(("kernel", "check"), [("gelu_forward", "output"), ("gelu_backward", "gradient")])
def test_a_wrong_fast_kernel_is_noticed(monkeypatch, kernel, check):
    fast = kernels.backend("cpu")
    original = getattr(fast, kernel)
    monkeypatch.setattr(fast, kernel, lambda *args: original(*args) + np.float32(1e-4))
    _, loss = small_model()
    with pytest.raises(VerificationError, match="gelu") as caught:
        verify(loss)
    assert caught.value.check == check


def test_a_lost_broadcast_sum_is_noticed(monkeypatch):
    def add_backward(dout, a_shape, b_shape):
        return elementwise.unbroadcast(dout, a_shape), dout[0] if dout.shape != b_shape else dout

    monkeypatch.setattr(elementwise, "add_backward", add_backward)
    _, loss = small_model()
    with pytest.raises(VerificationError, match="add"):
        verify(loss)


def test_a_graph_made_outside_check_mode_is_refused():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ValueError, match="check_mode"):
        verify(F.exp(x).sum())
