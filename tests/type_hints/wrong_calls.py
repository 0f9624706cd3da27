"""Calls that a type checker must refuse: mypy says so, with the code in brackets, of every line, or `make lint` fails.

pyproject.toml has warn_unused_ignores: an error that is not there makes its comment one.
"""

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad import functional as F

x = mg.ones(2, 3)
model = nn.Linear(3, 2)

x.exp(1)  # type: ignore[call-arg]
x.sum(axis="rows")  # type: ignore[arg-type]
x.sum(out=x)  # type: ignore[call-arg]
mg.sum(x, keepdims=2.5)  # type: ignore[arg-type]
x.mean(dtyp=np.float64)  # type: ignore[call-arg]
first: Tensor = x.max(axis=0).values  # type: ignore[attr-defined]
x.max(dim=0) + 1  # type: ignore[operator]
x.max(axis=0, keepdim=True)  # type: ignore[call-overload]
x.split(2)  # type: ignore[call-overload]
x.sort()  # type: ignore[call-overload]
x.logsumexp()  # type: ignore[call-overload]
x.reshape("2", 3)  # type: ignore[arg-type]
x.shape = (3, 2)  # type: ignore[misc]
x.no_such_method()  # type: ignore[attr-defined]
mg.no_such_function(x)  # type: ignore[attr-defined]
mg.exp(None)  # type: ignore[arg-type]
mg.tensor([1.0], device="cuda")  # type: ignore[call-arg]
mg.zeros(2, 3, requires_grad="yes")  # type: ignore[arg-type]
F.cross_entropy(x, [0, 1], reduction=1)  # type: ignore[arg-type]
nn.Linear(3)  # type: ignore[call-arg]
nn.Linear("3", 2)  # type: ignore[arg-type]
optim.AdamW(model.parameters(), learn_rate=0.1)  # type: ignore[call-arg]
optim.SGD(0.1)  # type: ignore[arg-type]
text: str = x.sum()  # type: ignore[assignment]
y: Tensor = x.size(0)  # type: ignore[assignment]
x.grad.sum()  # type: ignore[union-attr]
