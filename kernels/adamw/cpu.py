"""AdamW in one pass: four arrays are read and three written, nothing else touches memory.

`fused_adamw_step` also clips, decays by segment and writes the 16-bit copy in that pass.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, round_to_odd, widen

_CHUNK = 16384


class Coefficients(NamedTuple):
    """The numbers of one step, in the parameters' dtype. c1 and c2, 1 - beta**step, are AdamW's bias corrections."""

    beta1: Any
    beta2: Any
    one_minus_beta1: Any
    one_minus_beta2: Any
    eps: Any
    learning_rate: Any
    m_scale: Any  # learning_rate / c1
    root_scale: Any  # 1 / sqrt(c2)
    grad_scale: Any


def _coefficients(
    dtype: np.dtype, step: int, learning_rate: float, beta1: float, beta2: float, eps: float, grad_scale: float
) -> Coefficients:
    m_scale, root_scale = learning_rate / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    numbers = beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, learning_rate, m_scale, root_scale, grad_scale
    return Coefficients(*map(dtype.type, numbers))


def adamw_step(
    param: Array, grad: Array, m: Array, v: Array, step: int, learning_rate: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, grad_scale: float,
) -> None:  # fmt: skip
    """One AdamW step in place on param, m and v, all (n,). step counts from 1; see `kernels.adamw.reference`."""
    coefficients = _coefficients(param.dtype, step, learning_rate, beta1, beta2, eps, grad_scale)
    decay_factor = param.dtype.type(1.0 - learning_rate * weight_decay)
    launch(_update, 2.0 * param.size, param, grad, m, v, decay_factor, coefficients)


def fused_adamw_step(
    param: Array, grad: Array, m: Array, v: Array, low: Array | None, step: Array, ends: Array, decays: Array,
    learning_rate: float, beta1: float, beta2: float, eps: float, norm: Array | float, max_norm: float,
) -> None:  # fmt: skip
    """One step in place on param, m, v (n,), low (n,) or None and step (); see `kernels.adamw.reference`."""
    if not math.isfinite(norm):
        return
    step[...] += 1
    clip = min(1.0, max_norm / (float(norm) + 1e-6)) if max_norm > 0 else 1.0
    coefficients = _coefficients(param.dtype, int(step), learning_rate, beta1, beta2, eps, clip)
    form, low_form = format_of(grad.dtype), 0 if low is None else format_of(low.dtype)
    wide_grad, grad_bits = np.zeros(0, param.dtype) if form else grad, bits_of(grad if form else None)
    launch(
        _update_arena, 2.5 * param.size, param, wide_grad, grad_bits, form, m, v, bits_of(low), low_form, ends, decays,
        coefficients,
    )  # fmt: skip


@jit(parallel=True)
def _update(param, grad, m, v, decay_factor, coefficients):
    for i in prange((param.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        _step(param[chunk], grad[chunk], m[chunk], v[chunk], decay_factor, coefficients)


@jit
def _step(param, grad, m, v, decay_factor, c):
    """AdamW on one thread. decay_factor: 1 - learning_rate * weight_decay. c: Coefficients."""
    for j in range(param.size):
        g = grad[j] * c.grad_scale
        m[j] = c.beta1 * m[j] + c.one_minus_beta1 * g
        v[j] = c.beta2 * v[j] + c.one_minus_beta2 * g * g
        param[j] = decay_factor * param[j] - c.m_scale * m[j] / (np.sqrt(v[j]) * c.root_scale + c.eps)


@jit(parallel=True)
def _update_arena(param, wide_grad, grad_bits, form, m, v, low_bits, low_form, ends, decays, coefficients):
    """The gradient is wide_grad, in param's dtype, if form is 0, else grad_bits. low_form: 0 for no 16-bit copy.

    Arrays are in no named tuple here: Numba drops what a `prange` loop writes to an array in one.
    """
    for i in prange((param.size + _CHUNK - 1) // _CHUNK):
        start, stop = i * _CHUNK, min(param.size, (i + 1) * _CHUNK)
        grad = wide_grad[start:stop] if form == 0 else _widened(grad_bits[start:stop], form, param.dtype)
        segment, begin = np.searchsorted(ends, start, side="right"), start
        while begin < stop:
            end = min(stop, ends[segment])
            decay_factor = param.dtype.type(1) - coefficients.learning_rate * decays[segment]
            here, in_chunk = slice(begin, end), slice(begin - start, end - start)
            _step(param[here], grad[in_chunk], m[here], v[here], decay_factor, coefficients)
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
