"""Calls of the functions that NumPy and minigrad both have, with NumPy's keywords.

The keywords are those of NumPy's own signatures; VALUES has sensible values for each of them.
"""

import inspect
import itertools
import warnings

import numpy as np

#: keywords about where a result is written and how it is stored: minigrad refuses each, naming it
REFUSED = ("out", "where", "casting", "order", "subok", "layout", "pin_memory", "device", "generator")
#: other keywords of NumPy that minigrad does not have, and why: a TypeError names them
NOT_TAKEN = {
    "initial": "a reduction begins at its identity",
    "mean": "var and std compute the mean themselves",
    "copy": "a Tensor is never written in place",
    "like": "NumPy's protocol for other arrays",
    "optimize": "operands are multiplied from left to right",
    "signature": "of ufuncs: dtypes of the compiled loop",
}
ABSENT = object()  # the keyword is left out
SHAPES = ((3, 4), (2, 3, 4), (5,), (1, 3, 1), ())

#: keyword -> values to try; a call that NumPy itself refuses is left out
VALUES = {
    "axis": (ABSENT, None, 0, 1, -1, (0, 2), (0, 1)),
    "keepdims": (ABSENT, False, True),
    "dtype": (ABSENT, np.float64, "float32"),
    "ddof": (ABSENT, 0, 1),
    "correction": (ABSENT, 1),
    "k": (ABSENT, 0, 1, -2),
    "kind": (ABSENT, "stable"),
    "stable": (ABSENT, True),
    "descending": (ABSENT, False, True),
    "axes": (ABSENT, None, (1, 0), (2, 0, 1), (-1, 0, 1)),
    "decimals": (ABSENT, 0, 1),
    "offset": (ABSENT, 0, 1, -1),
    "min": (ABSENT, -0.5, None),
    "max": (ABSENT, 0.5, None),
    "a_min": (ABSENT, -0.5, None),
    "a_max": (ABSENT, 0.5, None),
    "mode": (ABSENT, "constant", "reflect", "edge", "wrap", "symmetric"),
    "constant_values": (ABSENT, 1.5),
    "M": (ABSENT, None, 2, 5),
    "axis1": (0, 1, -1),
    "axis2": (0, 1, -1),
    "source": (0, -1, (0, 1)),
    "destination": (0, 1, (1, 0)),
    "shift": (1, -2, (1, 2)),
    "reps": (2, (2, 1), (1, 2, 3)),
    "repeats": (2, 3),
    "pad_width": (1, (1, 2), ((1, 0), (0, 2)), ((0, 0), (1, 1), (2, 0))),
    "indices_or_sections": (2, 3, (1, 2), [1]),
    "shape": ((12,), (4, 3), (2, -1), (6, 4), 24),
    "fill_value": (1.5, 2, True),
    "rtol": (ABSENT, 0.5),
    "atol": (ABSENT, 0.5),
    "equal_nan": (ABSENT, True),
    "nan": (ABSENT, 1.5),
    "posinf": (ABSENT, 1.5),
    "neginf": (ABSENT, 1.5),
}
#: (function, keyword) -> values, where the same word means something else
VALUES_OF = {
    ("broadcast_to", "shape"): ((2, 3, 4), (3, 4), (4, 3, 5)),
    ("expand_dims", "axis"): (0, 1, -1, (0, 2)),
    ("expand_dims", "keepdims"): (ABSENT,),
    ("zeros", "shape"): ((2, 3), 4, (), (0, 2)),
    ("ones", "shape"): ((2, 3), 4, (), (0, 2)),
    ("full", "shape"): ((2, 3), 4, ()),
    ("eye", "dtype"): (ABSENT, np.float64, np.int64),
    ("take", "mode"): (ABSENT,),  # an index out of bounds is an error
    ("repeat", "axis"): (0, 1, -1),  # without it the call is ambiguous
}

# NumPy's answers that PyTorch's rules exclude
FLOATS_ONLY = ("argsort", "reciprocal", "rint", "round", "square")  # ties; integers have PyTorch's dtype
AXES_ONLY = (
    "argsort",
    "cumprod",
    "cumsum",
    "repeat",
    "sort",
    "tril",
    "triu",
)  # NumPy makes tensors of fewer than two axes larger

