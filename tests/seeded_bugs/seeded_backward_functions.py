"""Seeded bugs in the backward functions of minigrad.ops, at least one in each, and in the engine."""

import numpy as np
from seeded import Bug

from minigrad import ops
from minigrad.opcases import OpCase
from minigrad.ops.activation import _sigmoid
from minigrad.ops.elementwise import unbroadcast

ELEMENTWISE, REDUCE, SHAPE, JOINING, INDEXING, LINALG, NN, ATTENTION, LOSS, CONV = (
    f"minigrad.ops.{name}."
    for name in ("elementwise", "reduce", "shape", "joining", "indexing", "linalg", "nn", "attention", "loss", "conv")
)
ACTIVATION, CUMULATIVE, POINTWISE_LOSS, ROUNDING, TRANSCENDENTAL = (
    f"minigrad.ops.{name}." for name in ("activation", "cumulative", "pointwise_loss", "rounding", "transcendental")
)


def wrong(name, op, function, cause, module, case=None):
    """A backward function replaced by a wrong one of the same arguments."""
    return Bug(name, f"{module}{op}_backward", lambda right: lambda *a, **k: function(*a, **k), op, cause, case)


def after(name, op, change, cause, module, case=None):
    """A backward function whose results are changed."""
    return Bug(name, f"{module}{op}_backward", lambda right: lambda *a, **k: change(right(*a, **k)), op, cause, case)


def overwritten_overlaps(dout, x_shape, kernel_size, stride, padding, dilation):
    (top, _), (left, _) = padding
    dx = np.zeros((*x_shape[:2], *(n + a + b for n, (a, b) in zip(x_shape[2:], padding, strict=True))), dout.dtype)
    for i, j in np.ndindex(*kernel_size):
        rows, columns = (
            e * d + s * np.arange(n) for e, d, s, n in zip((i, j), dilation, stride, dout.shape[4:], strict=True)
        )
        dx[:, :, rows[:, None], columns] = dout[:, :, i, j]  # `=` for `+=` where windows overlap
    return dx[:, :, top : top + x_shape[2], left : left + x_shape[3]]


def first_row(dout, a_shape, b_shape):
    return dout, dout[0].reshape(b_shape)


def matmul_last_of_stack(dout, a, b, a_shape, b_shape):
    for i in range(len(dout)):
        db = a[i].T @ dout[i]  # `=` in a loop over the stack
    return dout @ b.T, db


def squeeze_in_place(dout, x_shape):
    dout *= 2.0
    return (dout * 0.5).reshape(x_shape)


def overwriting_getitem(dout, x_shape, index):
    dx = np.zeros(x_shape, dout.dtype)
    dx[index] += dout  # adds once for an index that stands twice
    return dx


def first_entries_only(grad, shape):
    """unbroadcast that sums over new axes, and takes the first entry of axes of length 1."""
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    return grad[tuple(slice(n) for n in shape)]


def replacing(self, grad, totals=None):
    self.grad = grad.copy()  # a leaf that is used twice keeps only one gradient


def limits_forgotten(dout, x, low, high):
    return (dout, 0.0 * low, 0.0 * high) if hasattr(low, "shape") else dout


def random_mask(dout, p, seed, step, stream):
    return dout * (_RNG.random(dout.shape) >= p) / (1.0 - p)


def with_float64_constant(right):
    return lambda dout, out: right(dout, out) * np.full(1, 1.0)  # a stray array of doubles widens float32


def all_columns(dout, x, out, axis):
    return dout.reshape([1 if i in axis else n for i, n in enumerate(x.shape)]) * np.ones_like(x)


def the_other_end(dout, x, out, axis):
    return (x == x.max(axis=axis, keepdims=True)) * dout[..., None]


def product_over_factor(dout, x, axis):
    with np.errstate(divide="ignore", invalid="ignore"):
        return dout[..., None] * x.prod(axis=axis, keepdims=True) / x


def no_mask(dout, logits, targets, logsumexp, divisor, ignore_index):
    dlogits = np.exp(logits - logsumexp.sum(axis=-1)[..., None])
    np.put_along_axis(dlogits, targets[..., None] % 7, np.take_along_axis(dlogits, targets[..., None] % 7, -1) - 1, -1)
    return dlogits * dout / divisor


