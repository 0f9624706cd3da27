"""Rows for every differentiable operation: what to call, with which arrays, and torch's twin of it.

Values keep away from kinks and ties (|x| = 0, the bounds of clip, equal maxima), where there is no gradient.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.spec import and_then, specs
from kernels.spec import normals as normal
from minigrad.opcases import distinct, off_zero, positive

SAME = "same"  # torch spells it as minigrad does


@dataclass(frozen=True)
class Row:
    """op: name in minigrad.ops; fn(m, *tensors) with m the library; build(rng) -> arrays; torch: fn, SAME or None."""

    op: str
    case: str
    fn: Any
    build: Any
    torch: Any = SAME

    @property
    def name(self):
        return f"{self.op}-{self.case}"

    @property
    def has_kernels(self):
        return self.op in KERNEL_OPS

    def arrays(self, dtype=np.float64):
        built = map(np.asarray, self.build(np.random.default_rng(7)))
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in built]


KERNEL_OPS = {gradient.op for spec in specs().values() for gradient in spec.GRADIENTS}


# ---- inputs


def positive_then_normal(first, second):
    return lambda rng: [rng.uniform(0.5, 2.0, first), rng.standard_normal(second)]


def probabilities(*shapes):
    """Between 0.1 and 0.9."""
    return lambda rng: [rng.uniform(0.1, 0.9, shape) for shape in shapes]


BROADCASTS = {
    "equal": ((2, 3), (2, 3)), "column-row": ((3, 1), (1, 4)), "trailing": ((2, 3, 4), (4,)),
    "leading": ((5,), (2, 5)), "0d-left": ((), (3, 2)), "0d-right": ((2, 3), ()), "both-0d": ((), ()),
    "ones": ((1,), (1, 1)), "prime": ((7, 13), (13,)), "inner-one": ((2, 1, 3), (2, 5, 1)),
}  # fmt: skip
UNARY_SHAPES = {"2x3": (2, 3), "0d": (), "one": (1,), "prime": (13,)}
AXES = {
    "all": {}, "first": {"dim": 0}, "last": {"dim": -1}, "pair": {"dim": (0, 2)}, "keep": {"dim": 1, "keepdim": True},
    "negative-pair-keep": {"dim": (-1, -2), "keepdim": True}, "all-listed": {"dim": (0, 1, 2)},
}  # fmt: skip


# ---- elementwise


def binary_rows(op, build):
    fn = lambda m, a, b: getattr(m, op)(a, b)  # noqa: E731
    return [Row(op, case, fn, build(*shapes)) for case, shapes in BROADCASTS.items()]


def of_torch_nn(op):
    return lambda t, x: getattr(t.nn.functional, op)(x)


def between_multiples(first, second):
    """Numbers that are far from a multiple of the second ones, where the remainder jumps."""
    return lambda rng: [rng.uniform(3.2, 3.8, first), rng.choice([1.0, 2.0, -1.0, -2.0], second)]


def unary_rows(op, build, torch=SAME):
    fn = lambda m, x: getattr(m, op)(x)  # noqa: E731
    return [Row(op, case, fn, build(shape), torch) for case, shape in UNARY_SHAPES.items()]


ELEMENTWISE = [
    *binary_rows("add", normal), *binary_rows("sub", normal), *binary_rows("mul", normal),
    *binary_rows("div", off_zero), *binary_rows("pow", positive_then_normal),
    *binary_rows("maximum", distinct), *binary_rows("minimum", distinct),
    *[Row(op, case, fn, off_zero((2, 3))) for op, case, fn in (
        ("add", "itself", lambda m, a: a + a), ("add", "python", lambda m, a: 2.5 + a + 1),
        ("sub", "python", lambda m, a: 2.5 - a - 1), ("mul", "itself", lambda m, a: a * a),
        ("mul", "python", lambda m, a: 2.5 * a * 3), ("div", "python", lambda m, a: 2.5 / a / 3),
    )],
    Row("pow", "cube", lambda m, a: a**3, normal((2, 3))),
    Row("pow", "zeroth", lambda m, a: a**0 + a, normal((2, 3))),
    Row("pow", "root", lambda m, a: a**0.5, positive((2, 3))),
    Row("pow", "inverse-square", lambda m, a: m.pow(a, -2), off_zero((2, 3))),
    Row("pow", "scalar-base", lambda m, a: 2.0**a, normal((2, 3))),
    *unary_rows("neg", normal), *unary_rows("exp", normal), *unary_rows("log", positive), *unary_rows("sqrt", positive),
    *unary_rows("abs", off_zero), *unary_rows("tanh", normal), *unary_rows("sigmoid", normal),
    *unary_rows("relu", off_zero), *unary_rows("silu", normal, lambda t, x: t.nn.functional.silu(x)),
    Row("clip", "both", lambda m, x: m.clip(x, -0.13, 0.52), distinct((3, 5))),
    Row("clip", "low", lambda m, x: m.clip(x, min=-0.13), distinct((13,))),
    Row("clip", "high", lambda m, x: m.clip(x, max=0.52), distinct((1, 7))),
    *[Row("clip", case, lambda m, x, low, high: m.clip(x, low, high), distinct(*shapes))
      for case, shapes in (("tensors", ((3, 5), (5,), (3, 1))), ("tensors-0d", ((2, 3), (), ())))],
    Row("clip", "tensor-low", lambda m, x, low: m.clip(x, min=low), distinct((3, 5), (5,))),
    Row("clip", "tensor-high", lambda m, x, high: m.clip(x, max=high), distinct((3, 5), (3, 1))),
    *unary_rows("exp2", normal), *unary_rows("expm1", normal), *unary_rows("log2", positive),
    *unary_rows("log10", positive), *unary_rows("log1p", positive), *unary_rows("rsqrt", positive),
    *unary_rows("sin", normal), *unary_rows("cos", normal),
    *[row for op in ("softplus", "logsigmoid", "elu") for row in unary_rows(op, off_zero, of_torch_nn(op))],
    Row("softplus", "threshold", lambda m, x: m.softplus(x, 3.0, 1.0), off_zero((13,)),
        lambda t, x: t.nn.functional.softplus(x, 3.0, 1.0)),
    Row("elu", "alpha", lambda m, x: m.elu(x, 0.3), off_zero((13,)), lambda t, x: t.nn.functional.elu(x, 0.3)),
    Row("elu", "selu", lambda m, x: m.selu(x), off_zero((13,)), of_torch_nn("selu")),
    *binary_rows("remainder", between_multiples),
    *[Row("where", op, lambda m, x, op=op: getattr(m, op)(x), off_zero((2, 3)))
      for op in ("floor", "ceil", "round", "trunc", "sign")],
    # np.longdouble is at least as wide as float64, so nothing is lost on the way there and back
    Row("astype", "there-and-back", lambda m, x: m.astype(m.astype(x, np.longdouble) * 3.0, np.float64),
        normal((2, 3)), None),
    *[Row("where", case, lambda m, a, b, c: m.where(c, a, b), and_then(normal(*shapes), condition))
      for case, shapes, condition in (
          ("equal", ((2, 3), (2, 3)), [[True, False, True], [False, False, True]]),
          ("broadcast", ((2, 1), (3,)), [[True, False, True], [False, True, False]]),
          ("small-condition", ((2, 3), (2, 3)), [True, False, True]),
          ("0d", ((), (3,)), [True, False, False]),
      )],
]  # fmt: skip

# ---- reductions


def reduction_rows(op, build, **setting):
    tag = "".join(f"-{k}{v}" for k, v in setting.items())

    def row(case, shape, axes):
        return Row(op, case + tag, lambda m, x: getattr(m, op)(x, **axes, **setting), build(shape))

    rows = [row(case, (2, 3, 5), axes) for case, axes in AXES.items()]
    vector = [row("vector", (13,), {}), row("vector-last", (7,), {"dim": -1})]
    return rows + vector + ([] if setting.get("correction") else [row("one", (1,), {}), row("0d", (), {})])


REDUCTIONS = [
    *reduction_rows("sum", normal),
    *reduction_rows("mean", normal),
    *reduction_rows("amax", distinct),
    *reduction_rows("amin", distinct),
    *reduction_rows("norm", off_zero, p=2),
    *[row for p in (1, 3, 0.5, -1.5, np.inf, -np.inf) for row in reduction_rows("norm", distinct, p=p)[::3]],
    *[Row("prod", case, lambda m, x, axes=axes: m.prod(x, **axes), build(shape))
      for case, shape, axes, build in (
          ("all", (2, 3), {}, off_zero), ("first", (2, 3, 5), {"dim": 0}, off_zero), ("one", (1,), {}, off_zero),
          ("keep", (2, 3, 5), {"dim": 1, "keepdim": True}, off_zero), ("0d", (), {}, off_zero),
          ("one-zero", (3,), {}, lambda shape: lambda rng: [np.array([2.0, 0.0, 3.0])]),
          ("two-zeros", (3,), {"dim": 0}, lambda shape: lambda rng: [np.array([[2.0, 1.0], [0.0, 0.0], [0.0, 4.0]])]))],
    Row("prod", "pair", lambda m, x: m.prod(x, dim=(0, 2)), off_zero((2, 3, 5)), lambda t, x: x.prod(2).prod(0)),
    *[Row("cumsum", case, lambda m, x, d=d: m.cumsum(x, dim=d), normal(shape))
      for case, shape, d in (("first", (3, 5), 0), ("last", (2, 3, 5), -1), ("vector", (13,), 0), ("0d", (), 0))],
    *[Row("cumprod", case, lambda m, x, d=d: m.cumprod(x, dim=d), off_zero(shape))
      for case, shape, d in (("first", (3, 5), 0), ("last", (2, 3, 5), -1), ("vector", (13,), 0), ("0d", (), 0),
                             ("one", (4, 1), -1))],
    Row("cumprod", "zeros", lambda m, x: m.cumprod(x, dim=1),
        lambda rng: [np.array([[2.0, 0.0, -3.0, 0.5], [0.0, 0.0, 4.0, 1.0], [1.5, 2.0, 3.0, 0.0]])]),
    *[Row("getitem", f"median-{case}", lambda m, x, keywords=keywords: m.median(x, **keywords)[0], distinct(shape))
      for case, shape, keywords in (("odd", (3, 5), {"dim": 1}), ("even", (2, 4, 3), {"dim": -2, "keepdim": True}),
                                    ("vector", (13,), {"dim": 0}))],
    Row("mean", "median-numpy", lambda m, x: m.median(x, axis=0), distinct((4, 3)),
        lambda t, x: t.quantile(x, 0.5, dim=0)),
    *reduction_rows("var", normal, correction=0),
    *reduction_rows("var", normal, correction=1),
    *[Row(op, f"{case}", lambda m, x, op=op, d=d: getattr(m, op)(x, dim=d), normal(shape))
      for op in ("softmax", "log_softmax")
      for case, shape, d in (("last", (3, 5), -1), ("first", (3, 5), 0), ("middle", (2, 7, 3), 1), ("one", (4, 1), -1),
                             ("vector", (13,), 0))],
]  # fmt: skip

# ---- shapes

INDICES = {
    "int": lambda x: x[1], "last": lambda x: x[-1, -2], "slice": lambda x: x[:, 1:4], "step": lambda x: x[..., ::2],
    "none": lambda x: x[:, None, 1], "ellipsis": lambda x: x[..., 2], "all": lambda x: x[...],
    "empty-slice": lambda x: x[2:2], "mixed": lambda x: x[None, 1:, ..., 0, None],
}  # fmt: skip
REPEATED = np.array([2, 0, 2, 2])
SHAPES = [
    *[Row("getitem", case, lambda m, x, f=f: f(x), normal((3, 5, 4))) for case, f in INDICES.items()],
    Row("getitem", "negative-step", lambda m, x: x[::-1, ::-2], normal((3, 5)), None),  # torch has no such slices
    Row("getitem", "0d", lambda m, x: x[...] + x[()], normal(())),
    Row("getitem", "repeated", lambda m, x, i: x[i], and_then(normal((3, 5)), REPEATED)),
    Row("getitem", "repeated-2d", lambda m, x, i: x[i], and_then(normal((3, 5)), [[0, 0], [1, 0]])),
    Row("getitem", "list", lambda m, x: x[[1, 1, -3]], normal((3, 5))),
    Row("getitem", "pairs", lambda m, x, i, j: x[i, j], and_then(normal((3, 5)), REPEATED, [1, 4, 1, 1])),
    Row("getitem", "slice-array", lambda m, x, i: x[1:, i], and_then(normal((3, 5)), REPEATED)),
    Row("getitem", "array-int", lambda m, x, i: x[i, 1], and_then(normal((3, 5)), REPEATED)),
    Row("getitem", "split-arrays", lambda m, x, i: x[i, :, i], and_then(normal((3, 2, 4)), REPEATED)),
    Row("getitem", "none-array", lambda m, x, i: x[None, ..., i], and_then(normal((2, 3)), REPEATED)),
    Row("getitem", "boolean", lambda m, x, i: x[i], and_then(normal((2, 2)), [[True, False], [True, True]])),
    Row("getitem", "boolean-row", lambda m, x, i: x[:, i], and_then(normal((3, 2)), [False, True])),
    Row("reshape", "tuple", lambda m, x: m.reshape(x, (6, -1)), normal((3, 4))),
    Row("reshape", "to-0d", lambda m, x: m.reshape(x, ()), normal((1, 1))),
    Row("reshape", "transposed", lambda m, x: m.reshape(x.T, (12,)), normal((3, 4))),
    Row("transpose", "matrix", lambda m, x: x.T, normal((3, 5))),
    Row("transpose", "cycle", lambda m, x: m.permute(x, (2, 0, 1)), normal((2, 3, 4))),
    Row("transpose", "negative", lambda m, x: m.permute(x, (-1, 0, -2)), normal((2, 3, 4))),
    Row("transpose", "numpy", lambda m, x: x.transpose(1, 2, 0), normal((2, 3, 4)), lambda t, x: x.permute(1, 2, 0)),
    Row("swapaxes", "ends", lambda m, x: m.swapaxes(x, 0, -1), normal((2, 3, 4))),
    Row("expand_dims", "middle", lambda m, x: m.unsqueeze(x, 1), normal((2, 3))),
    Row("expand_dims", "pair", lambda m, x: m.expand_dims(x, (0, -1)), normal((2, 3)), lambda t, x: x[None, ..., None]),
    Row("squeeze", "all", lambda m, x: m.squeeze(x), normal((1, 3, 1))),
    Row("squeeze", "one", lambda m, x: m.squeeze(x, dim=-1), normal((1, 3, 1))),
    Row("broadcast_to", "new", lambda m, x: m.broadcast_to(x, (2, 3, 4)), normal((3, 1))),
    Row("broadcast_to", "0d", lambda m, x: m.broadcast_to(x, (2, 3)), normal(())),
    Row("broadcast_to", "same", lambda m, x: m.broadcast_to(x, (1, 3)), normal((1, 3))),
    Row("concatenate", "first", lambda m, *x: m.concatenate(x, dim=0), normal((2, 3), (1, 3), (5, 3))),
    Row("concatenate", "twice", lambda m, x: m.concatenate([x, x * 2, x], dim=1), normal((2, 3))),
    Row("stack", "first", lambda m, *x: m.stack(x), normal((2, 3), (2, 3), (2, 3))),
    Row("stack", "last", lambda m, *x: m.stack(x, dim=-1), normal((2, 3), (2, 3))),
    Row("stack", "0d", lambda m, *x: m.stack(x), normal((), ())),
    *[Row("split", case, lambda m, x, s=s, d=d: m.split(x, s, axis=d), normal((4, 6)),
          lambda t, x, s=s, d=d: t.tensor_split(x, s, dim=d))
      for case, s, d in (("equal", 3, 1), ("indices", [1, 4], -1), ("rows", 2, 0), ("one", 1, 0))],
    Row("split", "sizes", lambda m, x: m.split(x, [1, 0, 3], dim=0), normal((4, 6))),
    Row("split", "uneven", lambda m, x: m.split(x, 4, dim=1), normal((4, 6))),
]  # fmt: skip

# ---- products

CONVOLUTIONS = {  # of the windows: kernel_size, stride, padding, dilation
    "overlapping": ((2, 3), (1, 1), (0, 0), (1, 1)), "apart": ((2, 1), (3, 2), (0, 0), (1, 1)),
    "padded": ((3, 3), (1, 2), (1, 2), (1, 1)), "dilated": ((2, 3), (2, 1), (1, 0), (2, 2)),
    "one": ((5, 7), (1, 1), (0, 0), (1, 1)),
}  # fmt: skip
MATMULS = {
    "vec-vec": ((3,), (3,)), "vec-mat": ((3,), (3, 4)), "mat-vec": ((2, 3), (3,)), "mat-mat": ((2, 3), (3, 4)),
    "stack-stack": ((2, 3, 4), (2, 4, 5)), "stack-mat": ((2, 3, 4), (4, 5)), "mat-stack": ((3, 4), (2, 4, 5)),
    "stack-vec": ((2, 3, 4), (4,)), "vec-stack": ((4,), (2, 4, 3)), "both-broadcast": ((2, 1, 3, 4), (5, 4, 2)),
    "left-one": ((1, 3, 4), (2, 4, 5)), "right-one": ((2, 3, 4), (1, 4, 5)), "ones": ((1, 1), (1, 1)),
    "prime": ((7, 13), (13, 11)), "4d-vec": ((2, 3, 2, 4), (4,)), "vec-4d": ((4,), (2, 3, 4, 2)),
}  # fmt: skip
EINSUMS = [
    ("matrices", "ij,jk->ik", (3, 4), (4, 5)), ("implicit", "ij,jk", (3, 4), (4, 5)), ("outer", "i,j->ij", (3,), (4,)),
    ("sum", "ij->", (3, 4)), ("columns", "ij->j", (3, 4)), ("transpose", "ij->ji", (3, 4)), ("trace", "ii", (3, 3)),
    ("diagonal", "ii->i", (3, 3)), ("stack", "bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("same", "i->i", (3,)),
    ("ellipsis", "...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("ellipsis-implicit", "...ij,j", (2, 3, 4), (4,)),
    ("ellipsis-sum", "i...->...", (3, 4, 2)), ("three", "i,ij,j", (3,), (3, 4), (4,)), ("dot", "i,i", (3,), (3,)),
    ("hadamard", "ij,ij->ij", (3, 4), (3, 4)), ("lone", "ij,jk->k", (3, 4), (4, 5)),
    ("broadcast", "ij,ij->i", (3, 1), (3, 4)), ("diagonal-product", "iij,ij->j", (3, 3, 4), (3, 4)),
]  # fmt: skip
PRODUCTS = [
    *[Row("matmul", case, lambda m, a, b: m.matmul(a, b), normal(*shapes)) for case, shapes in MATMULS.items()],
    *[Row("einsum", case, lambda m, *x, eq=eq: m.einsum(eq, *x), normal(*shapes)) for case, eq, *shapes in EINSUMS],
    Row("matmul", "itself", lambda m, a: a @ a.T, normal((3, 5))),
    *[Row("linear", f"{case}-{'bias' if bias else 'plain'}", lambda m, *xwb: _nn(m).linear(*xwb),
          normal(x, (c, x[-1]), *([(c,)] if bias else [])))
      for bias in (True, False)
      for case, x, c in (("1d", (3,), 4), ("2d", (2, 3), 5), ("3d", (2, 3, 4), 5), ("one", (1, 1), 1),
                         ("prime", (7, 13), 11))],
]  # fmt: skip

# ---- networks


def _nn(m):
    """minigrad has everything in one place, torch keeps these in nn.functional."""
    return m.nn.functional if m.__name__ == "torch" else m


def attention(q, s, **setting):
    """q (B, H, T, D), and keys and values of length s."""
    kv = (*q[:2], s, q[3])
    torch = None if setting.get("p") else lambda t, *qkv: t.nn.functional.scaled_dot_product_attention(
        *qkv, is_causal=setting.get("causal", True), scale=setting.get("scale"))  # fmt: skip
    return (lambda m, *qkv: m.flash_attention(*qkv, **setting)), normal(q, kv, kv), torch


def torch_causal(n_head):
    def run(t, qkv):
        heads = qkv.unflatten(-1, (3, n_head, -1)).permute(2, 0, 3, 1, 4)
        out = t.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return out.transpose(1, 2).flatten(2)

    return run


def torch_windows(t, x, kernel_size, stride, padding, dilation):
    columns = t.nn.functional.unfold(x, kernel_size, dilation, padding, stride)  # (N, C * K, positions)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    n = [(a + 2 * p - w) // s + 1 for a, p, w, s in zip(x.shape[2:], padding, spans, stride, strict=True)]
    return columns.reshape(*x.shape[:2], *kernel_size, *n)


def cross_entropy(case, shape, targets, **setting):
    return Row(
        "softmax_cross_entropy", case, lambda m, z, y: m.softmax_cross_entropy(z, y, **setting),
        and_then(normal(shape), targets),
        lambda t, z, y: t.nn.functional.cross_entropy(z.flatten(0, -2), y.flatten(), **setting),
    )  # fmt: skip


def linear_cross_entropy(case, x, V, targets, grad_scale=1.0, **setting):
    return Row(
        "linear_cross_entropy", case,
        lambda m, x, w, y: m.linear_cross_entropy(x, w, y, grad_scale=grad_scale, **setting),
        and_then(normal(x, (V, x[-1])), targets),
        lambda t, x, w, y: t.nn.functional.cross_entropy((x @ w.T).flatten(0, -2), y.flatten(), **setting),
    )  # fmt: skip


TAPE = {"seed": 3, "step": 5, "stream": 7}
NETWORKS = [
    *[Row("sliding_windows", case,
          lambda m, x, k=k, s=s, p=p, d=d: m.sliding_windows(x, k, s, [(n, n) for n in p], d), normal((2, 3, 5, 7)),
          lambda t, x, k=k, s=s, p=p, d=d: torch_windows(t, x, k, s, p, d))
      for case, (k, s, p, d) in CONVOLUTIONS.items()],
    *[Row("gelu", f"{case}-{a}", lambda m, x, a=a: _nn(m).gelu(x, approximate=a), normal(shape))
      for a in ("none", "tanh") for case, shape in UNARY_SHAPES.items()],
    *[Row("layernorm", f"{case}-{'bias' if bias else 'plain'}", lambda m, x, *wb: m.layernorm(x, *wb, eps=1e-3),
          normal(x, x[-1:], *([x[-1:]] if bias else [])),
          lambda t, x, *wb: t.nn.functional.layer_norm(x, x.shape[-1:], *wb, eps=1e-3))
      for bias in (True, False)
      for case, x in (("1d", (5,)), ("2d", (3, 4)), ("3d", (2, 3, 7)), ("one", (1, 1)), ("prime", (17, 13)))],
    *[Row("embedding", case, lambda m, w, i: m.embedding(i, w), and_then(normal(shape), ids),
          lambda t, w, i: t.nn.functional.embedding(i, w))
      for case, shape, ids in (("repeats", (5, 3), [[1, 4, 1], [0, 1, 1]]), ("0d", (3, 2), 2), ("one", (1, 1), [0, 0]),
                               ("prime", (7, 13), [6, 6, 0, 3, 6]))],
    *[Row("seeded_dropout", case, lambda m, x, p=p: m.seeded_dropout(x, p, **TAPE), normal(shape), None)
      for case, shape, p in (("half", (5, 7), 0.5), ("some", (2, 3, 5), 0.1), ("none", (3,), 0.0), ("0d", (), 0.3))],
    *[Row("flash_attention", case, *attention(q, s, **setting)) for case, q, s, setting in (
        ("causal", (2, 2, 5, 3), 5, {}), ("full", (2, 2, 5, 3), 5, {"causal": False}),
        ("longer-keys", (1, 2, 3, 4), 7, {"causal": False}), ("shorter-keys", (2, 1, 5, 4), 2, {"causal": False}),
        ("causal-longer-keys", (1, 1, 3, 2), 5, {}), ("causal-shorter-keys", (1, 1, 5, 2), 3, {}),
        ("scale", (1, 2, 3, 4), 3, {"scale": 0.3}), ("one", (1, 1, 1, 1), 1, {}),
        ("dropout", (2, 2, 5, 3), 5, {"p": 0.3, **TAPE}),
        ("dropout-full", (1, 2, 3, 4), 7, {"causal": False, "p": 0.5, **TAPE}),
    )],
    *[Row("causal_self_attention", case, lambda m, x, n=n, s=s: m.causal_self_attention(x, n, **s), normal(shape),
          None if s else torch_causal(n))
      for case, shape, n, s in (("heads", (2, 5, 12), 2, {}), ("one-head", (1, 3, 9), 1, {}), ("one", (1, 1, 3), 1, {}),
                                ("dropout", (2, 5, 12), 2, {"p": 0.3, **TAPE}))],
    *[Row("binary_cross_entropy", f"{reduction}-{case}",
          lambda m, x, y, r=reduction: _nn(m).binary_cross_entropy(x, y, reduction=r), probabilities(shape, shape))
      for reduction in ("mean", "none") for case, shape in UNARY_SHAPES.items()],
    cross_entropy("mean", (4, 5), [1, 0, 4, 1]),
    cross_entropy("sum", (4, 5), [1, 0, 4, 1], reduction="sum"),
    cross_entropy("ignored", (4, 5), [1, -100, 4, -100]),
    cross_entropy("ignored-sum", (4, 5), [1, 2, 4, 2], ignore_index=2, reduction="sum"),
    cross_entropy("3d", (2, 3, 7), [[1, 0, 6], [-100, 3, 3]]),
    cross_entropy("one", (1, 1), [0]),
    cross_entropy("prime", (3, 13), [12, 0, 12]),
    linear_cross_entropy("mean", (4, 3), 5, [1, 0, 4, 1]),
    linear_cross_entropy("sum", (4, 3), 5, [1, 0, 4, 1], 0.25, reduction="sum"),
    linear_cross_entropy("ignored", (4, 3), 5, [1, -100, 4, -100], 8.0),
    linear_cross_entropy("3d", (2, 3, 5), 7, [[1, 0, 6], [-100, 3, 3]]),
    linear_cross_entropy("one", (1, 1), 1, [0]),
    linear_cross_entropy("prime", (3, 7), 13, [12, 0, 12]),
]  # fmt: skip

LISTED = ELEMENTWISE + REDUCTIONS + SHAPES + PRODUCTS + NETWORKS
#: of operations that are not listed here: the sample calls in their specs
FROM_SPECS = [
    Row(each.op, each.case, lambda m, *x, each=each: getattr(m, each.op)(*x, **each.keywords), each.build, each.torch)
    for spec in specs().values() for each in spec.GRADIENTS if each.op not in {row.op for row in LISTED}
]  # fmt: skip
ROWS = LISTED + FROM_SPECS
