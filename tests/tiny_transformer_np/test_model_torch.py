"""The model against the same one written in PyTorch with the same weights: loss, gradients, training.

In float64 all is equal to its last digits; in float32 and bfloat16 losses stay together for hundreds of steps.
"""

import contextlib
import math
from pydoc_data.topics import topics

import numpy as np
import pytest
from small_models import batch_of, make_model

import kernels
from minigrad import optim, runtime
from tiny_transformer_np import CharTokenizer
from tiny_transformer_np.training import TextDataset

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch


def torch_weights(model, dtype="float64"):
    dtype = getattr(torch, dtype)
    return {n: torch.tensor(a, dtype=dtype, requires_grad=True) for n, a in model.state_dict().items()}


def torch_loss(w, config, ids, targets):
    """The whole model as a function of its weights by name."""
    ids, targets = torch.as_tensor(ids), torch.as_tensor(targets)
    B, T = ids.shape
    C, H, F = config.n_embd, config.n_head, torch.nn.functional

    def linear(name, x):
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(name, x):
        return F.layer_norm(x, (C,), w[f"{name}.weight"], w.get(f"{name}.bias"), 1e-5)

    x = F.embedding(ids, w["token_embedding.weight"])
    x = x + (w["position_embedding.weight"][:T] if config.positions == "learned" else torch_sinusoids(T, C))
    for i in range(config.n_layer):
        b = f"blocks.{i}"
        q, k, v = linear(f"{b}.attn.qkv", norm(f"{b}.ln1", x)).view(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(f"{b}.attn.proj", y.transpose(1, 2).reshape(B, T, C))
        hidden = F.gelu(linear(f"{b}.mlp.fc", norm(f"{b}.ln2", x)), approximate=config.gelu)
        x = x + linear(f"{b}.mlp.proj", hidden)
    logits = F.linear(norm("ln_final", x), w["token_embedding.weight" if config.tie_weights else "head.weight"])
    return F.cross_entropy(logits.reshape(B * T, -1), targets.reshape(-1), ignore_index=-100)


def torch_sinusoids(T, C):
    """Sine and cosine in turn, float32 as the model keeps them."""
    angle = torch.arange(T)[:, None] / 10000.0 ** (torch.arange(0, C, 2, dtype=torch.float64) / C)
    table = torch.stack((angle.sin(), angle.cos()), -1).reshape(T, C) * (0.02 * math.sqrt(2))
    return table.float().double()


def decayed(model, name):
    """What decays, said another way than `decay_groups`: weights of linear layers."""
    return name.endswith((".qkv.weight", ".proj.weight", ".fc.weight")) or name == "head.weight"


VARIANTS = {
    "gpt2": {},
    "nanogpt": {"bias": False},
    "untied": {"tie_weights": False},
    "vaswani": {"positions": "sinusoidal", "gelu": "none", "tie_weights": False},
}


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_all_gradients(variant, kernel_set):
    model = make_model(dtype=np.float64, vocab_size=37, block_size=67, n_embd=24, n_head=3, **VARIANTS[variant])
    rng = np.random.default_rng(1)
    for parameter in model.parameters():  # zero biases and unit norms would hide a missing one
        parameter.data += 0.1 * rng.standard_normal(parameter.shape)
    ids, targets = batch_of(model.config, B=3)
    targets[1, 5:9] = -100
    weights = torch_weights(model)
    theirs = torch_loss(weights, model.config, ids, targets)
    theirs.backward()
    with kernels.use(kernel_set):
        ours = model(ids, targets)
        ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    for name, parameter in model.named_parameters():
        expected = weights[name].grad.numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-10, atol=1e-11 * scale, err_msg=name)


def torch_adamw(model, weights, learning_rate):
    """PyTorch's optimizer with our settings."""
    decay = [p for name, p in weights.items() if decayed(model, name)]
    keep = [p for name, p in weights.items() if not decayed(model, name)]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": keep, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), eps=1e-8)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("tie_weights", [True, False])
def test_twenty_steps_of_training(kernel_set, tie_weights):
    """AdamW with decay groups and clipping ends at PyTorch's weights."""
    model = make_model(dtype=np.float64, tie_weights=tie_weights)
    weights = torch_weights(model)
    theirs = torch_adamw(model, weights, 1e-2)
    ours = optim.AdamW(optim.decay_groups(model, 0.1), 1e-2, betas=(0.9, 0.95), eps=1e-8)
    clipped = 0
    with kernels.use(kernel_set):
        for step in range(20):
            ids, targets = batch_of(model.config, B=4, seed=step)
            theirs.zero_grad()
            torch_loss(weights, model.config, ids, targets).backward()
            norm = torch.nn.utils.clip_grad_norm_(weights.values(), 0.5).item()
            theirs.step()
            ours.zero_grad()
            model(ids, targets).backward()
            assert ours.grad_norm() == pytest.approx(norm, rel=1e-8)
            ours.step(norm=ours.grad_norm(), max_norm=0.5)
            clipped += norm > 0.5
    assert 0 < clipped < 20  # both with and without clipping
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.data, weights[name].detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype, allowed", [("float32", 1e-4), pytest.param("bfloat16", 5e-3, marks=pytest.mark.bfloat16)]
)
def test_two_hundred_steps_on_text(dtype, allowed):
    """From the same weights, on the same batches: the losses are equal to within `allowed`, relative, in every step."""
    text = "".join(topics.values())[:200_000]
    tokenizer = CharTokenizer.from_text(text)
    dataset = TextDataset(tokenizer.encode(text), tokenizer, 64, stride=1)
    model = make_model(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=4, n_embd=128, n_head=4)
    weights = torch_weights(model, "float32")
    theirs = torch_adamw(model, weights, 1e-3)
    ours = optim.AdamW(optim.decay_groups(model, 0.1), 1e-3, betas=(0.9, 0.95), eps=1e-8)
    assert runtime.set_matmul_precision(dtype) == dtype
    losses = []
    try:
        for step in range(200):
            ids, targets = dataset.batch(step, 12, seed=0)
            theirs.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                their_loss = torch_loss(weights, model.config, ids, targets)
            their_loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            theirs.step()
            ours.zero_grad()
            loss = model(ids, targets)
            loss.backward()
            ours.step(norm=ours.grad_norm(), max_norm=1.0)
            losses.append((loss.item(), their_loss.item()))
    finally:
        runtime.set_matmul_precision("float32")
    assert losses[-1][0] < 0.7 * losses[0][0]  # it did learn
    worst = max(abs(a - b) / b for a, b in losses)
    assert worst <= allowed, f"step {max(range(200), key=lambda i: abs(losses[i][0] - losses[i][1]))}: {worst:.2g}"
