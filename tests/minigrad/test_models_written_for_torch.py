"""Models and training loops as people write them for PyTorch, run in both libraries: the same losses."""

import contextlib
import copy
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

STEPS = 4


def language_model(torch, nn, F):
    """After minGPT's model.py, https://github.com/karpathy/minGPT."""

    class Attention(nn.Module):
        def __init__(self, C, n_head, block_size):
            super().__init__()
            self.c_attn, self.c_proj, self.n_head = nn.Linear(C, 3 * C), nn.Linear(C, C), n_head
            mask = torch.tril(torch.ones(block_size, block_size))
            self.register_buffer("bias", mask.view(1, 1, block_size, block_size))

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(C, dim=2)
            q, k, v = (y.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for y in (q, k, v))
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = F.softmax(att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf")), dim=-1)
            return self.c_proj((att @ v).transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self, C, n_head, block_size):
            super().__init__()
            self.ln_1, self.attn = nn.LayerNorm(C), Attention(C, n_head, block_size)
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(C, 4 * C), "c_proj": nn.Linear(4 * C, C), "act": nn.GELU()})

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp.c_proj(self.mlp.act(self.mlp.c_fc(x)))

    class Model(nn.Module):
        def __init__(self, V=11, block_size=8, C=8):
            super().__init__()
            self.transformer = nn.ModuleDict({
                "wte": nn.Embedding(V, C), "wpe": nn.Embedding(block_size, C), "ln_f": nn.LayerNorm(C),
                "h": nn.ModuleList([Block(C, 2, block_size) for _ in range(2)]),
            })  # fmt: skip
            self.lm_head = nn.Linear(C, V, bias=False)

        def forward(self, idx, targets):
            pos = torch.arange(0, idx.size(1), dtype=torch.int64).unsqueeze(0)
            x = self.transformer.wte(idx) + self.transformer.wpe(pos)
            for block in self.transformer.h:
                x = block(x)
            logits = self.lm_head(self.transformer.ln_f(x))
            return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

    def batch(rng):
        return rng.integers(0, 11, (3, 8)), np.where(rng.random((3, 8)) < 0.1, -1, rng.integers(0, 11, (3, 8)))

    return Model(), batch, lambda model, *batch: model(*batch)


def image_classifier(torch, nn, F):
    """After PyTorch's MNIST example."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3, 1)
            self.conv2 = nn.Conv2d(4, 6, kernel_size=3, padding=1, bias=False)
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(54, 12), nn.ReLU())
            self.head.add_module("fc2", nn.Linear(12, 5))

        def forward(self, x):
            x = F.max_pool2d(self.conv2(F.relu(self.conv1(x))), 2)
            return F.log_softmax(self.head(x), dim=1)

    def batch(rng):
        return rng.standard_normal((4, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, 4)

    return Net(), batch, lambda model, x, y: F.nll_loss(model(x), y)


def autoencoder(torch, nn, F):
    """After PyTorch's VAE example."""

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc21, self.fc22 = nn.Linear(8, 6), nn.Linear(6, 2), nn.Linear(6, 2)
            self.fc3, self.fc4 = nn.Linear(2, 6), nn.Linear(6, 8)

        def forward(self, x, eps):
            h = F.relu(self.fc1(x.view(-1, 8)))
            mu, logvar = self.fc21(h), self.fc22(h)
            z = mu + eps * torch.exp(0.5 * logvar)
            return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar

    def loss(model, x, eps):
        out, mu, logvar = model(x, eps)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return F.binary_cross_entropy(out, x.view(-1, 8), reduction="sum") + kld

    def batch(rng):
        return rng.random((3, 2, 4)).astype(np.float32), rng.standard_normal((3, 2)).astype(np.float32)

    return VAE(), batch, loss


def lstm(torch, nn, F):
    """An LSTM of linear layers."""

    class LSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.gates, self.out = nn.Embedding(7, 4), nn.Linear(8, 16), nn.Linear(4, 7)
            self.h0 = nn.Parameter(torch.zeros(1, 4))

        def forward(self, ids):
            B, T = ids.shape
            h, outs = self.h0.expand(B, 4), []
            c = torch.zeros_like(h)
            for t in range(T):
                i, f, g, o = self.gates(torch.cat([self.emb(ids[:, t]), h], dim=1)).chunk(4, dim=1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outs.append(h)
            return self.out(torch.stack(outs, dim=1))

    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return (
        LSTM(), lambda rng: (rng.integers(0, 7, (3, 5)), rng.integers(0, 7, (3, 5))),
        lambda model, ids, targets: criterion(model(ids).transpose(1, 2), targets),
    )  # fmt: skip


OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    "Adam": {"lr": 1e-2, "amsgrad": True, "foreach": True},
    "AdamW": {"lr": 1e-2, "betas": (0.9, 0.95), "fused": False},
}  # fmt: skip


def losses(T, nn, optim, make, kind, weights):
    """{weights as {name: array}} -> the losses of a few steps, after a frozen layer and from the best state again."""
    model, batch, loss_of = make(T, nn, nn.functional if T is not mg else mg.F)
    model.load_state_dict({name: T.tensor(array) for name, array in weights(model).items()})
    decay = {p for p in model.parameters() if p.dim() > 1}
    rest = [p for p in model.parameters() if p not in decay]
    groups = [{"params": [p for p in model.parameters() if p in decay]}, {"params": rest, "weight_decay": 0.0}]
    optimizer, rng, found = getattr(optim, kind)(groups, **OPTIMIZERS[kind]), np.random.default_rng(1), []
    for step in range(STEPS):
        data = [T.tensor(array) for array in batch(rng)]
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        loss = loss_of(model, *data)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        found.append(loss.item())
        if step == 0:
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    next(model.parameters()).requires_grad = False
    learned = [p for p in model.parameters() if p.requires_grad]
    with T.no_grad():
        found.append(loss_of(copy.deepcopy(model).eval(), *data).item())

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, *data)
        loss.backward()
        return loss

    optimizer = optim.SGD(learned, lr=0.1)
    found.append(optimizer.step(closure).item())
    return [*found, optimizer.step(closure).item()]


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("make", [language_model, image_classifier, autoencoder, lstm])
def test_a_model_and_its_training_give_the_losses_of_torch(make, kind):
    def weights(model):
        names = [(name, tuple(array.shape)) for name, array in model.state_dict().items()]
        rng = np.random.default_rng(0)
        drawn = {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in names}
        masks = {name: np.asarray(a) for name, a in model.state_dict().items() if name.endswith(".attn.bias")}
        return drawn | masks

    ours = losses(mg, nn, optim, make, kind, weights)
    theirs = losses(torch, torch.nn, torch.optim, make, kind, weights)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
