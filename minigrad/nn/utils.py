"""Clipping of gradients, in place, as in PyTorch."""

import math
import types
import warnings
from collections.abc import Iterable

import numpy as np

import kernels
from kernels.arrays import Array, is_array, on_host
from kernels.system.printable import brief
from minigrad._tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients in place so that their common norm is at most `max_norm`. Returns the norm before, ().

    parameters: one tensor, or an iterable of them, gone through once; those without a gradient are passed over.
    norm_type: p of the p-norm, "inf" or math.inf for the largest absolute value. error_if_nonfinite: RuntimeError, with
    the gradients as they were, for a norm that is not finite; without it they become 0 or NaN. foreach: has no effect.
    """
    named, max_norm, p = _with_gradients(parameters), float(max_norm), float(norm_type)
    if not max_norm >= 0.0:
        raise ValueError(f"max_norm is {max_norm}; expected a number that is not negative")
    if math.isnan(p):
        raise ValueError("norm_type is nan; expected a number, or 'inf'")
    if not named:
        return Tensor(np.zeros((), np.float32))
    grads = [grad for _, grad in named]
    norm = _norm(grads, p)
    if error_if_nonfinite and not math.isfinite(norm):
        bad = next(((name, grad) for name, grad in named if not np.isfinite(on_host(grad)).all()), None)
        which = "they overflow" if bad is None else f"that of {bad[0]}, of shape {bad[1].shape}, is not finite"
        raise RuntimeError(
            f"the norm of the gradients is {norm}: {which}; nothing was clipped (error_if_nonfinite=False scales by it "
            "nevertheless)"
        )
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1.0:  # NaN too
        for grad in grads:
            grad *= scale
    return Tensor(np.asarray(norm, np.result_type(*(grad.dtype for grad in grads))))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clip every number of the gradients to -clip_value .. clip_value, in place. Arguments as for `clip_grad_norm_`."""
    named, clip_value = _with_gradients(parameters), float(clip_value)
    if not clip_value >= 0.0:
        raise ValueError(f"clip_value is {clip_value}; expected a number that is not negative")
    for _, grad in named:
        grad[...] = np.clip(grad, -clip_value, clip_value)


def clip_factor(norm: float, max_norm: float) -> float:
    """What to multiply gradients of norm `norm` by to bring them within `max_norm`; never above 1."""
    return min(1.0, max_norm / (norm + 1e-6))


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[tuple[str, Array]]:
    """(what to call it, gradient) of the parameters that have one."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if isinstance(parameters, (str, bytes, dict)) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"parameters is a {type(parameters).__name__}; expected a tensor or a list of them, as model.parameters()"
        )
    named: list[tuple[str, Array]] = []
    i = None
    for i, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameter {i} is {brief(parameter)}; expected a tensor, as model.parameters() gives them")
        if parameter.grad is not None:
            if not is_array(parameter.grad):  # a number, say, cannot be changed in place
                parameter.grad = Tensor(parameter.grad, dtype=parameter.dtype).data
            named.append((f"parameter {i}", parameter.grad))
    if i is None and isinstance(parameters, types.GeneratorType):
        warnings.warn("parameters is a generator that yields nothing, or has been used up", stacklevel=3)
    return named


def _norm(grads: list[Array], p: float) -> float:
    """The p-norm of the p-norms of all arrays, which for p > 0 is that of all numbers together. A float."""
    if p == 2.0 and all(grad.dtype.itemsize >= 4 for grad in grads):
        return float(kernels.for_array(grads[0]).global_norm(grads))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = [float(np.linalg.norm(on_host(grad).astype(np.float64).reshape(-1), p)) for grad in grads]
        return float(np.linalg.norm(np.array(each), p))
