"""Seeded bugs in the kernels and optimizers: at least one for every kernel, in the reference or in the fast set."""

import numpy as np
from seeded import Bug

from kernels import KERNELS as KERNELS_OF
from kernels.gelu.reference import _normal_cdf

FAST, REFERENCE = "cpu.", "reference."
_HOME = {kernel: op for op, names in KERNELS_OF.items() for kernel in names} | {"_scores": "attention"}
SDPA = "scaled_dot_product_attention"


def kernel(name, where, change, op="", cause=""):
    """A kernel replaced by change(right, *args), where right is the right kernel."""
    where = f"kernels.{_HOME[where.partition('.')[2]]}.{where}"
    return Bug(name, where, lambda right: lambda *a, **k: change(right, *a, **k), op, cause)


def layernorm_without(mean, projection):
    """The reference kernel's dx without one of its two terms."""

    def change(right, dout, x, weight, mean_, rstd, dresidual=None):
        _, dweight, dbias = right(dout, x, weight, mean_, rstd)
        xhat, dxhat = (x - mean_[..., None]) * rstd[..., None], dout * weight
        dx = dxhat - mean * dxhat.mean(axis=-1, keepdims=True)
        dx = dx - projection * xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx = dx * rstd[..., None]
        return dx if dresidual is None else dx + dresidual, dweight, dbias

    return change


def eps_outside_the_root(right, x, weight, bias, eps):
    _, mean, _ = right(x, weight, bias, eps)
    rstd = (1.0 / (x.std(axis=-1) + eps)).astype(x.dtype)
    return (x - mean[..., None]) * rstd[..., None] * weight + bias, mean, rstd


def no_residual_gradient(right, dout, x, weight, mean, rstd, dresidual=None):
    return right(dout, x, weight, mean, rstd)


def first_row_as_dweight(right, *args):
    dx, _, dbias = right(*args)
    dout, x, _, mean, rstd, *_ = args
    return dx, (dout * (x - mean[..., None]) * rstd[..., None]).reshape(-1, x.shape[-1])[0], dbias


def last_id_wins(right, dout, ids, num_embeddings, into=None):
    dweight = np.zeros((num_embeddings, dout.shape[-1]), dout.dtype)
    dweight[ids.reshape(-1)] = dout.reshape(-1, dout.shape[-1])
    return dweight


def one_id_twice(right, dout, ids, num_embeddings, into=None):
    dweight = right(dout, ids, num_embeddings, into).copy()
    dweight[ids.flat[0]] += dout.reshape(-1, dout.shape[-1])[0]  # as at the seam of two chunks
    return dweight


def next_row(right, weight, ids):
    return right(weight, np.minimum(ids + 1, len(weight) - 1))


def mask_one_short(right, q, k, scale, causal):
    scores = (q @ k.swapaxes(-1, -2)) * scale
    if causal:  # a query sees one key too many
        scores[..., ~np.tri(q.shape[2], k.shape[2], 1, dtype=bool)] = -np.inf
    return scores


def no_row_sum(right, dout, q, k, v, out, *rest, **named):
    return right(dout, q, k, v, np.zeros_like(out), *rest, **named)


def all_rows_counted(right, logits, targets, ignore_index, reduction):
    loss, logsumexp, divisor = right(logits, targets, ignore_index, reduction)
    if reduction == "sum":
        return loss, logsumexp, divisor
    return (loss * float(divisor) / targets.size).astype(loss.dtype), logsumexp, np.asarray(targets.size)


def half_precision(right, dout, x, *setting):
    if x.dtype == np.float32:
        return right(dout, x.astype(np.float16).astype(np.float32), *setting)
    return right(dout, x, *setting)


def adamw(corrected=True, root_eps=False, decoupled=True, scaled=True, squared=True):
    """AdamW as published, or with one mistake."""

    def change(right, param, grad, m, v, step, rate, beta1, beta2, eps, decay, grad_scale):
        g = grad * (grad_scale if scaled else 1.0) + (0.0 if decoupled else decay * param)
        m[...] = beta1 * m + (1.0 - beta1) * g
        v[...] = beta2 * v + (1.0 - beta2) * (g * g if squared else np.abs(g))
        mhat, vhat = (m / (1 - beta1**step), v / (1 - beta2**step)) if corrected else (m, v)
        if decoupled:
            param *= 1.0 - rate * decay
        param -= rate * mhat / (np.sqrt(vhat + eps) if root_eps else np.sqrt(vhat) + eps)

    return change


def truncated(right, x, dtype):
    out = right(x, dtype)
    return np.where(np.abs(out.astype(x.dtype)) > np.abs(x), np.nextafter(out, out.dtype.type(0)), out)


def sgd_forgets(right, param, grad, momentum_buffer, rate, momentum, weight_decay):
    right(param, grad, None, rate, momentum, weight_decay)


def sgd_decay_times_rate(right, param, grad, momentum_buffer, rate, momentum, weight_decay):
    right(param, grad, momentum_buffer, rate, momentum, rate * weight_decay)


def without_last_row(right, dout, x, weight, bias, into=None):
    rows, x_rows = dout.reshape(-1, dout.shape[-1]), x.reshape(-1, x.shape[-1])
    return right(dout, x, weight, bias)[0], *right(rows[:-1], x_rows[:-1], weight, bias)[1:]


