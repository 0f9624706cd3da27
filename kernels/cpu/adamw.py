"""AdamW over a flat arena: one pass, four arrays read and three written, nothing else touches memory."""

import math

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch

_CHUNK = 16384


def adamw_step(param, grad, m, v, step, learning_rate, beta1, beta2, eps, weight_decay, grad_scale):
    """One AdamW step in place on param, m and v, all (n,). step counts from 1; see `kernels.reference`."""
    real = param.dtype.type
    launch(
        _update, 2.0 * param.size, param, grad, m, v,
        real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2), real(eps),
        real(learning_rate / (1.0 - beta1**step)), real(1.0 / math.sqrt(1.0 - beta2**step)),
        real(1.0 - learning_rate * weight_decay), real(grad_scale),
    )  # fmt: skip


@jit(parallel=True)
def _update(param, grad, m, v, beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale):
    for i in prange((param.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        update(
            param[chunk], grad[chunk], m[chunk], v[chunk],
            beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale,
        )  # fmt: skip


@jit
def update(param, grad, m, v, beta1, beta2, rest1, rest2, eps, rate, root_scale, shrink, grad_scale):
    """AdamW on one thread. rate: learning rate over m's bias correction; root_scale: 1 / sqrt of v's.

    shrink: the factor of the weight decay.
    """
    for j in range(param.size):
        g = grad[j] * grad_scale
        m[j] = beta1 * m[j] + rest1 * g
        v[j] = beta2 * v[j] + rest2 * g * g
        param[j] = shrink * param[j] - rate * m[j] / (np.sqrt(v[j]) * root_scale + eps)
