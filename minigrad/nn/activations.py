"""Elementwise functions as modules, and softmax."""

from minigrad import functional as F
from minigrad._tensor import as_tensor
from minigrad.nn.module import Module
from minigrad.ops.nn import refuse


class Identity(Module):
    """The input itself. Takes any arguments, as in PyTorch, so that it can stand in for another layer."""

    def __init__(self, *args, **kwargs):
        pass

    def forward(self, x):
        return as_tensor(x)


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace=False):
        refuse("ReLU", inplace=inplace)

    def forward(self, x):
        return F.relu(x)


class GELU(Module):
    """x * Phi(x), or approximate="tanh"."""

    def __init__(self, approximate="none"):
        self.approximate = approximate

    def forward(self, x):
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x)."""

    def __init__(self, inplace=False):
        refuse("SiLU", inplace=inplace)

    def forward(self, x):
        return F.silu(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x):
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x):
        return F.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along the axis `dim`."""

    def __init__(self, dim=None):
        self.dim = dim

    def forward(self, x):
        return F.softmax(x, dim=self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """log(softmax(x)) along the axis `dim`."""

    def forward(self, x):
        return F.log_softmax(x, dim=self.dim)
