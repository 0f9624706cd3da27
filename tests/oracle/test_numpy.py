"""Functions of NumPy's names, called with NumPy's keywords, give NumPy's values; what is missing is refused by name.

The keywords stand in numpy_calls.py. Dtypes: floating-point arrays keep theirs, as in NumPy; integers become float32
where NumPy makes them float64, and so do numbers that come from nothing (`zeros`).
"""

import inspect
import itertools
import warnings

import numpy as np
import numpy_calls
import outcomes
import pytest
import thresholds
from numpy_calls import FUNCTIONS, NOT_TAKEN, REFUSED
from outcomes import AMBIGUOUS, DIFFERENT, EQUAL, Outcome

import minigrad as mg

# 2.1 gave `reshape` its keyword `shape`, and integers back for the ceil, floor and trunc of integers
pytestmark = pytest.mark.numpy21

RTOL = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3}
DTYPES = ("float64", "float32", "int64", "bool")
PUBLIC = sorted(name for name in dir(mg.functional)
                if inspect.isfunction(getattr(mg.functional, name)) and not name.startswith("_"))  # fmt: skip
COMMON = [name for name in FUNCTIONS if name in PUBLIC]


def outcome_of(function, args, kwargs, result):
    """The Outcome of minigrad's function beside NumPy's result."""
    args = [[mg.tensor(a) for a in arg] if isinstance(arg, list) else mg.tensor(arg) if isinstance(arg, np.ndarray)
            else arg for arg in args]  # fmt: skip
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = function(*args, **kwargs)
    except Exception as error:
        return outcomes.of_error(error)
    is_list = isinstance(result, (list, tuple))
    if is_list != isinstance(out, (list, tuple)) or (is_list and len(out) != len(result)):
        return Outcome(DIFFERENT, f"a {type(out).__name__}, expected {type(result).__name__}")
    for mine, other in zip(out, result, strict=True) if is_list else ((out, result),):
        if problem := difference(mine, np.asarray(other), args, kwargs):
            return Outcome(DIFFERENT, problem)
    return Outcome(EQUAL)


def difference(mine, other, args, kwargs):
    """What differs from NumPy's array, in words; None if nothing does."""
    if other.ndim == 0 and isinstance(mine, (bool, int, float)):
        return None if mine == other.item() else f"{mine}, expected {other}"
    if not isinstance(mine, mg.Tensor):
        return f"a {type(mine).__name__}, expected a Tensor"
    rtol = RTOL.get(str(other.dtype), 0)
    if "dtype" not in kwargs and not any(map(is_floating, args)):  # of booleans NumPy makes float16 and int8
        other = other.astype({"f": np.float32, "i": mine.dtype}.get(other.dtype.kind, other.dtype))
    if mine.shape != other.shape or mine.dtype != other.dtype:
        return f"{mine.dtype} {mine.shape}, expected {other.dtype} {other.shape}"
    rtol = max(rtol, RTOL.get(str(other.dtype), 0))
    if not np.allclose(mine.data, other, rtol, rtol, equal_nan=True):
        return f"{mine.data.ravel()[:4]} ..., expected {other.ravel()[:4]} ..."
    return None


def is_floating(arg):
    """Whether an argument asks for a floating-point dtype of its own: an array, a list of them, a dtype's name."""
    if isinstance(arg, list):
        return any(map(is_floating, arg))
    return arg in RTOL if isinstance(arg, str) else getattr(arg, "dtype", np.dtype(int)).kind == "f"


def bad_calls(name, method=False):
    """The calls that do not end as they should, in words."""
    function = getattr(mg.Tensor if method else mg, name)
    for dtype in DTYPES:
        for args, kwargs, result in numpy_calls.calls(name, dtype):
            if method:
                result = numpy_calls.result_of(getattr(np.ndarray, name), args, kwargs)
            if result is None:
                continue
            outcome = outcome_of(function, args, kwargs, result)
            may_refuse = not kwargs or dtype in ("int64", "bool")
            if outcome.kind not in ((EQUAL, AMBIGUOUS, outcomes.REFUSED) if may_refuse else (EQUAL, AMBIGUOUS)):
                yield f"{outcome.kind}: {name}({written(args, kwargs)})\n    {outcome.detail}"


def written(args, kwargs):
    def shown(value):
        if isinstance(value, np.ndarray):
            return f"<{value.dtype} {value.shape}>"
        return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else repr(value)

    return ", ".join([*map(shown, args), *(f"{k}={shown(v)}" for k, v in kwargs.items())])


@pytest.mark.parametrize("name", COMMON)
def test_numpys_keywords_give_numpys_values(name):
    bad = list(bad_calls(name))
    if hasattr(np.ndarray, name) and hasattr(mg.Tensor, name):
        bad += list(bad_calls(name, method=True))
    if name not in thresholds.UNFINISHED_BESIDE_NUMPY:
        assert not bad, f"{len(bad)} calls\n" + "\n".join(bad[:10])


def test_every_name_that_minigrad_and_numpy_share_is_called():
    shared = {name for name in PUBLIC if callable(getattr(np, name, None))}
    assert shared - set(FUNCTIONS) == set()


def an_example(name):
    """Arguments that NumPy's function takes: of bitwise operations they are integers."""
    return next(itertools.chain(numpy_calls.calls(name, "float64"), numpy_calls.calls(name, "int64")))[0]


@pytest.mark.parametrize("keyword", REFUSED)
def test_keywords_about_where_a_result_is_stored_are_refused_by_name(keyword):
    for name in PUBLIC:
        args = an_example(name) if name in FUNCTIONS else ()
        with pytest.raises(TypeError, match=f"'?{keyword}'?"):
            getattr(mg, name)(*args, **{keyword: np.zeros(1) if keyword == "out" else None})  # np.sum(x) says out=None


@pytest.mark.parametrize("keyword", NOT_TAKEN)
def test_keywords_that_minigrad_does_not_have_are_refused_by_name(keyword):
    for name in COMMON:
        args = an_example(name)
        with pytest.raises(TypeError, match=f"'?{keyword}'?"):
            getattr(mg, name)(*args, **{keyword: None})
