"""What mypy says about a person's modules: `make lint` checks this file, and each `assert_type` in it.

A line with `type: ignore` is an error that mypy must find; an ignore that it does not need is an error too.
"""

from typing import Any, assert_type

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn, optim


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(n, n), nn.LayerNorm(n)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return x + self.fc(self.norm(x)) * scale


class Net(nn.Module):
    def __init__(self) -> None:
        self.blocks = nn.ModuleList(Block(4) for _ in range(3))
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2)})
        self.later = nn.ModuleList()
        self.attn = nn.MultiheadAttention(4, 2)
        self.chain = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.gain = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x = assert_type(block(x, scale=0.5), Tensor)
        x, weights = self.attn(x, x, x)
        assert_type(weights, Tensor | None)
        return self.heads["a"](assert_type(self.chain(x), Tensor)) * self.gain, weights


class WithoutHints(nn.Module):
    def forward(self, x):
        return x


def test_a_call_has_the_type_of_forward() -> None:
    net, x = Net(), mg.ones(3, 4)
    out, _ = assert_type(net(x), tuple[Tensor, Tensor | None])
    assert out.shape == (3, 2)
    assert_type(nn.CrossEntropyLoss()(out, np.array([1, 0, 1])), Tensor)
    assert_type(WithoutHints()(x), Any)
    with pytest.raises(TypeError):
        Block(4)()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Block(4)(x, skale=2.0)  # type: ignore[call-arg]


def test_containers_know_what_they_hold() -> None:
    net = Net()
    assert_type(net.blocks[0], Block)
    assert_type(net.blocks[:2], nn.ModuleList[Block])
    assert_type(net.heads["a"], nn.Linear)
    assert_type(net.later, nn.ModuleList[Any])
    assert_type(net.eval().double(), Net)
    for _, parameter in net.named_parameters():
        assert_type(parameter, nn.Parameter)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            assert_type(module.weight, nn.Parameter)
    with pytest.raises(TypeError):
        net.blocks.append(3)  # type: ignore[arg-type]
    assert net.chain[0].weight.shape == (4, 4)


def test_optimizers_take_parameters_pairs_and_groups() -> None:
    net = Net()
    optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.95), foreach=True, maximize=False).step()
    optim.Adam(net.named_parameters(), arena=optim.GradientArena(net)).zero_grad()
    optim.SGD([{"params": net.blocks.parameters(), "lr": 0.1}, {"params": [net.gain]}], 0.1, momentum=0.9)
    assert_type(nn.utils.clip_grad_norm_(net.parameters(), 1.0), Tensor)
    with pytest.raises(TypeError):
        optim.AdamW(net.parameters(), wd=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        optim.SGD(net)  # type: ignore[arg-type]
