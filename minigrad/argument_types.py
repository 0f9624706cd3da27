"""Types of arguments, for type hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NewType, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array, Shape  # noqa: F401

if TYPE_CHECKING:
    from minigrad._tensor import Tensor

    #: a Tensor, or what becomes one: an array, a number, nested lists. Operations convert it first
    TensorLike: TypeAlias = Tensor | np.ndarray | np.generic | float | Sequence[Any]
else:  # help() and the pages of `make docs` show one name instead of the five types
    TensorLike = NewType("TensorLike", object)

Ints: TypeAlias = int | Sequence[int]
Axes: TypeAlias = Ints | None  # None: all of them
if TYPE_CHECKING:
    DType: TypeAlias = npt.DTypeLike | None  # None: that of the input
else:
    DType = NewType("DType", object)


# NumPy's keywords of a function, for `**numpy: Unpack[Axis]`; minigrad.keywords says how they are taken


class Axis(TypedDict, total=False):
    axis: Axes


class AxisKeepdims(TypedDict, total=False):
    axis: Axes
    keepdims: bool
