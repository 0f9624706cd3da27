"""AdamW over a whole arena of parameters in one pass, with the clip factor and the step count on the device."""

import numpy as np

from kernels.cuda.launch import Kernel, accum_dtype, blocks, empty

_FILE = "fused_adamw.cu"
_begin = Kernel(_FILE, "fused_adamw_begin")
_step = Kernel(_FILE, "fused_adamw_step")
_step_wide = Kernel(_FILE, "fused_adamw_step_wide")
_THREADS, _PACKS = 256, 4  # as in the source


def fused_adamw_step(
    param, grad, m, v, low, step, ends, decays, learning_rate, beta1, beta2, eps, norm, max_norm
):  # fmt: skip
    """One step in place on param, m, v (n,), low (n,) or None and step (); see `kernels.reference`.

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
    kernel = _step if grad.dtype == dtype else _step_wide  # the launch refuses any third dtype
    rates = empty(param, (3,), np.float64)
    _begin.launch(1, 1, rates, step, norm, learning_rate, beta1, beta2, max_norm, dtype=dtype)
    per_block = _THREADS * _PACKS * 16 // param.dtype.itemsize
    kernel.launch(
        blocks(param.size, per_block), _THREADS, param, grad, m, v, low, rates, norm, ends, decays,
        beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, learning_rate, len(ends), param.size, dtype=dtype,
    )  # fmt: skip
