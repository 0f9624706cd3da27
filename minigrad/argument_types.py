"""Types of arguments, for type hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NewType, TypeAlias, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array, Shape  # noqa: F401

if TYPE_CHECKING:
    from minigrad._tensor import Tensor
    from minigrad.graph import Node

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

# of the engine
Edge: TypeAlias = (
    "Node | Tensor | None"  # from a node to an input: what made it, the leaf itself, None without gradient
)
Grads: TypeAlias = tuple[Array | None, ...]  # of a backward function: one gradient per input
Hook: TypeAlias = Callable[[Array], Any]  # hook(grad) returns what takes the gradient's place, or None
Observer: TypeAlias = (
    "Callable[[Node, Array, Grads | None], Any]"  # before a node's backward function, grads None; after
)
CallRecorder: TypeAlias = Callable[[FrameType, Array], Any]  # of an operation's frame and result -> Node.call
Function = TypeVar("Function", bound=Callable[..., Any])
Step: TypeAlias = "tuple[Node, Array, Grads]"  # of backward: a node, its dout, the gradients of its inputs

# NumPy's keywords of a function, for `**numpy: Unpack[Axis]`; minigrad.keywords says how they are taken


class Axis(TypedDict, total=False):
    axis: Axes


class OneAxis(TypedDict, total=False):
    axis: int


class OneAxisKeepdims(TypedDict, total=False):
    axis: int | None
    keepdims: bool


class AxisOrNone(TypedDict, total=False):
    axis: int | None  # None: of all elements in one row


class AxisPair(TypedDict, total=False):
    axis1: int
    axis2: int


class AxisKeepdims(TypedDict, total=False):
    axis: Axes
    keepdims: bool


class Bounds(TypedDict, total=False):
    a_min: TensorLike | None
    a_max: TensorLike | None


class Diagonal(TypedDict, total=False):
    k: int


class Reps(TypedDict, total=False):
    reps: Ints
