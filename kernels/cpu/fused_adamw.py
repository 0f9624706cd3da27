"""AdamW over a whole arena of parameters in one pass: clipping, decay by segment, and the 16-bit copy included."""

import math

import numpy as np
from numba import prange

from kernels.cpu.adamw import update
from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, round_to_odd, widen

_CHUNK = 16384


def fused_adamw_step(param, grad, m, v, low, step, ends, decays, learning_rate, beta1, beta2, eps, norm, max_norm):
    """One step in place on param, m, v (n,), low (n,) or None and step (); see `kernels.reference`."""
    if not math.isfinite(norm):
        return
    step[...] += 1
    t, real = int(step), param.dtype.type
    clip = min(1.0, max_norm / (float(norm) + 1e-6)) if max_norm > 0 else 1.0
    form = format_of(grad.dtype)
    none = np.zeros(0, param.dtype)
    launch(
        _update, 2.5 * param.size, param, none if form else grad, bits_of(grad if form else None), form, m, v,
        bits_of(low), 0 if low is None else format_of(low.dtype), ends, decays,
        real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2), real(eps), real(learning_rate),
        real(learning_rate / (1.0 - beta1**t)), real(1.0 / math.sqrt(1.0 - beta2**t)), real(clip),
    )  # fmt: skip


@jit(parallel=True)
def _update(
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
            update(
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
