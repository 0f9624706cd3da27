"""What tests, gates and benchmarks need to know of adamw: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import Bug, Kernel, MachineCode, Sizes, Source, accum, normal


def _step(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """param, grad, m, v (P,), step, learning_rate, beta1, beta2, eps, weight_decay, grad_scale."""
    param, grad, m, v = (normal(rng, dtype, s.P) for _ in range(4))
    return param, grad, m, np.abs(v), 3, 0.1, 0.9, 0.99, 1e-3, 0.1, 0.5


def _fused_step(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """param, grad, m, v, low (P,), step (), ends, decays, learning_rate, beta1, beta2, eps, norm (), max_norm.

    float32 parameters beside 16-bit gradients, and a copy of them then. Four segments, one of them empty.
    """
    wide = accum(dtype)
    param, m, v = (normal(rng, wide, s.P) for _ in range(3))
    low = np.zeros(s.P, dtype) if dtype.itemsize == 2 else None
    first = min(7, s.P // 2)
    ends, decays = np.array([first, first, s.P // 2 + 1, s.P]), np.array([0.1, 0.3, 0.0, 0.2], wide)
    state = param, normal(rng, dtype, s.P), m, np.abs(v), low, np.asarray(2)
    return *state, ends, decays, 0.1, 0.9, 0.99, 1e-3, np.asarray(3.0), 2.0


KERNELS = (
    Kernel("adamw_step", _step, (3.5e-7, 1.2e-15), written=(0, 2, 3)),
    Kernel("fused_adamw_step", _fused_step, (3.5e-7, 1.2e-15), written=(0, 2, 3, 4), unread=(4,)),
)
GRADIENTS = ()
SOURCES = {
    "fused_adamw.cu": Source(kernels={
        "fused_adamw_begin": MachineCode("none", threads=1, why="one thread, eight numbers"),
    }),
}  # fmt: skip


def _adamw(
    corrected: bool = True, root_eps: bool = False, decoupled: bool = True, scaled: bool = True, squared: bool = True
) -> Callable:
    """AdamW as published, or with one thing changed."""

    def change(
        right: Callable,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        step: int,
        rate: float,
        beta1: float,
        beta2: float,
        eps: float,
        decay: float,
        grad_scale: float,
    ) -> None:
        g = grad * (grad_scale if scaled else 1.0) + (0.0 if decoupled else decay * param)
        m[...] = beta1 * m + (1.0 - beta1) * g
        v[...] = beta2 * v + (1.0 - beta2) * (g * g if squared else np.abs(g))
        mhat, vhat = (m / (1 - beta1**step), v / (1 - beta2**step)) if corrected else (m, v)
        if decoupled:
            param *= 1.0 - rate * decay
        param -= rate * mhat / (np.sqrt(vhat + eps) if root_eps else np.sqrt(vhat) + eps)

    return change


BUGS = (
    Bug("bias correction forgotten", "cpu", "adamw_step", _adamw(corrected=False)),
    Bug("eps inside the root", "cpu", "adamw_step", _adamw(root_eps=True)),
    Bug("decay added to the gradient (L2)", "reference", "adamw_step", _adamw(decoupled=False)),
    Bug("clipping scale forgotten", "cpu", "adamw_step", _adamw(scaled=False)),
    Bug("abs(g) for g squared", "reference", "adamw_step", _adamw(squared=False)),
    Bug("norm ignored: nothing is clipped", "cpu", "fused_adamw_step", lambda right, *a: right(*a[:-1], 0.0)),
    Bug("decays shifted by a segment", "reference", "fused_adamw_step",
        lambda right, *a: right(*a[:7], np.roll(a[7], 1), *a[8:])),
    Bug("step not counted", "cpu", "fused_adamw_step", lambda right, *a: right(*a[:5], a[5].copy(), *a[6:])),
)  # fmt: skip
