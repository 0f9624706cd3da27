"""What layers and losses ask of their inputs before a kernel sees them: shapes, dtypes, indices within their range."""

import operator
from collections.abc import Callable
from typing import Any, overload

import numpy as np

from kernels.arrays import is_array, on_host
from minigrad import dtypes
from minigrad._tensor import Tensor, as_tensor
from minigrad.argument_types import Array, TensorLike


def check_rows(name: str, x: Tensor, **vectors: Tensor | None) -> None:
    """ValueError unless x is (..., C) and each vector (C,)."""
    if x.ndim == 0:
        raise ValueError(f"{name}: x is a single number, expected shape (..., C)")
    for what, vector in vectors.items():
        check_vector(f"{name}: {what}", vector, x.shape[-1])


def check_vector(what: str, vector: Tensor | None, *shape: int) -> None:
    """Kernels rely on it: a shorter vector would have them read foreign memory."""
    if vector is not None and vector.shape != shape:
        raise ValueError(f"{what} has shape {vector.shape}, expected {shape}")


def position(what: str, i: int, n: int) -> int:
    """0..n-1 of an index that may be negative."""
    if not -n <= i < n:
        raise ValueError(f"{what} is {i}, expected {-n} <= {what.split()[-1]} < {n}")
    return int(i) % n


def whole(what: str, n: Any) -> int:
    """n, which must be an int, of NumPy's too. TypeError says what it is."""
    try:
        return operator.index(n)
    except TypeError:
        raise TypeError(f"{what} is {n!r}; expected an int") from None


def as_flag(keepdim: bool) -> bool:
    """keepdim as a Python bool, which NumPy's reductions ask for."""
    if not isinstance(keepdim, (int, np.bool)):
        raise TypeError(f"keepdim is {keepdim!r}; expected True or False")
    return bool(keepdim)


def on_cpu(x: Tensor) -> bool:
    return type(x.data) is np.ndarray


# fmt: off
@overload
def layer_inputs(layer: str, names: str, a: TensorLike, b: TensorLike, c: TensorLike, /
                 ) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def layer_inputs(layer: str, names: str, a: TensorLike, b: TensorLike, c: TensorLike | None = None, /
                 ) -> tuple[Tensor, Tensor, Tensor | None]: ...
@overload
def layer_inputs(layer: str, names: str, a: TensorLike, b: TensorLike | None = None, c: TensorLike | None = None, /
                 ) -> tuple[Tensor, Tensor | None, Tensor | None]: ...
# fmt: on
def layer_inputs(
    layer: str, names: str, a: TensorLike, b: TensorLike | None = None, c: TensorLike | None = None, /
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The inputs as Tensors, None staying None; TypeError unless they have one dtype, of which there are kernels.

    names: theirs, for the message.
    """
    # nearly always nothing is to be done, and this test costs a quarter of a microsecond
    if isinstance(a, Tensor) and (b is None or isinstance(b, Tensor)) and (c is None or isinstance(c, Tensor)):
        dtype = a.data.dtype
        if (
            (dtype is dtypes.float32 or dtype is dtypes.float64)
            and (b is None or b.data.dtype is dtype)
            and (c is None or c.data.dtype is dtype)
        ):
            return a, b, c
    like = next((x for x in (a, b, c) if isinstance(x, Tensor) or is_array(x)), None)
    a, b, c = tensor_beside(a, like), *(x if x is None else tensor_beside(x, like) for x in (b, c))
    check_floats(layer, **dict(zip(names.split(), (a, b, c), strict=False)))
    if a.dtype not in (np.float32, np.float64) and on_cpu(a):
        raise TypeError(f"{layer}: no kernels for {a.dtype} on the CPU; convert with .astype(np.float32)")
    return a, b, c


def tensor_beside(value: TensorLike, like: TensorLike | None) -> Tensor:
    """`value` as a Tensor; what is no array yet, a list for instance, gets the dtype of the Tensor or array `like`."""
    if isinstance(value, Tensor) or is_array(value):
        return as_tensor(value)
    beside = like.data if isinstance(like, Tensor) else like
    return Tensor(np.asarray(value, beside.dtype, like=beside)) if is_array(beside) else as_tensor(value)


def check_floats(layer: str, **tensors: Tensor | None) -> None:
    """TypeError, in one line, unless all but None are of one dtype, a floating-point one."""
    (one, first), *others = [(name, x) for name, x in tensors.items() if x is not None]
    if first.dtype.kind in "biuc":
        raise TypeError(f"{layer}: {one} is {first.dtype}, expected floating-point numbers; convert with .astype(...)")
    for name, x in others:
        if x.dtype != first.dtype:
            raise TypeError(f"{layer}: {one} is {first.dtype}, {name} {x.dtype}; convert either with .astype(...)")


def refuse(function: str, **given: bool) -> None:
    """TypeError for the first argument that is given and that minigrad has no equivalent of."""
    for name, is_given in given.items():
        if is_given:
            raise TypeError(f"{function}: the argument {name} is not supported")


class CheckedIds:
    """Ids on a device that were checked on the host, so that no operation waits for the device to check them.

    Operations take it where they take ids. ids: integers on the host, of which a checked copy is kept; IndexError,
    which begins with `what`, if one is outside 0..n-1 and not ignore_index. upload: begins to copy a host array, and
    returns what has `array()`, the array on the device.
    """

    def __init__(
        self, what: str, ids: Array, n: int, upload: Callable[[Array], Any], ignore_index: int | None = None
    ) -> None:
        own = _checked_copy(what, ids, n, ignore_index)
        self.shape, self._n, self._ignore_index = own.shape, n, ignore_index
        self._upload = upload(own)

    def array(self) -> Array:
        """The ids on the device, int64. It must not be written to: operations would trust what stands there."""
        return self._upload.array()

    def fit(self, n: int, ignore_index: int | None) -> bool:
        """Whether each is in 0..n-1 or ignore_index."""
        return self._n <= n and self._ignore_index in (None, ignore_index)


def integers(ids: "TensorLike | CheckedIds") -> Array:
    """The array of a Tensor or of anything else, wherever it lies."""
    if isinstance(ids, CheckedIds):
        return ids.array()
    array = ids.data if isinstance(ids, Tensor) else ids
    return array if is_array(array) else np.asarray(array)


def checked_ids(
    what: str, ids: "TensorLike | CheckedIds", n: int, like: Array, ignore_index: int | None = None
) -> Array:
    """A checked copy of the ids, int64, where the array `like` is. IndexError if one is outside 0..n-1.

    Kernels rely on the check: an index out of range would read or write foreign memory. The copy is private to the
    operation, since backward reads it once more, when the caller may have put the next batch into its own array.
    """
    if isinstance(ids, CheckedIds) and ids.fit(n, ignore_index):
        return on_host(ids.array()) if type(like) is np.ndarray else ids.array()  # on the host an operation is checked
    return np.asarray(_checked_copy(what, ids, n, ignore_index), like=like)


def _checked_copy(what: str, ids: "TensorLike | CheckedIds", n: int, ignore_index: int | None) -> Array:
    given = integers(ids)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{what}{'es' if what.endswith('s') else 's'} must be integers, not {given.dtype}")
    own = np.array(given) if isinstance(given, np.ndarray) else given.copy()  # first: what is checked cannot change
    bad = (own < 0) | (own >= n)
    if ignore_index is not None:
        bad &= own != ignore_index
    if bad.any():
        raise IndexError(f"{what} {own[bad][0]} is outside 0..{n - 1}")
    return own.astype(np.int64, copy=False)
