"""x += v and x[i] = v: they change the array of x itself, as in PyTorch; views of x see it, dtype and shape stay.

The engine's arrays never change: while gradients are recorded, a tensor that needs one is refused, and so is one that
would come to need one. Inside of no_grad both work, and a backward that needs the old contents raises RuntimeError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes, graph
from minigrad._tensor import Tensor, as_tensor
from minigrad.argument_types import TensorLike
from minigrad.ops.indexing import raw_index


def put(x: Tensor, operator: str, result: Tensor) -> Tensor:
    """Put `result`, that of the operator without its "=", into the array of x. Returns x.

    RuntimeError where a gradient is recorded. TypeError if x's dtype is of a lower kind: integers take no floats,
    booleans no integers. ValueError if x would grow, or is a view of which several elements are one.
    """
    _refuse_recorded(x, result, f"x {operator} v", f"x = x {operator[:-1]} v")
    if dtypes.is_higher_kind(result.dtype, x.dtype):
        raise TypeError(f"x {operator} v gives {result.dtype}, and x holds {x.dtype}; say x = x {operator[:-1]} v")
    if result.shape != x.shape:
        raise ValueError(f"x {operator} v gives shape {result.shape}, and x has {x.shape}; say x = x {operator[:-1]} v")
    _write(x, ..., result)
    return x


def set_items(x: Tensor, index: Any, value: TensorLike) -> None:
    """x[index] = value, converted to the dtype of x. Errors as in `put`, IndexError as in x[index]."""
    value = as_tensor(value, like=x.data)
    _refuse_recorded(x, value, "x[i] = v", "x = mg.where(mask, v, x)")
    _write(x, raw_index(index, x), value)


def _refuse_recorded(x: Tensor, value: Tensor, statement: str, instead: str) -> None:
    if not graph.thread.recording or not (x.requires_grad or value.requires_grad):
        return
    if x.requires_grad and x.node is None:
        raise RuntimeError(
            f"{statement} would change a leaf that needs a gradient; do it inside of no_grad, or say {instead}"
        )
    raise RuntimeError(f"{statement} would change an array in a graph, through which gradients flow; say {instead}")


def _write(x: Tensor, index: Any, value: Tensor) -> None:
    if isinstance(x.data, np.ndarray) and not x.data.flags.writeable:
        raise ValueError("x is read-only: its array is one of yours that is, or repeats elements; change x.clone()")
    x.data[index] = value.data
    graph.mark_written(x.data)
