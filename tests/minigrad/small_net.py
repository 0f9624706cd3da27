"""A network of ten nodes, for tests of what can be seen of its graph."""

import numpy as np

import minigrad as mg
from minigrad import nn, optim


class Net(nn.Module):
    """Two blocks with a layernorm each; `weight` is used twice."""

    def __init__(self):
        self.weight = nn.Parameter(np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32))
        self.blocks = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = mg.gelu(block(mg.linear(x, self.weight))) + x
        return x


def loss_of(net):
    x = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)
    logits = mg.linear(net(mg.tensor(x)), net.weight)
    return mg.softmax_cross_entropy(logits, np.arange(5))


def in_arena(params, **setting):
    """AdamW with all its parameters in a GradientArena, as the Trainer makes it."""
    params = list(params)
    return optim.AdamW(params, arena=optim.GradientArena(params), **setting)


def gradients(net):
    return {name: p.grad.copy() for name, p in net.named_parameters()}


def same_bits(a, b):
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)
