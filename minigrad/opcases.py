"""One or two calls of every operation, small enough to be checked in every coordinate.

Used by `python -m minigrad.gradient_checking`. Values keep away from kinks and ties (|x| = 0, the bounds of clip, equal
maxima), where there is no gradient. Sizes are primes where they can be, so that a sum over a wrong axis shows.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.spec import and_then, normals, specs
from minigrad import ops
from minigrad.argument_types import Shape

Build: TypeAlias = Callable[[np.random.Generator], Sequence[Any]]


class OpCase(NamedTuple):
    """op: name in `minigrad.ops`; fn(*tensors) -> Tensor or list; build(rng) -> arrays, floats in float64.

    host_only: it needs a dtype that no device has.
    """

    op: str
    case: str
    fn: Callable[..., Any]
    build: Build
    host_only: bool = False

    def arrays(self, seed: int = 0, dtype: npt.DTypeLike = np.float64) -> list[np.ndarray]:
        """The inputs, floats as `dtype`."""
        built = [np.asarray(a) for a in self.build(np.random.default_rng([seed, 0x4F50]))]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in built]


def positive(*shapes: Shape) -> Build:
    """Between 0.5 and 2."""
    return lambda rng: [rng.uniform(0.5, 2.0, shape) for shape in shapes]


def off_zero(*shapes: Shape) -> Build:
    """At least 0.2 from 0, of either sign."""
    return lambda rng: [rng.uniform(0.2, 2.0, shape) * rng.choice([-1.0, 1.0], shape) for shape in shapes]


def distinct(*shapes: Shape) -> Build:
    """Values at least 0.1 apart, none of them near 0."""

    def build(rng: np.random.Generator) -> list[Any]:
        sizes = [int(np.prod(shape)) for shape in shapes]
        values = 0.1 * rng.permutation(sum(sizes)) - 0.05 * sum(sizes) + 0.03
        return [part.reshape(s) for part, s in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes, strict=True)]

    return build


def _over_last(op: str) -> Callable[..., Any]:
    return lambda x: getattr(ops, op)(x, axis=-1)


def _of_kernels() -> list[OpCase]:
    """The cases that ops with kernels have in their specs."""
    return [
        OpCase(each.op, each.case, functools.partial(getattr(ops, each.op), **each.keywords), each.build)
        for spec in specs().values()
        for each in spec.GRADIENTS
    ]


CASES = [
    OpCase("add", "broadcast", ops.add, normals((5, 3), (3,))),
    OpCase("sub", "broadcast", ops.sub, normals((5, 1), (5, 3))),
    OpCase("mul", "broadcast", ops.mul, normals((5, 3), (3,))),
    OpCase("div", "broadcast", ops.div, off_zero((5, 3), (3,))),
    OpCase("pow", "broadcast", ops.pow, lambda rng: [*positive((5, 3))(rng), *normals((3,))(rng)]),
    OpCase("maximum", "broadcast", ops.maximum, distinct((5, 3), (3,))),
    OpCase("minimum", "broadcast", ops.minimum, distinct((5, 3), (3,))),
    OpCase("where", "broadcast", lambda a, b, c: ops.where(c, a, b),
           and_then(normals((2, 3), (3,)), [[True, False, True], [False, False, True]])),
    *[OpCase(op, "plain", getattr(ops, op), normals((5, 3)))
      for op in ("neg", "exp", "exp2", "expm1", "sin", "cos", "tanh", "sigmoid", "silu", "softplus", "logsigmoid")],
    *[OpCase(op, "plain", getattr(ops, op), positive((5, 3)))
      for op in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt")],
    *[OpCase(op, "plain", getattr(ops, op), off_zero((5, 3))) for op in ("abs", "relu", "elu")],
    OpCase("binary_cross_entropy", "plain", lambda x, y: ops.binary_cross_entropy(x, y, reduction="none"),
           lambda rng: [rng.uniform(0.1, 0.9, (5, 3)), rng.uniform(0.1, 0.9, (5, 3))]),
    OpCase("softplus", "threshold", lambda x: ops.softplus(x, beta=3.0, threshold=1.0), off_zero((5, 3))),
    OpCase("elu", "scaled", lambda x: ops.elu(x, 1.5, scale=2.0), off_zero((5, 3))),
    OpCase("remainder", "broadcast", ops.remainder, lambda rng: [rng.uniform(3.2, 3.8, (5, 3)), [1.0, -2.0, 2.0]]),
    OpCase("clip", "both", lambda x: ops.clip(x, -0.28, 0.47), distinct((5, 3))),
    OpCase("clip", "tensors", ops.clip, lambda rng: [[-1.0, 0.3, 2.0, 0.5, 1.5], [-0.5, 0.0, 0.0, 0.9, 0.8], [0.7]]),
    OpCase("astype", "there-and-back", lambda x: ops.astype(ops.astype(x, np.longdouble), x.dtype), normals((5, 3)),
           host_only=True),
    OpCase("matmul", "matrices", ops.matmul, normals((5, 3), (3, 7))),
    OpCase("matmul", "stack", ops.matmul, normals((2, 5, 3), (3, 7))),
    OpCase("einsum", "stack", lambda a, b: ops.einsum("bij,bjk->bik", a, b), normals((2, 5, 3), (2, 3, 7))),
    OpCase("einsum", "ellipsis", lambda a, b: ops.einsum("i...,ij->j...", a, b), normals((5, 3), (5, 7))),
    *[OpCase(op, "last", _over_last(op), normals((5, 7))) for op in ("sum", "mean", "var", "softmax", "log_softmax")],
    *[OpCase(op, "last", _over_last(op), distinct((5, 7))) for op in ("amax", "amin")],
    OpCase("prod", "last", _over_last("prod"), positive((5, 7))),
    OpCase("prod", "zero", lambda x: ops.prod(x, dim=-1), lambda rng: [[[0.0, 2.0, -3.0], [1.5, 0.0, 0.0]]]),
    OpCase("cumprod", "first", lambda x: ops.cumprod(x, dim=0), off_zero((5, 7))),
    OpCase("cumprod", "zero", lambda x: ops.cumprod(x, dim=-1), lambda rng: [[[2.0, 0.0, -3.0, 0.0, 1.5]]]),
    OpCase("cumsum", "first", lambda x: ops.cumsum(x, dim=0), normals((5, 7))),
    *[OpCase("norm", f"p{p}", lambda x, p=p: ops.norm(x, p, dim=-1), distinct((5, 7))) for p in (1, 2, 3, np.inf)],
    OpCase("var", "unbiased", lambda x: ops.var(x, axis=0, correction=1), normals((5, 7))),
    OpCase("reshape", "rows", lambda x: ops.reshape(x, (3, 5)), normals((5, 3))),
    OpCase("transpose", "cycle", lambda x: ops.transpose(x, (2, 0, 1)), normals((2, 3, 5))),
    OpCase("swapaxes", "ends", lambda x: ops.swapaxes(x, 0, -1), normals((2, 3, 5))),
    OpCase("expand_dims", "middle", lambda x: ops.expand_dims(x, 1), normals((5, 3))),
    OpCase("squeeze", "middle", lambda x: ops.squeeze(x, dim=1), normals((5, 1, 3))),
    OpCase("broadcast_to", "rows", lambda x: ops.broadcast_to(x, (5, 3)), normals((3,))),
    OpCase("concatenate", "rows", lambda *x: ops.concatenate(x, axis=0), normals((2, 3), (5, 3))),
    OpCase("stack", "last", lambda *x: ops.stack(x, axis=-1), normals((5, 3), (5, 3))),
    OpCase("split", "uneven", lambda x: ops.split(x, [2], axis=0), normals((5, 3))),
    OpCase("sliding_windows", "overlapping", lambda x: ops.sliding_windows(x, (2, 3), (1, 2), ((1, 0), (1, 2)), (2, 1)),
           normals((2, 1, 3, 5))),
    OpCase("getitem", "slice", lambda x: ops.getitem(x, (slice(1, 4), slice(None, None, 2))), normals((5, 3))),
    OpCase("getitem", "repeated", ops.getitem, and_then(normals((5, 3)), [2, 0, 2, 2])),
    *_of_kernels(),
]  # fmt: skip
