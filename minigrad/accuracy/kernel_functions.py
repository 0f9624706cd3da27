"""Kernels as functions of one number: GELU's, and those with an exponential or a root among sums and products.

These get rows of two numbers, one of them fixed, so that what comes out is a known function of the other:

    attention        scores x and 0, values 1 and 0: sigmoid(x). Forward alone: the gradient p (1 - p), formed from the
                     difference of two products, cancels where p is near 1, in every implementation
    cross_entropy    logits x and 0, the target is the other class: the gradient of x is sigmoid(x). Backward alone: the
                     loss log(e**x + 1) is a difference of logarithms, exact to a unit of the largest logit
    layernorm        x and -x, eps 1: x / sqrt(x**2 + 1). Forward alone: the gradient is a difference that cancels
    rmsnorm          x and 1, eps 0: x sqrt(2 / (x**2 + 1)). Forward alone, for the same reason
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad.argument_types import Array

Place = Callable[[np.ndarray], Array]


class Kernels(NamedTuple):
    """forward(backend, place, x) -> f(x); backward(backend, place, dout, x) -> dout f'(x); None: not held.

    backend: its kernels as attributes. place: puts an array where they compute. on_cpu: dtypes they take there.
    """

    forward: Callable[[Any, Place, np.ndarray], Array] | None
    backward: Callable[[Any, Place, np.ndarray, np.ndarray], Array] | None
    on_cpu: tuple[str, ...] = ("float32", "float64")


def _gelu(form: str) -> Kernels:
    return Kernels(
        lambda backend, place, x: backend.gelu_forward(place(x), form),
        lambda backend, place, dout, x: backend.gelu_backward(place(dout), place(x), form),
        ("float32", "float64", "float16"),
    )


def _attention(backend: Any, place: Place, x: np.ndarray) -> Array:
    queries, (keys, values) = np.zeros((1, 1, len(x), 16), x.dtype), np.zeros((2, 1, 1, 2, 16), x.dtype)
    queries[0, 0, :, 0], keys[0, 0, 0, 0], values[0, 0, 0, 0] = x, 1, 1
    out, _ = backend.attention_forward(place(queries), place(keys), place(values), 1.0, False, 0.0, 0, 0, 0)
    return out[0, 0, :, 0]


def _cross_entropy(backend: Any, place: Place, dout: np.ndarray, x: np.ndarray) -> Array:
    logits, targets = place(_rows(x, np.zeros_like(x))), place(np.ones(len(x), np.int64))
    _, *saved = backend.softmax_cross_entropy_forward(logits, targets, -100, "sum")
    return backend.softmax_cross_entropy_backward(place(dout[0]), logits, targets, *saved, -100, False)[:, 0]


def _layernorm(backend: Any, place: Place, x: np.ndarray) -> Array:
    return backend.layernorm_forward(place(_rows(x, -x)), place(np.ones(2, x.dtype)), None, 1.0)[0][:, 0]


def _rmsnorm(backend: Any, place: Place, x: np.ndarray) -> Array:
    return backend.rmsnorm_forward(place(_rows(x, np.ones_like(x))), place(np.ones(2, x.dtype)), 0.0)[0][:, 0]


def _rows(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([x, other], axis=1))


GELU, GELU_TANH = _gelu("none"), _gelu("tanh")
ATTENTION, CROSS_ENTROPY = Kernels(_attention, None), Kernels(None, _cross_entropy)
LAYERNORM, RMSNORM = Kernels(_layernorm, None), Kernels(_rmsnorm, None)