KERNELS = [
    kernel("bias forgotten", f"{FAST}linear_forward", lambda right, x, w, b: right(x, w, None), "linear", "wrong term"),
    kernel("bias gradient from the first row alone", f"{REFERENCE}linear_backward",
           lambda right, dout, x, w, b, into=None: (*right(dout, x, w, b, into)[:2], dout.reshape(-1, len(w))[0]),
           "linear", "missing broadcast sum"),
    kernel("last row left out of dweight", f"{FAST}linear_backward",
           without_last_row, "linear", "overwritten"),
    kernel("eps outside the root", f"{REFERENCE}layernorm_forward", eps_outside_the_root, "layernorm", "wrong term"),
    kernel("eps outside the root", f"{FAST}layernorm_forward", eps_outside_the_root, "layernorm", "wrong term"),
    kernel("mean of dxhat forgotten", f"{REFERENCE}layernorm_backward", layernorm_without(0, 1), "layernorm",
           "mean not subtracted"),
    kernel("component along xhat forgotten", f"{REFERENCE}layernorm_backward", layernorm_without(1, 0), "layernorm",
           "wrong term"),
    kernel("weight gradient from the first row alone", f"{FAST}layernorm_backward", first_row_as_dweight, "layernorm",
           "missing broadcast sum"),
    kernel("gradient past the norm forgotten", f"{FAST}layernorm_backward", no_residual_gradient, "layernorm"),
    kernel("cubic constant of 0.044", f"{FAST}gelu_forward",
           lambda right, x, how: right(x, how) if how != "tanh" else right(x, how) - 1e-4 * x**3, "gelu",
           "wrong term"),
    kernel("density forgotten", f"{REFERENCE}gelu_backward",
           lambda right, dout, x, how, *_: dout * _normal_cdf(x), "gelu", "wrong term"),
    kernel("half precision inside float32", f"{FAST}gelu_backward", half_precision, "gelu"),
    kernel("next row of the table", f"{FAST}embedding_forward", next_row, "embedding", "shifted"),
    kernel("`=` for `+=` at repeated ids", f"{REFERENCE}embedding_backward", last_id_wins, "embedding", "overwritten"),
    kernel("an id at the seam added twice", f"{FAST}embedding_backward", one_id_twice, "embedding",
           "accumulated twice"),
    kernel("forward draws another stream", f"{FAST}dropout_forward",
           lambda right, x, p, seed, step, stream: right(x, p, seed, step, stream + 1), "dropout", "mask forgotten"),
    kernel("1 - p for 1 / (1 - p)", f"{FAST}dropout_backward", lambda right, *a: right(*a) * np.float32(0.49),
           "dropout", "scale forgotten"),
    kernel("1 / D for 1 / sqrt(D)", f"{FAST}attention_forward",
           lambda right, q, k, v, scale, *rest, **s: right(q, k, v, scale**2, *rest, **s), SDPA,
           "scale forgotten"),
    kernel("causal mask one key short, in both directions", f"{REFERENCE}_scores", mask_one_short, SDPA),
    kernel("row sum of dout * out forgotten", f"{REFERENCE}attention_backward", no_row_sum, SDPA,
           "mean not subtracted"),
    kernel("ignored rows counted in the loss", f"{FAST}softmax_cross_entropy_forward", all_rows_counted,
           "softmax_cross_entropy"),
    kernel("twice the gradient", f"{FAST}softmax_cross_entropy_backward", lambda right, *a: 2.0 * right(*a),
           "softmax_cross_entropy", "factor 2"),
    kernel("bias correction forgotten", f"{FAST}adamw_step", adamw(corrected=False)),
    kernel("eps inside the root", f"{FAST}adamw_step", adamw(root_eps=True)),
    kernel("decay added to the gradient (L2)", f"{REFERENCE}adamw_step", adamw(decoupled=False)),
    kernel("clipping scale forgotten", f"{FAST}adamw_step", adamw(scaled=False)),
    kernel("abs(g) for g squared", f"{REFERENCE}adamw_step", adamw(squared=False)),
    kernel("root forgotten", f"{FAST}global_norm", lambda right, arrays: right(arrays) ** 2),
    kernel("summed in float32", f"{REFERENCE}global_norm",
           lambda right, arrays: float(np.sqrt(sum(np.square(a, dtype=np.float32).sum() for a in arrays)))),
    kernel("targets of another token", f"{FAST}linear_cross_entropy_forward",
           lambda right, x, weight, targets, *a: right(x, weight, np.roll(targets, 1), *a)),
    kernel("gradient scale applied twice", f"{REFERENCE}linear_cross_entropy_forward",
           lambda right, *a: (right(*a)[0], *(a[5] * d for d in right(*a)[1:]))),
    kernel("gradient scale not taken out", f"{FAST}linear_cross_entropy_backward",
           lambda right, dout, dx, dweight, grad_scale, *a: right(dout, dx, dweight, 1.0, *a)),
    kernel("norm ignored: nothing is clipped", f"{FAST}fused_adamw_step", lambda right, *a: right(*a[:-1], 0.0)),
    kernel("decays shifted by a segment", f"{REFERENCE}fused_adamw_step",
           lambda right, *a: right(*a[:7], np.roll(a[7], 1), *a[8:])),
    kernel("step not counted", f"{FAST}fused_adamw_step", lambda right, *a: right(*a[:5], a[5].copy(), *a[6:])),
    kernel("last array left as it was", f"{FAST}scale_and_check",
           lambda right, arrays, scale: right([*arrays[:-1], arrays[-1].copy()], scale)),
    kernel("truncated instead of rounded", f"{FAST}cast", truncated),
    Bug("momentum forgotten", "minigrad.optim.sgd_step",
        lambda right: lambda *a: sgd_forgets(right, *a), ""),
    Bug("weight decay scaled by the learning rate twice", "minigrad.optim.sgd_step",
        lambda right: lambda *a: sgd_decay_times_rate(right, *a), ""),
]  # fmt: skip
