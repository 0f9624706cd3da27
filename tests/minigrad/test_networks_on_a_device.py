"""Layers, attention, losses, convolution and pooling give on a device what they give on the CPU, and stay there."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, runtime

pytestmark = pytest.mark.compiler
F = mg.F
CALLS = {
    "layer_norm": lambda x: F.layer_norm(x, (4, 4)), "rms_norm": lambda x: F.rms_norm(x, 4),
    "embedding": lambda x: F.embedding([[1, 0], [2, 1]], x[0], padding_idx=1),
    "softmax": lambda x: F.softmax(x, dim=1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention, masked": lambda x: F.scaled_dot_product_attention(x, x, x, np.arange(16).reshape(4, 4) < 8),
    "attention, another size": lambda x: F.scaled_dot_product_attention(x, x, x[:, :, :2], is_causal=True),
    "attention, groups": lambda x: F.scaled_dot_product_attention(mg.concatenate([x, x]), x, x, enable_gqa=True),
    "attention, float mask": lambda x: F.scaled_dot_product_attention(x, x, x, x[0]),
    "cross_entropy": lambda x: F.cross_entropy(x, [[1, 0, 3, 1], [2, 2, -100, 0], [1, 1, 1, 1]]),
    "cross_entropy, each": lambda x: F.cross_entropy(x[0], [1, 0, -100, 1], reduction="none", label_smoothing=0.1),
    "cross_entropy, weights": lambda x: F.cross_entropy(x[0], [1, 0, 3, 1], mg.exp(x[1, 0]).detach()),
    "cross_entropy, probabilities": lambda x: F.cross_entropy(x, F.softmax(x, dim=1)),
    "nll_loss": lambda x: F.nll_loss(x[0], [1, 0, 3, 1], reduction="sum"),
    "linear_cross_entropy": lambda x: F.linear_cross_entropy(x[0], x[1], [1, 0, 3, 1], linear_bias=x[2, 0]),
    "mse_loss": lambda x: F.mse_loss(x[0], x[1]), "l1_loss": lambda x: F.l1_loss(x[0], x[1]),
    "kl_div": lambda x: F.kl_div(x[0], F.softmax(x[1], dim=0)),
    "conv1d": lambda x: F.conv1d(x, x[:, :, :2], padding=1),
    "conv2d": lambda x: F.conv2d(x[None], x[:, None, :2, :2], stride=2, padding="valid", groups=3),
    "max_pool1d": lambda x: F.max_pool1d(x, 3, 1, 1, return_indices=True)[0],
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 3, 2, 1, True, False),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2, padding=1),
}  # fmt: skip


def both(values):
    runtime.require("cuda-sim")
    values = values.astype(np.float32)
    return mg.tensor(values, requires_grad=True), mg.tensor(runtime.asarray("cuda-sim")(values), requires_grad=True)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_values_and_gradients_are_those_of_the_cpu(call):
    here, there = both(np.random.default_rng(0).standard_normal((3, 4, 4)))
    expected, found = call(here), call(there)
    assert type(found.data) is type(there.data) and found.dtype == expected.dtype
    np.testing.assert_allclose(found.data.get(), expected.data, rtol=2e-5, atol=1e-6)
    upstream = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)
    expected.backward(upstream)
    found.backward(np.asarray(upstream, like=there.data))
    np.testing.assert_allclose(there.grad.get(), here.grad, rtol=2e-5, atol=2e-6)


def test_multihead_attention_on_a_device():
    here, there = both(np.random.default_rng(0).standard_normal((2, 3, 4)))
    module = nn.MultiheadAttention(4, 2, batch_first=True)
    causal = ~np.tri(3, dtype=bool)
    expected = [module(here, here, here, attn_mask=causal, need_weights=need)[0].data for need in (True, False)]
    module.to(runtime.asarray("cuda-sim"))
    for need, values in zip((True, False), expected, strict=True):
        out, _ = module(there, there, there, attn_mask=causal, need_weights=need)
        np.testing.assert_allclose(out.data.get(), values, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("op", [lambda x, ids: F.embedding(ids, x).sum(), F.softmax_cross_entropy])
def test_a_reused_buffer_of_ids_does_not_change_the_gradient_on_a_device(op, where):
    _, x = both(np.random.default_rng(0).standard_normal((3, 3)))
    ids = np.array([1, 2, 1]) if where == "host" else runtime.asarray("cuda-sim")(np.array([1, 2, 1]))
    gradients = []
    for later in (ids, 2**40):
        x.grad, loss = None, op(x, ids)
        ids[...] = later
        loss.backward()
        gradients.append(x.grad.get())
    np.testing.assert_array_equal(*gradients)
