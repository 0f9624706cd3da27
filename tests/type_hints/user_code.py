"""What a user writes, and its types: mypy checks every `assert_type`, and test_type_hints.py runs the code."""

from typing import assert_type

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad import functional as F
from minigrad.functional import ValuesAndIndices


def arithmetic(x: Tensor) -> None:
    assert_type(mg.tensor([[1.0, 2.0]], requires_grad=True), Tensor)
    assert_type(x + 1, Tensor)
    assert_type(2.0 * x - np.ones(3), Tensor)
    assert_type(x @ x.T, Tensor)
    assert_type(-(x**2), Tensor)
    assert_type(x[0, 1:], Tensor)
    assert_type(x.T, Tensor)
    assert_type(x.exp(), Tensor)
    assert_type(mg.exp(x), Tensor)
    assert_type(F.where(x > 0, x, 0.0), Tensor)
    assert_type(mg.maximum(x, [1.0, 2.0, 3.0]), Tensor)
    assert_type(list(x), list[Tensor])


def reductions(x: Tensor) -> None:
    assert_type(x.sum(), Tensor)
    assert_type(x.sum(dim=0, keepdim=True), Tensor)
    assert_type(x.sum(axis=0, keepdims=True), Tensor)
    assert_type(mg.mean(x, axis=(0, 1)), Tensor)
    assert_type(mg.mean(x, 0, True, dtype=np.float64), Tensor)
    assert_type(x.var(dim=0), Tensor)
    assert_type(x.std(axis=0, ddof=1), Tensor)
    assert_type(x.max(), Tensor)
    assert_type(x.max(dim=0), ValuesAndIndices)
    assert_type(x.max(axis=0), Tensor)
    assert_type(x.min(dim=0).values, Tensor)
    assert_type(mg.max(x, dim=0), ValuesAndIndices)
    assert_type(mg.min(x, axis=0, keepdims=True), Tensor)
    assert_type(x.sort(dim=0).indices, Tensor)
    assert_type(x.sort(axis=0), Tensor)
    assert_type(x.argmax(axis=0), Tensor)
    assert_type(x.logsumexp(axis=-1), Tensor)
    assert_type(x.cumsum(axis=0), Tensor)


def shapes(x: Tensor) -> None:
    assert_type(x.reshape(-1), Tensor)
    assert_type(x.view(3, 2), Tensor)
    assert_type(x.permute(1, 0), Tensor)
    assert_type(x.transpose(axes=(1, 0)), Tensor)
    assert_type(x.unsqueeze(0), Tensor)
    assert_type(x.unsqueeze(dim=0), Tensor)
    assert_type(mg.expand_dims(x, axis=0), Tensor)
    assert_type(x.split(1, dim=0), tuple[Tensor, ...])
    assert_type(x.split(2, axis=0), list[Tensor])
    assert_type(mg.cat([x, x]), Tensor)
    assert_type(mg.concatenate([x, x], axis=1), Tensor)
    assert_type(x.squeeze(axis=None), Tensor)
    assert_type(x.roll(1, axis=0), Tensor)
    assert_type(x.take([0, 1]), Tensor)
    assert_type(mg.pad(x, pad=(1, 1)), Tensor)


def numbers(x: Tensor) -> None:
    assert_type(x.shape, tuple[int, ...])
    assert_type(x.size(0), int)
    assert_type(x.ndim, int)
    assert_type(x.requires_grad, bool)
    assert_type(x.allclose(x), bool)
    assert_type(float(x.sum()), float)
    assert_type(f"{x.mean():.4f}", str)
    assert_type(x.float().requires_grad_(), Tensor)
    assert_type(mg.zeros(2, 3), Tensor)
    assert_type(mg.randn((2, 3), dtype=np.float64), Tensor)


class Classifier(nn.Module):
    """A convolution and an MLP."""

    def __init__(self) -> None:
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)

    def __call__(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return self.head(self.norm(features))


def training() -> float:
    mg.manual_seed(0)
    model = Classifier()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    images, targets = mg.randn(4, 1, 4, 4), mg.randint(0, 2, (4,))
    for _ in range(3):
        loss = F.cross_entropy(model(images), targets)
        assert_type(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with mg.no_grad():
        accuracy = (model(images).argmax(dim=-1) == targets).astype(np.float32).mean()
    for p in model.parameters():
        assert p.grad is not None
    return float(accuracy)


@mg.no_grad()
def predict(model: Classifier, x: Tensor) -> Tensor:
    return model(x).softmax(dim=-1)


def prediction() -> None:
    assert_type(predict(Classifier(), mg.ones(1, 1, 4, 4)), Tensor)
    report = mg.gradcheck(lambda x: (x**3).sum(), np.ones(2))
    assert report


def run() -> None:
    """All of it."""
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    for part in (reductions, numbers):
        part(x)
    arithmetic(x)
    shapes(x)
    prediction()
    assert 0 <= training() <= 1
