"""Tensors from nothing: PyTorch's factories with its arguments. Floats are float32 unless `dtype` says otherwise.

Sizes are several ints or one tuple: `zeros(2, 3)`, `zeros((2, 3))`, and `zeros(size=(2, 3))` or NumPy's `shape=`.
Random numbers come from the position on the tape of `minigrad.random`; `manual_seed` sets it for this thread.
"""

import math
import operator
from typing import Any

import numpy as np

from minigrad import dtypes, random
from minigrad._tensor import Tensor
from minigrad.argument_types import Array, DType, Ints, Shape, TensorLike
from minigrad.random import manual_seed  # noqa: F401


def tensor(data: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """A leaf that holds a copy of `data`: an array, a Tensor, a number, or nested lists of these.

    Python's floats become float32, its ints int64; arrays and NumPy's scalars keep their dtype. TypeError for what no
    tensor holds (objects, complex numbers, text), RuntimeError for a list of tensors that need gradients: say `stack`.
    """
    array = Tensor(data, dtype=dtype).data
    made_here = isinstance(data, (list, tuple, int, float, np.generic))
    return Tensor(array if made_here else array.copy(), requires_grad)


def as_tensor(data: TensorLike, dtype: DType = None) -> Tensor:
    """`data` as a Tensor: itself, if it is one of that dtype; an array is shared, not copied."""
    return data.to(dtype or data.dtype) if isinstance(data, Tensor) else Tensor(data, dtype=dtype)


def is_tensor(obj: object) -> bool:
    """Whether it is a Tensor."""
    return isinstance(obj, Tensor)


def numel(input: TensorLike) -> int:
    """The number of elements."""
    return as_tensor(input).numel()


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the memory of an array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy takes an array, not a {type(array).__name__}; say tensor(data)")
    return Tensor(array)


def zeros(
    *sizes: Any,
    size: Ints | None = None,
    shape: Ints | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of a size."""
    return Tensor(np.zeros(_shape("zeros", sizes, size, shape), dtype or np.float32), requires_grad)


def ones(
    *sizes: Any,
    size: Ints | None = None,
    shape: Ints | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of a size."""
    return Tensor(np.ones(_shape("ones", sizes, size, shape), dtype or np.float32), requires_grad)


def empty(
    *sizes: Any,
    size: Ints | None = None,
    shape: Ints | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """An array of a size, with any contents."""
    return Tensor(np.empty(_shape("empty", sizes, size, shape), dtype or np.float32), requires_grad)


def full(
    size: Ints | None = None,
    fill_value: float | None = None,
    *,
    shape: Ints | None = None,
    dtype: DType = None,
    requires_grad: bool = False,
) -> Tensor:
    """One number everywhere. dtype: that of the number, float32, int64 or bool, unless it is given."""
    if fill_value is None:
        raise TypeError("full() needs a fill_value, as in full((2, 3), 1.0)")
    value = Tensor(fill_value, dtype=dtype).data
    if dtype is None and value.ndim == 0:
        value = value.astype(dtypes.result_type(fill_value.item() if isinstance(fill_value, Tensor) else fill_value))
    return Tensor(np.full(_shape("full", (), size, shape), value), requires_grad)


def arange(
    start: float | None = None,
    end: float | None = None,
    step: float = 1,
    *,
    stop: float | None = None,
    dtype: DType = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below `end`, NumPy's `stop`; one number is the end. int64 if all three are integers.

    ValueError if `step` leads away from `end`: NumPy's is empty there, PyTorch's is refused.
    """
    if stop is not None:
        if end is not None:
            raise TypeError("arange: give end or stop, not both")
        end = stop
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() needs an end")
    start, end, step = (_number(x) for x in (0 if start is None else start, end, step))
    if not all(math.isfinite(x) for x in (start, end, step)):
        raise ValueError(f"arange: {start}, {end} and the step {step} must be finite")
    if dtype is not None and np.dtype(dtype).kind in "iu":
        start, end, step = int(start), int(end), int(step)  # as PyTorch does
    if step == 0:
        raise ValueError("arange: the step is 0; expected another number")
    if (end - start) / step < 0:
        raise ValueError(f"arange: steps of {step} do not lead from {start} to {end}; give a step of the other sign")
    n = math.ceil((end - start) / step)
    whole = all(isinstance(x, int) for x in (start, end, step))
    values = start + step * np.arange(n, dtype=np.int64 if whole else np.float64)
    return Tensor(values.astype(dtype or (np.int64 if whole else np.float32)), requires_grad)


def linspace(
    start: float | None,
    end: float | None = None,
    steps: int | None = None,
    *,
    stop: float | None = None,
    num: int | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end` inclusive; `stop` and `num` are NumPy's names for these."""
    end, steps = stop if end is None else end, num if steps is None else steps
    if end is None or steps is None:
        raise TypeError("linspace() needs an end and the number of steps, as in linspace(0, 1, 11)")
    values = np.linspace(_number(start), _number(end), _integer("linspace", "the number of steps", steps))
    return Tensor(values.astype(dtype or np.float32), requires_grad)


def eye(n: int, m: int | None = None, *, dtype: DType = np.float32, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of a matrix (n, m), square unless m is given; zeros elsewhere."""
    rows = _integer("eye", "a size", n)
    columns = rows if m is None else _integer("eye", "a size", m)
    return Tensor(np.eye(rows, columns, dtype=dtype or np.float32), requires_grad)


def zeros_like(input: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the input's shape, dtype and device."""
    return _like(input, 0, dtype, requires_grad)


def ones_like(input: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """Ones of the input's shape, dtype and device."""
    return _like(input, 1, dtype, requires_grad)


def empty_like(input: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """An array of the input's shape, dtype and device, with any contents."""
    return _like(input, 0, dtype, requires_grad)


def full_like(input: TensorLike, fill_value: float, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """One number everywhere, in the input's shape, dtype and device."""
    return _like(input, fill_value, dtype, requires_grad)


def _like(x: TensorLike, value: float, dtype: DType, requires_grad: bool) -> Tensor:
    data = as_tensor(x).data
    new = np.zeros(data.shape, dtype or data.dtype, like=data)
    if value != 0:
        new += np.asarray(value, new.dtype, like=new)
    return Tensor(new, requires_grad)


def rand(
    *sizes: Any,
    size: Ints | None = None,
    shape: Ints | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Drawn uniformly from [0, 1)."""
    wide = _drawn_dtype("rand", dtype)
    values = random.generator().random(_shape("rand", sizes, size, shape), wide)
    return Tensor(_as_drawn(values, dtype), requires_grad)


def randn(
    *sizes: Any,
    size: Ints | None = None,
    shape: Ints | None = None,
    dtype: DType = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Drawn from the normal distribution of mean 0 and variance 1."""
    wide = _drawn_dtype("randn", dtype)
    values = random.generator().standard_normal(_shape("randn", sizes, size, shape), wide)
    return Tensor(_as_drawn(values, dtype), requires_grad)


def randint(
    low: int,
    high: int | Ints | None = None,
    size: Ints | None = None,
    *,
    shape: Ints | None = None,
    dtype: DType = np.int64,
    requires_grad: bool = False,
) -> Tensor:
    """Integers drawn uniformly from low <= i < high; `randint(high, size)` begins at 0."""
    if high is None or isinstance(high, (tuple, list)):  # randint(high), randint(high, size)
        low, high, size = 0, low, size if high is None else high
    low, high = _integer("randint", "low", low), _integer("randint", "high", high)
    if not low < high:
        raise ValueError(f"randint: there is no integer from {low} to below {high}")
    values = random.generator().integers(low, high, _shape("randint", (), size, shape))
    return Tensor(values.astype(dtype or np.int64), requires_grad)


def randperm(n: int, *, dtype: DType = np.int64) -> Tensor:
    """The integers 0..n-1 in random order."""
    return Tensor(random.generator().permutation(_integer("randperm", "n", n)).astype(dtype or np.int64))


def rand_like(input: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """`rand` of the input's shape and dtype."""
    x = as_tensor(input)
    return rand(size=x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def randn_like(input: TensorLike, *, dtype: DType = None, requires_grad: bool = False) -> Tensor:
    """`randn` of the input's shape and dtype."""
    x = as_tensor(input)
    return randn(size=x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def _shape(name: str, sizes: tuple[Any, ...], size: Ints | None, shape: Ints | None) -> Shape:
    """The shape that a factory was asked for, as a tuple of ints."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    given = [tuple(x) if isinstance(x, (tuple, list)) else (x,) for x in (size, shape) if x is not None]
    if len(given) + bool(sizes) > 1:
        raise TypeError(f"{name}: give the size once, as in {name}(2, 3), {name}((2, 3)) or {name}(size=(2, 3))")
    try:
        result = tuple(operator.index(n) for n in (given[0] if given else sizes))
    except TypeError:
        raise TypeError(f"{name}: a size is made of ints, not {given or sizes}; say dtype=... for the dtype") from None
    if any(n < 0 for n in result):
        raise ValueError(f"{name}: a size is not negative, as one of {result} is")
    return result


def _integer(name: str, what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {what} is {value!r}; expected an integer") from None


def _number(x: Any) -> Any:
    """A bound as Python's number."""
    return x if type(x) in (int, float) else np.asarray(x).item()


def _drawn_dtype(name: str, dtype: DType) -> type[np.float32] | type[np.float64]:
    """The dtype in which NumPy draws: float32 and float64 are drawn as they are, float16 by way of float32."""
    dtype = np.dtype(dtype or np.float32)
    if dtype.kind != "f":
        raise TypeError(f"{name} draws floats, not {dtype}; say randint for integers")
    return np.float64 if dtype.itemsize > 4 else np.float32


def _as_drawn(values: Any, dtype: DType) -> Array:
    return np.asarray(values).astype(dtype or np.float32, copy=False)
