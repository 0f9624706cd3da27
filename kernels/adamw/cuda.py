"""AdamW in one pass: four arrays are read and three written, nothing else touches memory.

`fused_adamw_step` also clips, decays by segment and writes the 16-bit copy in that pass; the clip factor and the step
count stay on the device.
"""

import math

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, accum_dtype, blocks, empty

_step = Kernel("adamw/adamw.cu", "adamw_step")
_FUSED = "adamw/fused_adamw.cu"
_begin = Kernel(_FUSED, "fused_adamw_begin")
_fused_step = Kernel(_FUSED, "fused_adamw_step")
_fused_step_wide = Kernel(_FUSED, "fused_adamw_step_wide")
_THREADS, _VECS_PER_THREAD = 256, 4  # as in the sources


def adamw_step(
    param: Array, grad: Array, m: Array, v: Array, step: int, learning_rate: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, grad_scale: float,
) -> None:  # fmt: skip
    """One AdamW step in place on param, m and v, all (n,). step counts from 1; see `kernels.adamw.reference`."""
    if not param.shape == grad.shape == m.shape == v.shape:
        raise ValueError(f"param {param.shape}, grad {grad.shape}, m {m.shape} and v {v.shape} differ in shape")
    _step.launch(
        blocks(param.size, _THREADS * 16 // param.dtype.itemsize), _THREADS, param, grad, m, v,
        beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, learning_rate / (1.0 - beta1**step),
        1.0 / math.sqrt(1.0 - beta2**step), 1.0 - learning_rate * weight_decay, grad_scale, param.size,
        dtype=param.dtype,
    )  # fmt: skip


def fused_adamw_step(
    param: Array, grad: Array, m: Array, v: Array, low: Array | None, step: Array, ends: Array, decays: Array,
    learning_rate: float, beta1: float, beta2: float, eps: float, norm: Array | float, max_norm: float,
) -> None:  # fmt: skip
    """One step in place on param, m, v (n,), low (n,) or None and step (); see `kernels.adamw.reference`.

    TypeError for a 16-bit grad or low beside parameters that are not float32.
    """
    for array in (grad, m, v, low):
        if array is not None and array.shape != param.shape:
            raise ValueError(f"param {param.shape} and its gradient, moments and copy differ in shape: {array.shape}")
    if ends.shape != decays.shape or not ends.size:
        raise ValueError(f"ends {ends.shape} and decays {decays.shape} must be equally long, and not empty")
    dtype = grad.dtype if low is None else low.dtype
    if param.dtype != accum_dtype(dtype) or (low is not None and low.dtype.itemsize != 2):
        raise TypeError(f"no kernel for a gradient of {grad.dtype} and a copy of {dtype} beside {param.dtype}")
    kernel = _fused_step if grad.dtype == dtype else _fused_step_wide  # the launch refuses any third dtype
    rates = empty(param, (3,), np.float64)
    _begin.launch(1, 1, rates, step, norm, learning_rate, beta1, beta2, max_norm, dtype=dtype)
    per_block = _THREADS * _VECS_PER_THREAD * 16 // param.dtype.itemsize
    kernel.launch(
        blocks(param.size, per_block), _THREADS, param, grad, m, v, low, rates, norm, ends, decays,
        beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, learning_rate, len(ends), param.size, dtype=dtype,
    )  # fmt: skip