def ignored_rows_counted(right):
    def wrong(dout, logits, targets, logsumexp, divisor, ignore_index):
        return right(dout, logits, targets, logsumexp, targets.size if divisor > 1 else 1, ignore_index)

    return wrong


def no_value_gradient(dqkv):
    dqkv[..., 2 * dqkv.shape[-1] // 3 :] = 0.0
    return dqkv


def attention_unmasked(right):
    return lambda *args, **setting: right(*args, **{**setting, "causal": False})


def attention_other_step(right):
    return lambda *args, **setting: right(*args, **{**setting, "step": setting["step"] + 1})


_RNG = np.random.default_rng(0)
_SQUARE = OpCase("matmul", "square", ops.matmul, lambda rng: list(rng.standard_normal((2, 3, 3))))
_CUBE = OpCase("transpose", "cube", lambda x: ops.transpose(x, (2, 0, 1)), lambda rng: [rng.standard_normal((3, 3, 3))])
_TWICE = OpCase("add", "twice", lambda x: ops.add(ops.exp(x), ops.tanh(x)), lambda rng: [rng.standard_normal((5, 3))])
_STACKS = OpCase("matmul", "stack", ops.matmul,
                 lambda rng: [rng.standard_normal((2, 5, 3)), rng.standard_normal((3, 7))])  # fmt: skip
_CHAIN = OpCase("einsum", "square", lambda a, b: ops.einsum("ij,jk->ik", a, b),
                lambda rng: list(rng.standard_normal((2, 3, 3))))  # fmt: skip

BACKWARD_FUNCTIONS = [
    wrong("lost broadcast axis: one row for the sum", "add", first_row, "missing broadcast sum", ELEMENTWISE),
    after("the sum over a broadcast axis not taken at all", "sub", lambda g: (np.repeat(g[0], 3, 1), g[1]),
          "missing broadcast sum", ELEMENTWISE),
    wrong("minus sign lost", "sub", lambda dout, a_shape, b_shape: (unbroadcast(dout, a_shape), dout), "sign",
         ELEMENTWISE),
    wrong("the other factor forgotten", "mul",
         lambda dout, a, b, a_shape, b_shape: (dout, unbroadcast(dout * a, b_shape)),
         "scale forgotten", ELEMENTWISE),
    after("mean for sum over a broadcast axis", "mul", lambda g: (g[0], g[1] / 5.0), "factor N", ELEMENTWISE),
    after("sign of the denominator's gradient", "div", lambda g: (g[0], -g[1]), "sign", ELEMENTWISE),
    wrong("1 / b for 1", "div", lambda dout, a, b, a_shape: (dout, unbroadcast(-dout * a / (b * b), b.shape)),
         "scale forgotten", ELEMENTWISE),
    wrong("the exponent as a factor forgotten", "pow", lambda dout, a, b, out: (dout * a ** (b - 1), None),
         "scale forgotten", ELEMENTWISE),
    wrong("sign forgotten", "neg", lambda dout: dout, "sign", ELEMENTWISE),
    wrong("the output as a factor forgotten", "exp", lambda dout, out: dout, "scale forgotten", ELEMENTWISE),
    Bug("a stray double widens float32", f"{ELEMENTWISE}exp_backward", with_float64_constant, "exp"),
    wrong("1 / x forgotten", "log", lambda dout, x: dout, "scale forgotten", ELEMENTWISE),
    wrong("one half forgotten", "sqrt", lambda dout, out: dout / out, "factor 2", ELEMENTWISE),
    wrong("log(2) forgotten", "exp2", lambda dout, x: dout * np.exp2(x), "scale forgotten", TRANSCENDENTAL),
    wrong("the output for e ** x", "expm1", lambda dout, x: dout * np.expm1(x), "", TRANSCENDENTAL),
    wrong("log(2) forgotten", "log2", lambda dout, x: dout / x, "scale forgotten", TRANSCENDENTAL),
    wrong("log(10) forgotten", "log10", lambda dout, x: dout / x, "scale forgotten", TRANSCENDENTAL),
    wrong("1 / x for 1 / (1 + x)", "log1p", lambda dout, x: dout / x, "", TRANSCENDENTAL),
    wrong("out cubed without one half", "rsqrt", lambda dout, x, out: -dout * out / x, "factor 2", ELEMENTWISE),
    wrong("minus cosine", "sin", lambda dout, x: -dout * np.cos(x), "sign", TRANSCENDENTAL),
    wrong("minus sign lost", "cos", lambda dout, x: dout * np.sin(x), "sign", TRANSCENDENTAL),
    after("beta as a factor, which cancels", "softplus", lambda dx: 3.0 * dx, "scale forgotten", ACTIVATION),
    after("the inner minus sign forgotten", "logsigmoid", lambda dx: -dx, "sign", ACTIVATION),
    wrong("the slope of x > 0 everywhere", "elu", lambda dout, x, alpha, scale: dout * scale, "", ACTIVATION),
    after("the divisor's gradient forgotten", "remainder", lambda g: (g[0], 0.0 * g[1]), "", ROUNDING),
    wrong("sign(x) forgotten", "abs", lambda dout, x: dout, "sign", ELEMENTWISE),
    wrong("1 - tanh for 1 - tanh**2", "tanh", lambda dout, x: dout * (1 - np.tanh(x)), "wrong term", ACTIVATION),
    wrong("dout ignored", "sigmoid", lambda dout, x: _sigmoid(x) * _sigmoid(-x), "right only for all-ones upstream",
          ACTIVATION),
    wrong("mask dropped in backward", "relu", lambda dout, x: dout, "mask forgotten", ACTIVATION),
    wrong("one of two terms forgotten", "silu", lambda dout, x: dout * 0.5 * (1 + np.tanh(0.5 * x)),
         "wrong term", ACTIVATION),
    wrong("both sides get the gradient", "maximum", lambda dout, a, b: (dout, dout.sum(axis=0)),
         "mask forgotten", ELEMENTWISE),
    after("half, as if always tied", "minimum", lambda g: (0.5 * g[0], 0.5 * g[1]), "factor 2", ELEMENTWISE),
    after("branches exchanged", "where", lambda g: (g[1] * np.ones((2, 1)), g[0].sum(axis=0)), "mask inverted",
          ELEMENTWISE),
    Bug("condition negated", f"{ELEMENTWISE}where_backward",
        lambda right: lambda dout, condition, a_shape, b_shape: right(dout, ~condition, a_shape, b_shape), "where",
        "mask inverted"),
    wrong("limits forgotten", "clip", limits_forgotten, "mask forgotten", ELEMENTWISE),
    wrong("gradient left in the other dtype", "astype", lambda dout, dtype: dout, "dtype", ELEMENTWISE),
    wrong("b for its transpose", "matmul", lambda dout, a, b, a_shape, b_shape: (dout @ b, a.T @ dout), "transposed",
         LINALG, _SQUARE),
    wrong("`=` for `+=` over a stack", "matmul", matmul_last_of_stack, "overwritten", LINALG, _STACKS),
    after("mean for sum", "sum", lambda dx: dx / 7.0, "factor N", REDUCE),
    after("not divided by the count", "mean", lambda dx: dx * 7.0, "factor N", REDUCE),
    after("2 forgotten", "var", lambda dx: 0.5 * dx, "factor 2", REDUCE),
    Bug("divided by n for n - 1", f"{REDUCE}var_backward",
        lambda right: lambda dout, x, axis, correction: right(dout, x, axis, 0), "var", "factor N"),
    wrong("everyone gets the gradient", "amax", all_columns, "mask forgotten", REDUCE),
    wrong("largest chosen for smallest", "amin", the_other_end, "permuted", REDUCE),
    Bug("out / x, which is 0 / 0 for a factor of 0", f"{CUMULATIVE}prod_backward",
        lambda right: product_over_factor, "prod", "not finite"),
    wrong("summed from the wrong end", "cumsum", lambda dout, axis: np.cumsum(dout, axis), "transposed", CUMULATIVE),
    Bug("dout from the wrong end", f"{CUMULATIVE}cumprod_backward",
        lambda right: lambda dout, x, axis: right(np.flip(dout, axis), x, axis), "cumprod",
        "right only for all-ones upstream"),
    after("sign(x) forgotten", "norm", np.abs, "sign", REDUCE),
    after("operands exchanged", "einsum", lambda grads: grads[::-1], "inputs swapped", LINALG, _CHAIN),
    wrong("column order", "reshape", lambda dout, x_shape: dout.reshape(x_shape, order="F"), "permuted", SHAPE),
    wrong("axes not inverted", "transpose", lambda dout, axes: dout.transpose(axes), "transposed", SHAPE, _CUBE),
    wrong("not swapped back", "swapaxes", lambda dout, axis1, axis2: dout, "transposed", SHAPE),
    wrong("axis left in", "expand_dims", lambda dout, x_shape: dout, "shape", SHAPE),
    wrong("dout changed in place", "squeeze", squeeze_in_place, "modifies dout", SHAPE),
    after("mean for sum", "broadcast_to", lambda dx: dx / 5.0, "factor N", SHAPE),
    Bug("cuts off by one", f"{JOINING}concatenate_backward",
        lambda right: lambda dout, sizes, axis: right(np.roll(dout, 1, axis), sizes, axis), "concatenate", "shifted"),
    after("parts in the opposite order", "stack", lambda grads: grads[::-1], "inputs swapped", JOINING),
    wrong("`=` for `+=` at repeated indices", "getitem", overwriting_getitem, "overwritten", INDEXING),
    after("off by one", "getitem", lambda dx: np.roll(dx, 1, axis=0), "shifted", INDEXING),
    wrong("mean forgotten", "softmax", lambda dout, out, axis: dout * out, "mean not subtracted", NN),
    wrong("sum forgotten", "log_softmax", lambda dout, out, axis: dout, "mean not subtracted", NN),
    wrong("dout left out", "log_softmax", lambda dout, out, axis: 1.0 - 7 * np.exp(out),
         "right only for all-ones upstream", NN),
    wrong("zeros, which is right for dout of ones", "softmax", lambda dout, out, axis: np.zeros_like(dout),
         "right only for all-ones upstream", NN),
    after("bias gradient not summed over the rows", "linear", lambda g: (g[0], g[1], np.ones((2, 5, 1)) * g[2]),
          "missing broadcast sum", NN),
    after("weight and bias exchanged", "layernorm", lambda g: (g[0], g[2], g[1]), "inputs swapped", NN),
    after("NaN", "gelu", lambda dx: dx * np.nan, "not finite", NN),
    after("off by one row", "embedding", lambda dweight: np.roll(dweight, 1, axis=0), "shifted", NN),
    wrong("mask drawn anew at every call", "seeded_dropout", random_mask, "nondeterministic", NN),
    wrong("mask dropped in backward", "seeded_dropout", lambda dout, p, **_: dout / (1 - p), "mask forgotten", NN),
    after("1 / (1 - p) forgotten in backward", "seeded_dropout", lambda dx: dx * 0.7, "scale forgotten", NN),
    Bug("causal mask dropped in backward", f"{ATTENTION}flash_attention_backward", attention_unmasked,
        "flash_attention", "mask forgotten"),
    after("1 / sqrt(D) forgotten", "flash_attention", lambda g: (g[0] * 3**0.5, g[1] * 3**0.5, g[2]), "scale forgotten",
          ATTENTION),
    Bug("dropout of the wrong step in backward", f"{ATTENTION}flash_attention_backward",
        attention_other_step, "flash_attention", "mask forgotten"),
    wrong("`=` for `+=` where windows overlap", "sliding_windows", overwritten_overlaps, "overwritten", CONV),
    after("values get no gradient", "causal_self_attention", no_value_gradient, "lost", ATTENTION),
    wrong("ignored rows get a gradient", "softmax_cross_entropy", no_mask, "mask forgotten", LOSS),
    Bug("ignored rows counted in the divisor", f"{LOSS}softmax_cross_entropy_backward", ignored_rows_counted,
        "softmax_cross_entropy", "factor N"),
    wrong("derivative of a logit's loss", "binary_cross_entropy",
          lambda dout, x, target: (dout * (x - target), dout * (np.log1p(-x) - np.log(x))), None, POINTWISE_LOSS),
    Bug("upstream gradient left out", f"{LOSS}linear_cross_entropy_backward",
        lambda right: lambda dout, dx, dweight, grad_scale, **_: (dx / grad_scale, dweight / grad_scale),
        "linear_cross_entropy", "scale forgotten"),
    Bug("one entry of an axis of length 1, for the sum", f"{ELEMENTWISE}unbroadcast", lambda right: first_entries_only,
        "sub", "missing broadcast sum"),
    Bug("a leaf used twice keeps one gradient", "minigrad._tensor.Tensor.accumulate", lambda right: replacing,
        "add", "overwritten", _TWICE),
]  # fmt: skip
