"""What each kernel must cost at least: bytes that have to move and operations to be done; and calls to measure.

The least is what the mathematics asks for, whoever computes it: every array read once, every result written once. A
kernel's floor on a card is the longer of bytes over bandwidth and operations over peak (the roofline model; Williams,
Waterman and Patterson 2009).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """Of one layer: N = B * T rows, C channels, H heads of size C / H, V words, P parameters of the model."""

    B: int
    T: int
    C: int
    H: int
    V: int
    P: int

    @property
    def N(self):
        return self.B * self.T


#: GPT-2, 124 million parameters, 8 texts of 1024 tokens
GPT2 = Sizes(B=8, T=1024, C=768, H=12, V=50304, P=124 * 1024 * 1024)
#: enough rows for the edges of tiles and chunks not to count, few enough for the simulated device
SMALL = Sizes(B=1, T=256, C=768, H=12, V=8192, P=1 << 18)


class Case(NamedTuple):
    """One kernel. `args` makes its arguments out of Sizes, an rng and a dtype, as NumPy arrays and numbers."""

    kernel: str
    args: Callable
    flops: Callable = lambda s: 0  # of matrix products, a multiplication and an addition counted as two
    written: tuple = ()  # which arguments are written over, beside being read
    unread: tuple = ()  # which are only written, or of which only as much is read as comes out
    blas: bool = False  # whether most of the work is matrix products of cuBLAS


def least_bytes(case, args, results):
    """Every array read once, every result written once. results: what the kernel returned."""
    results = results if isinstance(results, tuple) else (results,)
    read = sum(_nbytes(a) for i, a in enumerate(args) if i not in case.unread)
    if case.written:  # in place: what is returned is one of these, or a single number
        return read + sum(_nbytes(args[i]) for i in case.written)
    made = sum(map(_nbytes, results))
    return read + made * (2 if case.unread else 1)  # what comes out of an array that is not read whole


def _nbytes(value):
    if isinstance(value, list):
        return sum(map(_nbytes, value))
    is_array = hasattr(value, "nbytes") and not isinstance(value, type)  # a dtype's class is none
    return value.nbytes if is_array and value.ndim else 0


def accum(dtype):
    """The dtype of sums over `dtype`."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _normal(rng, dtype, *shape):
    """Normal numbers; a large array repeats the first 65536 of them, since only its size matters."""
    n = int(np.prod(shape))
    return np.resize(rng.standard_normal(min(n, 1 << 16)).astype(dtype), shape)


def _rows(n, width="C", each=1):
    """Arguments: n arrays (N, width)."""
    return lambda s, rng, dtype: [_normal(rng, dtype, s.N, each * getattr(s, width)) for _ in range(n)]


def _vectors(n, each=1):
    return lambda s, rng, dtype: [_normal(rng, dtype, each * s.C) for _ in range(n)]


def _statistics(s, rng, dtype):
    return [np.zeros(s.N, accum(dtype)), np.ones(s.N, accum(dtype))]


def _then(*parts):
    """Arguments one after another; what is not a function stands for itself."""

    def args(s, rng, dtype):
        found = []
        for part in parts:
            found += part(s, rng, dtype) if callable(part) else [part]
        return found

    return args


