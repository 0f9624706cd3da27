"""AdamW over a flat arena: one pass, four arrays read and three written, nothing else touches memory."""

import math

from kernels.cuda.launch import Kernel, blocks

_step = Kernel("adamw.cu", "adamw_step")
_THREADS = 256


def adamw_step(param, grad, m, v, step, learning_rate, beta1, beta2, eps, weight_decay, grad_scale):
    """One AdamW step in place on param, m and v, all (n,). step counts from 1; see `kernels.reference`."""
    if not param.shape == grad.shape == m.shape == v.shape:
        raise ValueError(f"param {param.shape}, grad {grad.shape}, m {m.shape} and v {v.shape} differ in shape")
    _step.launch(
        blocks(param.size, _THREADS * 16 // param.dtype.itemsize), _THREADS, param, grad, m, v,
        beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, learning_rate / (1.0 - beta1**step),
        1.0 / math.sqrt(1.0 - beta2**step), 1.0 - learning_rate * weight_decay, grad_scale, param.size,
        dtype=param.dtype,
    )  # fmt: skip
