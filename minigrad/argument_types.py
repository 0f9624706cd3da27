"""Types of arguments, for type hints."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy.typing as npt

#: a Tensor, or what becomes one: an array, a number, nested lists. Operations convert it first, hence not a Union
TensorLike: TypeAlias = Any
Ints: TypeAlias = int | Sequence[int]
Axes: TypeAlias = Ints | None  # None: all of them
DType: TypeAlias = npt.DTypeLike | None
