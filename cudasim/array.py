"""Arrays of the simulated device: they behave as CuPy's do, and kernels can access their memory.

    x = asarray(np.ones(3))      # a copy "on the device"
    y = np.exp(x) + 1            # NumPy functions and operators dispatch to it (NEP 13 and 18), as they do to CuPy
    asnumpy(y)                   # a copy back

The class is no subclass of ndarray: NumPy and Numba would accept a subclass as a host array, where CuPy raises. New
memory is poisoned: numbers that were never written are NaN.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from cudasim import memory

#: NumPy functions that work on these arrays. Each exists in CuPy under the same name, which a test checks.
FUNCTIONS = {
    getattr(np, name) for name in (
        "argmax", "argmin", "argsort", "array_equal", "broadcast_to", "clip", "concatenate", "count_nonzero", "cumprod",
        "cumsum", "einsum", "expand_dims", "flip", "mean", "moveaxis", "ones_like", "put_along_axis", "result_type",
        "split", "stack", "sum", "take_along_axis", "where", "zeros_like",
    )
}  # fmt: skip
#: functions that make an array where another is: `np.zeros(3, like=x)`. CuPy takes neither ones nor full that way.
CREATION = {getattr(np, name) for name in ("arange", "array", "asarray", "empty", "tri", "zeros")}

host_reads = 0  # how often the host has read a value; on a GPU each read waits for the kernels launched before


class Flags(NamedTuple):
    """An array's layout, as in CuPy."""

    c_contiguous: bool
    f_contiguous: bool


def _reduction(name: str) -> Callable[..., Any]:
    def method(self: "SimArray", *args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return _wrap(getattr(self._values, name)(*args, **kwargs))

    method.__name__ = name
    return method


class SimArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the simulated device. `_values` is the ndarray over its memory, for the simulator alone."""

    __slots__ = ("_values", "_base", "__weakref__")

    def __init__(self, values: np.ndarray, base: "SimArray | None" = None) -> None:
        self._values, self._base = values, base

    # ------------------------------------------------------------------------------ NumPy's protocols

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError("a device array does not become a NumPy array by itself; use asnumpy(x) or x.get()")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "at" and ufunc is np.add:
            target, indices, values = (_unwrap(x) for x in inputs)
            np.add.at(target, indices, values)
            _mark_written(inputs[0])
            return None
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} does not work on device arrays; use the array's method")
        kwargs = {key: _unwrap(value) for key, value in kwargs.items()}
        compute: Callable[..., Any] = _matmul if ufunc is np.matmul else ufunc
        with np.errstate(all="ignore"):  # a GPU does not warn of what is not finite
            if out is None:
                return _wrap(compute(*map(_unwrap, inputs), **kwargs))
            compute(*map(_unwrap, inputs), out=tuple(map(_unwrap, out)), **kwargs)
        for array in out:
            _mark_written(array)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Callable, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.empty:
            return empty(*args, **kwargs)
        if function in CREATION:
            first, *rest = args
            first = _values_of(first) if function in (np.array, np.asarray) else _unwrap(first)
            if function is np.asarray and type(args[0]) is SimArray and kwargs.get("dtype") in (None, args[0].dtype):
                return args[0]
            return _wrap(function(first, *map(_unwrap, rest), **kwargs))
        if function not in FUNCTIONS:
            raise TypeError(f"np.{function.__name__} is not among the functions that work on device arrays")
        with np.errstate(all="ignore"):
            result = function(*map(_unwrap, args), **{key: _unwrap(value) for key, value in kwargs.items()})
        if function is np.put_along_axis:
            _mark_written(args[0])
            return None
        if function is np.broadcast_to:
            return args[0]._view(result)
        return _wrap(result)

    # ---------------------------------------------------------------------------------- as in CuPy

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: Flags(self._values.flags.c_contiguous, self._values.flags.f_contiguous))
    base = property(lambda self: self._base)
    itemsize = property(lambda self: self._values.itemsize)
    T = property(lambda self: self._view(self._values.T))

    def get(self) -> np.ndarray:
        """A copy as a NumPy array."""
        _count_read()
        return self._values.copy()

    def item(self) -> Any:
        """The only element as a Python number."""
        _count_read()
        return self._values.item()

    def tolist(self) -> Any:
        _count_read()
        return self._values.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        _count_read()
        return bool(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> "Iterator[SimArray]":
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "SimArray":
        index = index if isinstance(index, tuple) else (index,)
        basic = all(i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice)) for i in index)
        bare = tuple(map(_unwrap, index))
        if basic:  # a view, also of a single element
            return self._view(self._values[bare if Ellipsis in index else (*bare, ...)])
        return _wrap(self._values[bare])

    def __setitem__(self, index: Any, value: Any) -> None:
        index = index if isinstance(index, tuple) else (index,)
        bare = tuple(map(_unwrap, index))
        self._values[bare] = _unwrap(value)
        _mark_written(self)

    def set(self, values: np.ndarray) -> None:
        """Copy a NumPy array of this shape and dtype here."""
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(f"{values.dtype} {values.shape} cannot be copied to {self.dtype} {self.shape}")
        self._values[...] = values
        _mark_written(self)

    def fill(self, value: float) -> None:
        self._values.fill(value)
        _mark_written(self)

    def copy(self) -> "SimArray":
        return _wrap(self._values)

    def astype(self, dtype: npt.DTypeLike, copy: bool = True) -> "SimArray":
        return self if not copy and self.dtype == dtype else _wrap(self._values.astype(dtype))

    def view(self, dtype: npt.DTypeLike) -> "SimArray":
        return self._view(self._values.view(dtype))

    def reshape(self, *shape: Any) -> "SimArray":
        values = self._values.reshape(*shape)
        return self._view(values) if np.may_share_memory(values, self._values) else _wrap(values)

    def ravel(self) -> "SimArray":
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> "SimArray":
        return self._view(self._values.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> "SimArray":
        return self._view(self._values.swapaxes(a, b))

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> "SimArray":
        return self._view(self._values.squeeze(axis))

    all = _reduction("all")
    any = _reduction("any")
    argmax = _reduction("argmax")
    argmin = _reduction("argmin")
    argsort = _reduction("argsort")
    clip = _reduction("clip")
    cumsum = _reduction("cumsum")
    max = _reduction("max")
    mean = _reduction("mean")
    min = _reduction("min")
    prod = _reduction("prod")
    sum = _reduction("sum")
    var = _reduction("var")

    def _view(self, values: np.ndarray) -> "SimArray":
        """An array over a part of this one's memory."""
        return SimArray(values, self if self._base is None else self._base)

    def __repr__(self) -> str:
        return f"SimArray({np.array2string(self._values, threshold=20)}, {self.dtype})"

    def __deepcopy__(self, memo: Any) -> "SimArray":
        return self.copy()


# -------------------------------------------------------------------------------------- host <-> device


def asarray(values: SimArray | npt.ArrayLike) -> SimArray:
    """A copy of a NumPy array on the device; a device array as it is."""
    return values if type(values) is SimArray else _wrap(np.asarray(values))


def asnumpy(array: SimArray) -> np.ndarray:
    """A copy of a device array on the host."""
    return array.get()


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64) -> SimArray:
    """Unwritten memory: NaN, -1 as an integer."""
    lengths, dtype = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape), np.dtype(dtype)
    nbytes = math.prod(lengths) * dtype.itemsize
    return SimArray(memory.allocate(nbytes)[:nbytes].view(dtype).reshape(lengths))


