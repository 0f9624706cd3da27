"""Which dtype a result has, and what a Tensor can be made of. One rule, PyTorch's, for every operation:

Operands are promoted to one dtype. Floats outrank integers, integers outrank booleans; of one kind the wider wins. Only
operands of the highest of these three ranks are asked, unless a lower rank is of a higher kind:

    1. tensors and arrays with axes
    2. tensors without axes
    3. Python's and NumPy's scalars, and lists: they count as float32, int64 or bool

So float32 * 2.0, float32 * np.float64(2), float32 * [1, 2] and float32 * tensor(2) stay float32; float32 with float64
gives float64; integers with 2.5 or with float32 give float32, whatever their width. A list of floats becomes float32 by
itself, and has the dtype of the tensor beside it where that holds floats.

A function of real numbers (`exp`, `div`, `gelu` ...) takes integers and booleans as float32. Comparisons give booleans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.arrays import Array, is_array
from kernels.system.printable import brief
from minigrad.argument_types import DType

if TYPE_CHECKING:
    from minigrad.argument_types import TensorLike

float16, float32, float64 = map(np.dtype, (np.float16, np.float32, np.float64))
uint8, int8, int16, int32, int64 = map(np.dtype, (np.uint8, np.int8, np.int16, np.int32, np.int64))
boolean = np.dtype(np.bool)

_ORDER = {"b": 0, "i": 1, "u": 1, "f": 2}  # NumPy's letters for kinds
_WEAK = {"b": np.dtype(np.bool), "i": np.dtype(np.int64), "u": np.dtype(np.int64), "f": np.dtype(np.float32)}


def promote_types(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that holds both: as NumPy's, but integers beside floats do not widen these."""
    if a.kind != b.kind and "f" in (a.kind, b.kind):
        return a if a.kind == "f" else b
    return np.promote_types(a, b)


def is_higher_kind(a: np.dtype[Any], b: np.dtype[Any]) -> bool:
    """Whether a is of a higher kind: floats above integers above booleans."""
    return _ORDER[a.kind] > _ORDER[b.kind]


def result_type(*values: TensorLike) -> np.dtype[Any]:
    """The common dtype of Tensors, arrays, scalars and lists: the rule above."""
    ranks: list[np.dtype[Any] | None] = [None, None, None]
    value: Any
    for value in values:
        if hasattr(value, "node"):
            rank, dtype = int(value.ndim == 0), value.dtype
        else:
            dtype = checked(value if is_array(value) else _numbers(value)).dtype
            rank = 0 if is_array(value) and value.ndim else 2
            dtype = _WEAK[dtype.kind] if rank else dtype
        held = ranks[rank]
        ranks[rank] = dtype if held is None else promote_types(held, dtype)
    result, *lower = [dtype for dtype in ranks if dtype is not None]
    for dtype in lower:
        if is_higher_kind(dtype, result):
            result = promote_types(result, dtype)
    return result


def needs_gradient(requires_grad: object, dtype: np.dtype[Any]) -> bool:
    """requires_grad, checked. TypeError if it is no bool, or if numbers of that dtype have no gradient."""
    if not isinstance(requires_grad, (bool, np.bool)):
        raise TypeError(f"requires_grad is {requires_grad!r}; expected True or False")
    if requires_grad and dtype.kind != "f":
        raise TypeError(f"only floating-point tensors can require gradients, not {dtype}")
    return bool(requires_grad)


def from_python(value: Any, dtype: DType = None) -> Array:
    """An array of what is none: Python's floats and lists of them become float32, NumPy's scalars keep their dtype."""
    array = checked(_numbers(value))
    if dtype is not None and np.dtype(dtype).kind in "iu":
        _require_range(array, np.iinfo(dtype))
    if dtype is None and array.dtype == np.float64 and not _holds_float64(value):
        dtype = np.float32
    return array if dtype is None else array.astype(dtype, copy=False)


def _numbers(value: Any) -> np.ndarray:
    """np.asarray of what is no array. TypeError and ValueError where it is no number and no list of these."""
    if isinstance(value, (list, tuple)):
        _require_plain_parts(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError("the lists have different lengths; a tensor has rows of one length") from None
    if array.dtype.kind == "O":
        raise TypeError(f"a tensor holds floats, integers or booleans, not {brief(value)}")
    if array.dtype == np.uint64 and _holds_int(value):
        raise OverflowError(f"{brief(value)} is outside of int64; say np.uint64(...)")
    return array


def _require_plain_parts(values: Any) -> None:
    """TypeError for what NumPy would take into an array but not as it is."""
    if {*map(type, values)} <= {float, int, bool}:
        return
    for value in values:
        if isinstance(value, (list, tuple)):
            _require_plain_parts(value)
        elif isinstance(value, np.ma.MaskedArray):
            checked(value)
        elif hasattr(value, "node") and value.ndim and value.size == 1:
            raise TypeError(f"a list of tensors of shape {value.shape}: say mg.cat for a row of them, or mg.stack")


def _holds_int(value: Any) -> bool:
    return any(map(_holds_int, value)) if isinstance(value, (list, tuple)) else type(value) is int


def _require_range(array: Array, limits: np.iinfo[Any]) -> None:
    """OverflowError if not all numbers are within the limits of an integer dtype."""
    if not ((array >= limits.min) & (array < limits.max + 1)).all():
        raise OverflowError(f"{brief(array.tolist())} is not within {limits.min} to {limits.max}, as {limits.dtype} is")


def _holds_float64(value: Any) -> bool:
    """Whether anything in a nested list is NumPy's float64, or an array of it; Python's floats do not count."""
    if not isinstance(value, (list, tuple)):
        return type(value) is not float and np.asarray(value).dtype == np.float64
    return not {*map(type, value)} <= {float, int, bool} and any(map(_holds_float64, value))


def checked(array: Array) -> Array:
    """`array` as Tensors hold it: in the machine's byte order, of the class ndarray; a view where that is possible.

    Raises TypeError for complex numbers, objects, text, and for masked arrays, whose mask would be lost.
    """
    if isinstance(array, np.ndarray) and type(array) is not np.ndarray:  # np.memmap, np.matrix
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError("a tensor has no mask: fill the masked array first, array.filled(value)")
        array = array.view(np.ndarray)
    dtype = array.dtype
    if dtype.kind not in _ORDER:
        hint = {"c": "take array.real or array.imag", "O": "convert it first, array.astype(np.float32)"}.get(dtype.kind)
        raise TypeError(f"a tensor holds floats, integers or booleans, not {dtype}" + (f"; {hint}" if hint else ""))
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