def _heads(n):
    """n arrays (B, H, T, D), laid out as (B, T, H, D)."""
    return lambda s, rng, dtype: [
        _normal(rng, dtype, s.B, s.T, s.H, s.C // s.H).transpose(0, 2, 1, 3) for _ in range(n)
    ]


def _logsumexp(s, rng, dtype):
    return [np.full((s.B, s.H, s.T), 8.0, accum(dtype))]


def _ids(s, rng, dtype):
    return [rng.integers(0, s.V, s.N)]


def _arena(s, rng, dtype):
    """param, grad, m, v, low, step, ends, decays of float32 parameters with gradients and a copy in `dtype`."""
    n, sums = s.P, accum(dtype)
    low = np.zeros(n, dtype) if np.dtype(dtype).itemsize == 2 else None
    state = [_normal(rng, sums, n), _normal(rng, dtype, n), _normal(rng, sums, n), np.abs(_normal(rng, sums, n))]
    return [*state, low, np.asarray(0), np.array([n]), np.zeros(1, sums)]


def _products(count, width):
    """Operations of `count` products of (N, C) by (C, width)."""
    return lambda s: 2 * count * s.N * s.C * width(s)


def _attended(count):
    """Operations of `count` products with the (T, T) matrix of a causal attention, of which half counts."""
    return lambda s: count * s.B * s.T * s.T * s.C


_MASK = (0.125, True, 0.0, 1, 2, 3)  # scale, causal, p, seed, step, stream
_IGNORE = -100
_RATES = (1e-3, 0.9, 0.99, 1e-8)


def _head(sizes, rng, dtype):
    """An output head as it is initialised: larger logits would make denormal gradients, which are slow."""
    return [(0.02 * _normal(rng, np.float32, sizes.V, sizes.C)).astype(dtype)]


CASES = (
    Case("linear_forward", _then(_rows(1), lambda s, r, t: [_normal(r, t, 4 * s.C, s.C), _normal(r, t, 4 * s.C)]),
         _products(1, lambda s: 4 * s.C), blas=True),
    Case("linear_backward", _then(_rows(1, each=4), _rows(1),
                                  lambda s, r, t: [_normal(r, t, 4 * s.C, s.C), _normal(r, t, 4 * s.C)]),
         _products(2, lambda s: 4 * s.C), blas=True),
    Case("layernorm_forward", _then(_rows(1), _vectors(2), 1e-5)),
    Case("layernorm_backward", _then(_rows(2), _vectors(1), _statistics)),
    Case("gelu_forward", _then(_rows(1, each=4), "tanh")),
    Case("gelu_backward", _then(_rows(2, each=4), "tanh")),
    Case("embedding_forward", _then(lambda s, r, t: [_normal(r, t, s.V, s.C)], _ids), unread=(0,)),
    Case("embedding_backward", lambda s, r, t: [_normal(r, t, s.N, s.C), *_ids(s, r, t), s.V]),
    Case("dropout_forward", _then(_rows(1), 0.1, 1, 2, 3)),
    Case("dropout_backward", _then(_rows(1), 0.1, 1, 2, 3)),
    Case("attention_forward", _then(_heads(3), *_MASK), _attended(2)),
    Case("attention_backward", _then(_heads(5), _logsumexp, *_MASK), _attended(5)),
    Case("softmax_cross_entropy_forward", _then(_rows(1, "V"), _ids, _IGNORE, "mean")),
    Case("softmax_cross_entropy_backward",
         _then(lambda s, r, t: [np.ones((), accum(t))], _rows(1, "V"), _ids,
               lambda s, r, t: [np.full(s.N, 12.0, accum(t)), np.asarray(s.N)], _IGNORE, True), written=(1,)),
    Case("linear_cross_entropy_forward",
         _then(_rows(1), _head, _ids, _IGNORE, "mean", 1.0, True),
         _products(3, lambda s: s.V), blas=True),
    Case("linear_cross_entropy_backward",
         _then(lambda s, r, t: [np.ones((), accum(t))], _rows(1), lambda s, r, t: [_normal(r, t, s.V, s.C)], 2.0)),
    Case("adamw_step", lambda s, r, t: [*(_normal(r, t, s.P) for _ in range(3)), np.abs(_normal(r, t, s.P)), 3,
                                        *_RATES, 0.1, 1.0], written=(0, 2, 3)),
    Case("fused_adamw_step", _then(_arena, *_RATES, np.asarray(1.0), 1.0), written=(0, 2, 3, 4), unread=(4,)),
    Case("global_norm", lambda s, r, t: [[_normal(r, t, s.P)]]),
    Case("scale_and_check", lambda s, r, t: [[_normal(r, t, s.P)], 0.5], written=(0,)),
    Case("cast", lambda s, r, t: [_normal(r, np.float32, s.P), t if np.dtype(t) != np.float32 else np.float16]),
)  # fmt: skip