def pointer(array: SimArray) -> int:
    """The address of the first element, as kernels see it."""
    return array._values.ctypes.data


def _matmul(a: np.ndarray, b: np.ndarray, out: tuple[np.ndarray, ...] = (), **kwargs: Any) -> np.ndarray:
    """np.matmul, and as cuBLAS does it for 16-bit numbers: summed up in float32, then rounded once."""
    if a.dtype != b.dtype or a.dtype.itemsize != 2:
        return np.matmul(a, b, out=out[0] if out else None, **kwargs)
    product = np.matmul(a.astype(np.float32), b.astype(np.float32), **kwargs).astype(a.dtype)
    if out:
        out[0][...] = product
    return product


def _wrap(result: Any) -> Any:
    """A result of NumPy copied into device memory: an array, a scalar, or a list of them."""
    if isinstance(result, (list, tuple)):
        return type(result)(map(_wrap, result))
    if not isinstance(result, (np.ndarray, np.generic)):
        return result  # np.result_type's dtype, or None
    array = empty(np.shape(result), result.dtype)
    array._values[...] = result
    return _mark_written(array)


def _mark_written(array: SimArray) -> SimArray:
    """Note that the host has written all of an array. Returns it."""
    values = array._values
    if values.flags.c_contiguous:
        memory.mark_written(values.ctypes.data, values.nbytes)
    else:
        for part in values:  # its elements, not the bytes between them
            _mark_written(SimArray(part if part.ndim else part.reshape(1)))
    return array


def _unwrap(value: Any) -> Any:
    """The values behind a device array; a NumPy array is refused, as CuPy does."""
    if type(value) is SimArray:
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array met a device array; move it with np.asarray(x, like=array) first")
    return type(value)(map(_unwrap, value)) if type(value) in (list, tuple) else value


def _values_of(value: Any) -> Any:
    """As `_unwrap`, but a NumPy array is allowed: for functions that copy from the host."""
    return value if isinstance(value, np.ndarray) else _unwrap(value)


def _count_read() -> None:
    global host_reads
    host_reads += 1
