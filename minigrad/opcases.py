"""One or two calls of every operation, small enough to be checked in every coordinate.

Used by `python -m minigrad.gradient_checking`. Values keep away from kinks and ties (|x| = 0, the bounds of clip, equal
maxima), where there is no gradient. Sizes are primes where they can be, so that a sum over a wrong axis shows.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigrad import ops


class OpCase(NamedTuple):
    """op: name in `minigrad.ops`; fn(*tensors) -> Tensor or list; build(rng) -> arrays, floats in float64.

    host_only: it needs a dtype that no device has.
    """

    op: str
    case: str
    fn: Callable
    build: Callable
    host_only: bool = False

    def arrays(self, seed=0, dtype=np.float64):
        """The inputs, floats as `dtype`."""
        built = [np.asarray(a) for a in self.build(np.random.default_rng([seed, 0x4F50]))]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in built]


def _normal(*shapes):
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def _positive(*shapes):
    return lambda rng: [rng.uniform(0.5, 2.0, shape) for shape in shapes]


def _off_zero(*shapes):
    return lambda rng: [rng.uniform(0.2, 2.0, shape) * rng.choice([-1.0, 1.0], shape) for shape in shapes]


def _distinct(*shapes):
    """Values at least 0.1 apart, none of them near 0."""

    def build(rng):
        sizes = [int(np.prod(shape)) for shape in shapes]
        values = 0.1 * rng.permutation(sum(sizes)) - 0.05 * sum(sizes) + 0.03
        return [part.reshape(s) for part, s in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes, strict=True)]

    return build


def _and(build, *more):
    """The arrays of `build`, then these."""
    return lambda rng: [*build(rng), *map(np.asarray, more)]


def _over_last(op):
    return lambda x: getattr(ops, op)(x, axis=-1)


_TAPE = {"seed": 3, "step": 5, "stream": 7}
_QKV = (2, 2, 5, 3), (2, 2, 5, 3), (2, 2, 5, 3)

CASES = [
    OpCase("add", "broadcast", ops.add, _normal((5, 3), (3,))),
    OpCase("sub", "broadcast", ops.sub, _normal((5, 1), (5, 3))),
    OpCase("mul", "broadcast", ops.mul, _normal((5, 3), (3,))),
    OpCase("div", "broadcast", ops.div, _off_zero((5, 3), (3,))),
    OpCase("pow", "broadcast", ops.pow, lambda rng: [*_positive((5, 3))(rng), *_normal((3,))(rng)]),
    OpCase("maximum", "broadcast", ops.maximum, _distinct((5, 3), (3,))),
    OpCase("minimum", "broadcast", ops.minimum, _distinct((5, 3), (3,))),
    OpCase("where", "broadcast", lambda a, b, c: ops.where(c, a, b),
           _and(_normal((2, 3), (3,)), [[True, False, True], [False, False, True]])),
    *[OpCase(op, "plain", getattr(ops, op), _normal((5, 3)))
      for op in ("neg", "exp", "tanh", "sigmoid", "silu")],
    *[OpCase(op, "plain", getattr(ops, op), _positive((5, 3))) for op in ("log", "sqrt")],
    *[OpCase(op, "plain", getattr(ops, op), _off_zero((5, 3))) for op in ("abs", "relu")],
    OpCase("clip", "both", lambda x: ops.clip(x, -0.28, 0.47), _distinct((5, 3))),
    OpCase("astype", "there-and-back", lambda x: ops.astype(ops.astype(x, np.longdouble), x.dtype), _normal((5, 3)),
           host_only=True),
    OpCase("matmul", "matrices", ops.matmul, _normal((5, 3), (3, 7))),
    OpCase("matmul", "stack", ops.matmul, _normal((2, 5, 3), (3, 7))),
    *[OpCase(op, "last", _over_last(op), _normal((5, 7))) for op in ("sum", "mean", "var", "softmax", "log_softmax")],
    *[OpCase(op, "last", _over_last(op), _distinct((5, 7))) for op in ("max", "min")],
    OpCase("var", "unbiased", lambda x: ops.var(x, axis=0, correction=1), _normal((5, 7))),
    OpCase("reshape", "rows", lambda x: ops.reshape(x, (3, 5)), _normal((5, 3))),
    OpCase("transpose", "cycle", lambda x: ops.transpose(x, (2, 0, 1)), _normal((2, 3, 5))),
    OpCase("swapaxes", "ends", lambda x: ops.swapaxes(x, 0, -1), _normal((2, 3, 5))),
    OpCase("expand_dims", "middle", lambda x: ops.expand_dims(x, 1), _normal((5, 3))),
    OpCase("squeeze", "middle", lambda x: ops.squeeze(x, 1), _normal((5, 1, 3))),
    OpCase("broadcast_to", "rows", lambda x: ops.broadcast_to(x, (5, 3)), _normal((3,))),
    OpCase("concatenate", "rows", lambda *x: ops.concatenate(x, axis=0), _normal((2, 3), (5, 3))),
    OpCase("stack", "last", lambda *x: ops.stack(x, axis=-1), _normal((5, 3), (5, 3))),
    OpCase("split", "uneven", lambda x: ops.split(x, [2], axis=0), _normal((5, 3))),
    OpCase("getitem", "slice", lambda x: ops.getitem(x, (slice(1, 4), slice(None, None, 2))), _normal((5, 3))),
    OpCase("getitem", "repeated", ops.getitem, _and(_normal((5, 3)), [2, 0, 2, 2])),
    OpCase("linear", "bias", ops.linear, _normal((2, 5, 3), (7, 3), (7,))),
    OpCase("layernorm", "bias", lambda *xwb: ops.layernorm(*xwb, eps=0.1), _normal((5, 7), (7,), (7,))),
    OpCase("gelu", "erf", ops.gelu, _normal((5, 3))),
    OpCase("gelu", "tanh", lambda x: ops.gelu(x, "tanh"), _normal((5, 3))),
    OpCase("embedding", "repeated", ops.embedding, _and(_normal((5, 3)), [[1, 4, 1], [0, 1, 1]])),
    OpCase("dropout", "some", lambda x: ops.dropout(x, 0.3, **_TAPE), _normal((5, 7))),
    OpCase("scaled_dot_product_attention", "causal", ops.scaled_dot_product_attention, _normal(*_QKV)),
    OpCase("scaled_dot_product_attention", "dropout",
           lambda *qkv: ops.scaled_dot_product_attention(*qkv, causal=False, p=0.3, **_TAPE), _normal(*_QKV)),
    OpCase("causal_self_attention", "heads", lambda x: ops.causal_self_attention(x, 2), _normal((2, 5, 12))),
    OpCase("softmax_cross_entropy", "ignored", ops.softmax_cross_entropy, _and(_normal((5, 7)), [1, -100, 6, -100, 0])),
    OpCase("softmax_cross_entropy", "sum", lambda z, y: ops.softmax_cross_entropy(z, y, reduction="sum"),
           _and(_normal((5, 7)), [1, 3, 6, 2, 0])),
    OpCase("linear_cross_entropy", "ignored", ops.linear_cross_entropy,
           _and(_normal((5, 3), (7, 3)), [1, -100, 6, -100, 0])),
    OpCase("linear_cross_entropy", "sum",
           lambda x, w, y: ops.linear_cross_entropy(x, w, y, reduction="sum", grad_scale=0.25),
           _and(_normal((5, 3), (7, 3)), [1, 3, 6, 2, 0])),
]  # fmt: skip
