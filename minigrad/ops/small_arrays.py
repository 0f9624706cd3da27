"""What operations on few elements need to be fast, where the time goes into NumPy's calls and not into the elements.

NumPy makes an array of a Python number in every call, which takes as long as an operation on four elements: `constants`
are made once. To look through an array Python is faster than NumPy, up to about FEW elements. A device's array is not
looked through: the host would have to wait.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minigrad.argument_types import Array

FEW = 100


class Constants(NamedTuple):
    """For a dtype of floats.

    high   exp(high) is finite, and so large that 1 added to it is lost
    low    exp(low) is small, but not subnormal, so it has all its digits
    """

    zero: Array
    one: Array | float
    minus_one: Array | float
    high: Array | float
    low: float


def _constants(dtype: npt.DTypeLike, high: float, low: float) -> Constants:
    zero, one, minus_one, limit = (np.array(number, dtype) for number in (0, 1, -1, high))
    return Constants(zero, one, minus_one, limit, low)


_OF_DTYPE = {
    np.dtype(np.float16): _constants(np.float16, 11, -9),
    np.dtype(np.float32): _constants(np.float32, 88, -87),
    np.dtype(np.longdouble): _constants(np.longdouble, 709, -708),
    np.dtype(np.float64): _constants(np.float64, 709, -708),
}


def constants(x: Array | np.generic) -> Constants:
    """The constants for x's dtype, where x is."""
    found = _OF_DTYPE[x.dtype]
    if type(x) is np.ndarray or isinstance(x, np.generic):
        return found
    return Constants(np.zeros((), x.dtype, like=x), 1.0, -1.0, float(found.high), found.low)  # nothing is copied there


def may_hold_nan(x: Array) -> bool:
    """Whether there may be a NaN among x."""
    if type(x) is not np.ndarray:
        return True
    total = x.min() if x.size > FEW else sum(x.tolist() if x.ndim == 1 else x.ravel().tolist())
    return total != total


def may_hold_less(x: Array, low: float) -> bool:
    """Whether there may be a number less than `low` among x."""
    if type(x) is not np.ndarray:
        return True
    return not (x.min() if x.size > FEW else min(x.ravel().tolist(), default=low)) >= low


def all_within(x: Array, bound: float) -> bool:
    """Whether x is short, and no number in it is beyond +-bound; says nothing of NaN."""
    if type(x) is not np.ndarray or x.size > FEW:
        return False
    values = x.tolist() if x.ndim == 1 else x.ravel().tolist()
    return not values or (-bound <= min(values) and max(values) <= bound)


def kept_where(mask: Array, dout: Array) -> Array:
    """dout where mask, of the same shape, holds, else 0, also where dout is infinite or NaN."""
    if type(dout) is not np.ndarray:
        return np.where(mask, dout, constants(dout).zero)
    if dout.size > FEW:
        with np.errstate(invalid="ignore", over="ignore"):
            dx = dout * mask  # ten times as fast as choosing, but 0 * inf is NaN
            if np.isfinite(dx.sum()):
                return dx
    dx = np.zeros(dout.shape, dout.dtype)
    np.putmask(dx, mask, dout)
    return dx


def zeroed_where(mask: Array, dout: Array, zero: Array) -> Array:
    """0 where mask, of the same shape, holds, also where dout is infinite or NaN, else dout. zero: of `constants`."""
    if dout.size > FEW or type(dout) is not np.ndarray:
        return kept_where(~mask, dout)
    dx = dout.copy()
    np.putmask(dx, mask, zero)
    return dx
