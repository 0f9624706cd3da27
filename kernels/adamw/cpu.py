"""AdamW in one pass: four arrays are read and three written, nothing else touches memory.

`fused_adamw_step` also clips, decays by segment and writes the 16-bit copy in that pass.
"""

import math

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, round_to_odd, widen

_CHUNK = 16384


def adamw_step(param, grad, m, v, step, learning_rate, beta1, beta2, eps, weight_decay, grad_scale):
    """One AdamW step in place on param, m and v, all (n,). step counts from 1; see `kernels.adamw.reference`."""
    real = param.dtype.type
    launch(
        _update, 2.0 * param.size, param, grad, m, v,
        real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2), real(eps),
        real(learning_rate / (1.0 - beta1**step)), real(1.0 / math.sqrt(1.0 - beta2**step)),
        real(1.0 - learning_rate * weight_decay), real(grad_scale),
    )  # fmt: skip


def fused_adamw_step(param, grad, m, v, low, step, ends, decays, learning_rate, beta1, beta2, eps, norm, max_norm):
    """One step in place on param, m, v (n,), low (n,) or None and step (); see `kernels.adamw.reference`."""
    if not math.isfinite(norm):
        return
    step[...] += 1
    t, real = int(step), param.dtype.type
    clip = min(1.0, max_norm / (float(norm) + 1e-6)) if max_norm > 0 else 1.0
    form = format_of(grad.dtype)
    none = np.zeros(0, param.dtype)
    launch(
        _update_arena, 2.5 * param.size, param, none if form else grad, bits_of(grad if form else None), form, m, v,
        bits_of(low), 0 if low is None else format_of(low.dtype), ends, decays,
        real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2), real(eps), real(learning_rate),
        real(learning_rate / (1.0 - beta1**t)), real(1.0 / math.sqrt(1.0 - beta2**t)), real(clip),
    )  # fmt: skip


@jit(parallel=True)
def _update(param, grad, m, v, beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale):
    for i in prange((param.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        _step(
            param[chunk], grad[chunk], m[chunk], v[chunk],
            beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale,
        )  # fmt: skip


@jit
def _step(param, grad, m, v, beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale):
    """AdamW on one thread. rate: learning rate over m's bias correction; root_scale: 1 / sqrt of v's.

    shrink: the factor of the weight decay.
    """
    for j in range(param.size):
        g = grad[j] * grad_scale
        m[j] = beta1 * m[j] + rest1 * g
        v[j] = beta2 * v[j] + rest2 * g * g
        param[j] = shrink * param[j] - rate * m[j] / (np.sqrt(v[j]) * root_scale + eps)


@jit(parallel=True)
def _update_arena(
    param, grad, grad_bits, grad_form, m, v, low_bits, low_form, ends, decays,
    beta1, beta2, rest1, rest2, eps, learning_rate, rate, root_scale, clip,
):  # fmt: skip
    # rate: learning rate over m's bias correction; root_scale: 1 / sqrt of v's
    for i in prange((param.size + _CHUNK - 1) // _CHUNK):
        start, stop = i * _CHUNK, min(param.size, (i + 1) * _CHUNK)
        chunk = grad[start:stop] if grad_form == 0 else _widened(grad_bits[start:stop], grad_form, param.dtype)
        segment, begin = np.searchsorted(ends, start, side="right"), start
        while begin < stop:
            end = min(stop, ends[segment])
            shrink = param.dtype.type(1) - learning_rate * decays[segment]
            _step(
                param[begin:end], chunk[begin - start : end - start], m[begin:end], v[begin:end],
                beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, clip,
            )  # fmt: skip
            segment, begin = segment + 1, end
        if low_form:
            for j in range(start, stop):
                low_bits[j] = narrow(round_to_odd(param[j]), low_form)


@jit
def _widened(bits, form, dtype):
    out = np.empty(bits.size, dtype)
    for j in range(bits.size):
        out[j] = widen(bits[j], form)
    return out