# what stands before the keywords: how many arrays a function takes, or which arguments
ONE, TWO = "one array", "two arrays of one shape"
#: function -> its arguments before the keywords. Elementwise functions are ufuncs: no keyword of theirs is left
FUNCTIONS = {
    **dict.fromkeys(("abs", "absolute", "ceil", "cos", "exp", "exp2", "expm1", "floor", "invert", "isfinite", "isinf",
                     "isnan", "log", "log10", "log1p", "log2", "logical_not", "bitwise_not", "negative", "reciprocal",
                     "rint", "sign", "sin", "sqrt", "square", "tanh", "trunc"), ONE),
    **dict.fromkeys(("add", "bitwise_and", "bitwise_or", "bitwise_xor", "divide", "dot", "equal", "floor_divide",
                     "greater", "greater_equal", "inner", "less", "less_equal", "logical_and", "logical_or",
                     "logical_xor", "matmul", "maximum", "minimum", "mod", "multiply", "not_equal", "outer", "pow",
                     "power", "remainder", "subtract", "true_divide", "vdot", "allclose", "isclose",
                     "array_equal"), TWO),
    **dict.fromkeys(("all", "amax", "amin", "any", "argmax", "argmin", "argsort", "clip", "count_nonzero", "cumprod",
                     "cumsum",
                     "diagonal", "expand_dims", "flip", "max", "mean", "median", "min", "moveaxis", "pad", "prod",
                     "ravel",
                     "repeat", "reshape", "roll", "round", "sort", "split", "squeeze", "std", "sum", "swapaxes", "tile",
                     "trace", "transpose", "tril", "triu", "var", "broadcast_to", "unstack", "nan_to_num"), ONE),
    **dict.fromkeys(("concat", "concatenate", "hstack", "stack", "vstack"), "a list of two arrays"),
    "astype": ("float32", "float64"),
    "where": "a condition and two arrays",
    **dict.fromkeys(("take", "take_along_axis"), "an array and indices"),
    "einsum": ("ij,jk->ik", "ij->ji", "ii", "ij,ij->"),
    **dict.fromkeys(("zeros", "ones", "full"), "nothing"),
    "eye": (3, 4),
    "arange": ((4,), (1, 4), (5, 1, -2), (0.0, 1.0, 0.25)),
}  # fmt: skip
#: keywords of the functions that are compiled: some versions of NumPy know no signature of theirs
COMPILED = {
    **dict.fromkeys(("dot", "einsum", "inner", "vdot", "where"), ()),
    "arange": ("start", "stop", "step", "dtype"),
    "concat": ("arrays", "axis", "dtype"),
    "concatenate": ("arrays", "axis", "dtype"),
}


def keywords_of(name, args):
    """NumPy's keywords that may follow these arguments, without those that REFUSED and NOT_TAKEN name.

    Keywords that a later NumPy adds are not in VALUES, and are left out.
    """
    function = getattr(np, name)
    if isinstance(function, np.ufunc):
        return []
    if name in COMPILED:
        names = COMPILED[name]
        names = names[-1:] if name == "arange" else names[len(args) :]
    else:
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)][len(args) :]
    names = [*names, "constant_values"] if name == "pad" else names
    return [n for n in names if n not in REFUSED and n not in NOT_TAKEN and (n in VALUES or (name, n) in VALUES_OF)]


def arrays(shape, dtype, count=1):
    rng = np.random.default_rng(sum(shape) + len(shape))
    if np.dtype(dtype).kind == "f":
        return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]
    high = 2 if np.dtype(dtype).kind == "b" else 5
    return [rng.integers(high == 5, high, shape).astype(dtype) for _ in range(count)]


def first_arguments(name, dtype):
    """What stands before the keywords: tuples of arguments."""
    kind = FUNCTIONS[name]
    if kind == "nothing":
        yield ()
    elif name == "eye":
        yield from ((n,) for n in kind)
    elif name == "arange":
        yield from kind
    elif name == "einsum":
        for equation in kind:
            yield (equation, *arrays((3, 3), dtype, equation.split("->")[0].count(",") + 1))
    else:
        for shape in SHAPES:
            if name in AXES_ONLY and len(shape) < 2:
                continue
            if name == "astype":
                yield from ((*arrays(shape, dtype), to) for to in kind)
            elif kind == ONE:
                yield tuple(arrays(shape, dtype))
            elif kind == TWO:
                yield tuple(arrays(shape, dtype, 2))
            elif name == "where":
                yield (*arrays(shape, bool), *arrays(shape, dtype, 2))
            elif name in ("take", "take_along_axis"):
                yield (*arrays(shape, dtype), arrays(shape, np.int64)[0] % 1)
            else:
                yield (arrays(shape, dtype, 2),)


def calls(name, dtype):
    """(args, kwargs, result) of calls that NumPy takes, with at most two of the keywords that may be left out."""
    if name in FLOATS_ONLY and np.dtype(dtype).kind != "f":
        return
    for args in first_arguments(name, dtype):
        values = {n: VALUES_OF.get((name, n)) or VALUES[n] for n in keywords_of(name, args)}
        for chosen in itertools.product(*values.values()):
            kwargs = {k: v for k, v in zip(values, chosen, strict=True) if v is not ABSENT}
            if sum(ABSENT in values[keyword] for keyword in kwargs) > 2 or {"ddof", "correction"} <= set(kwargs):
                continue
            if name == "clip" and not any(bound is not None for bound in kwargs.values()):
                continue  # PyTorch needs a bound
            result = result_of(getattr(np, name), args, kwargs)
            if result is not None and not (name in ("std", "var") and not np.all(np.isfinite(result))):
                yield args, kwargs, result


def result_of(function, args, kwargs):
    """What NumPy answers; None if it refuses the call."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    except (TypeError, ValueError, IndexError, AttributeError):
        return None
