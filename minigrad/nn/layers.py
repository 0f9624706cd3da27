"""Layers with weights, and those that only reshape or drop."""

import math

import numpy as np

from kernels.system.printable import brief
from minigrad import functional as F
from minigrad import random
from minigrad._tensor import Tensor
from minigrad.argument_types import Ints, Shape, TensorLike
from minigrad.nn.module import Module, Parameter
from minigrad.ops.nn import refuse


def require_counts(module: str, **counts: int) -> None:
    """TypeError or ValueError for an argument of a module that is no int of at least 0."""
    for name, count in counts.items():
        if not isinstance(count, (int, np.integer)):
            raise TypeError(f"{module}: {name} is {brief(count)}; expected an int")
        if count < 0:
            raise ValueError(f"{module}: {name} is {count}; expected at least 0")


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features). weight (out, in), as in PyTorch.

    Drawn from U(-1/sqrt(in), 1/sqrt(in)).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        require_counts("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(random.uniform(-bound, bound, (out_features, in_features)))
        self.bias = Parameter(random.uniform(-bound, bound, (out_features,))) if bias else None

    def forward(self, input: TensorLike) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors: ids (...) of integers -> (..., embedding_dim). Drawn from N(0, 1).

    padding_idx: the id whose vector begins as zeros and is not learned. The arguments max_norm, scale_grad_by_freq and
    sparse of PyTorch are refused.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        refuse("Embedding", max_norm=max_norm is not None, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
        require_counts("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx is {padding_idx}, outside of the {num_embeddings} embeddings")
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = Parameter(random.normal(size=(num_embeddings, embedding_dim)))
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0.0

    def forward(self, input: TensorLike) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """Normalise the last axes to mean 0 and variance 1, then scale and shift. Ba et al. 2016.

    normalized_shape: their sizes, an int for one axis. elementwise_affine=False: no scale and no shift.
    """

    def __init__(
        self, normalized_shape: Ints, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32)) if elementwise_affine and bias else None

    def forward(self, input: TensorLike) -> Tensor:
        if len(self.normalized_shape) == 1 and self.weight is not None:  # in one operation
            return F.layernorm(input, self.weight, self.bias, self.eps)
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = "" if self.weight is not None else ", elementwise_affine=False"
        return f"{_shown(self.normalized_shape)}, eps={self.eps}{affine}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Divide the last axes by their root mean square, then scale. Zhang & Sennrich 2019.

    normalized_shape: the sizes of these axes, an int for one axis. eps as in `F.rmsnorm`.
    """

    def __init__(self, normalized_shape: Ints, eps: float | None = None, elementwise_affine: bool = True) -> None:
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if elementwise_affine else None

    def forward(self, input: TensorLike) -> Tensor:
        if len(self.normalized_shape) == 1 and self.weight is not None:  # in one operation
            return F.rmsnorm(input, self.weight, self.eps)
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        affine = "" if self.weight is not None else ", elementwise_affine=False"
        return f"{_shown(self.normalized_shape)}, eps={self.eps}{affine}"


def _sizes(normalized_shape: Ints) -> Shape:
    return (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)


def _shown(shape: Shape) -> int | Shape:
    return shape[0] if len(shape) == 1 else shape


class Dropout(Module):
    """Zero elements with probability p while training. Where on the random tape: `minigrad.random`."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        refuse("Dropout", inplace=inplace)
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability is {p}; expected 0 <= p <= 1")
        self.p = p

    def forward(self, input: TensorLike) -> Tensor:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """The axes start_dim to end_dim as one: (N, C, H, W) -> (N, C * H * W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: TensorLike) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
