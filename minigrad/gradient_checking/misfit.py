"""A gradient whose shape or dtype is not that of the input."""

from typing import Any

import numpy as np

from minigrad.argument_types import Shape
from minigrad.gradient_checking.results import GradcheckError
from minigrad.gradient_checking.structures import dtype_name


def misfit(function: str, name: str | None, shown: str, grad: Any, x: Any, out_shapes: list[Shape]) -> GradcheckError:
    """The GradcheckError for `function`, which returned the gradient `grad` for an input `x` of another kind.

    name: the input's, or None; shown: a name for the message; out_shapes: of the outputs, of which x may be a part.
    """
    shape, wanted = tuple(grad.shape), tuple(x.shape)
    what = f"{function} returned a gradient of {shape} {dtype_name(grad)} for an input of {wanted} {dtype_name(x)}"
    cause = "dtype"
    if shape != wanted:
        cause = "transposed" if shape == wanted[::-1] else "shape"
        if shape in out_shapes and broadcasts_to(wanted, shape):
            cause = "missing broadcast sum"
            what += "\n  likely cause: the input was broadcast, and the sum over the repeated axes is missing"
    return GradcheckError(f"{shown}: {what}", input=name, cause=cause)


def broadcasts_to(shape: Shape, out_shape: Shape) -> bool:
    """Can an array of `shape` be broadcast to `out_shape`?"""
    try:
        return np.broadcast_shapes(shape, out_shape) == out_shape
    except ValueError:
        return False
