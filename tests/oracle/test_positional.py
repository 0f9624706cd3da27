"""Calls without keywords, in NumPy, PyTorch and minigrad, of every name that all three have.

Where both libraries take a call and answer differently, minigrad raises a TypeError that names a keyword. Where they
agree, or one of them refuses the call, minigrad gives that answer or refuses with a clear error.
"""

import inspect
import itertools
import warnings

import numpy as np
import numpy_calls
import outcomes
import pytest
import thresholds
from outcomes import AMBIGUOUS, DIFFERENT, EQUAL, REFUSED, UNCLEAR, Outcome

import minigrad as mg

pytestmark = pytest.mark.pytorch
SHAPES = ((3, 3), (2, 1, 3))
#: what may follow the first arguments; arrays are made anew for each call, because NumPy may write into them
EXTRAS = (-1, 0, 1, 2, 1.5, True, None, (0, 1), (1, 0), (3, 3), [1, 2], "an array", "indices")
SECOND_EXTRAS = (0, 1, True, (0, 1))
NUMBERS = (-1, 0, 1, 2)
OF_EACH_FORM = [
    (name, form)
    for form, namespaces in (("function", (mg.functional, np)), ("method", (mg.Tensor, np.ndarray)))
    for name in sorted(dir(mg.functional))
    if not name.startswith("_") and all(callable(getattr(space, name, None)) for space in namespaces)
    if form == "method" or inspect.isfunction(getattr(mg.functional, name))
    if name not in ("einsum", "where", "take_along_axis")  # their arguments are of another kind
    if (name, form) != ("flatten", "method")  # NumPy's has an order alone
]


def torch_function(name, form):
    """PyTorch's function or method of that name; None if it has none."""
    import torch

    if form == "method":
        return getattr(torch.Tensor, name, None)
    return getattr(torch, name, None) or getattr(torch.nn.functional, name, None)


def positional_calls(name):
    """Tuples of arguments: what the function needs, and up to two more of any kind, or three numbers."""
    tails = [(), *itertools.product(EXTRAS), *itertools.product(EXTRAS, SECOND_EXTRAS)]
    tails += [*itertools.product(NUMBERS, repeat=3), ("an array", "an array")]
    kind = numpy_calls.FUNCTIONS.get(name, numpy_calls.ONE)
    for shape in SHAPES:
        first = ["an array"]
        if kind == "nothing" or name in ("eye", "arange"):
            first = []
        elif isinstance(kind, str) and "list" in kind:
            first = [["an array", "an array"]]
        for tail in tails:
            yield shape, (*first, *tail)


def arguments(shape, call, tensor):
    """The arguments of a call, with new arrays made by `tensor`."""
    rng = np.random.default_rng(len(shape))

    def made(value):
        if isinstance(value, list):
            return [made(v) for v in value]
        if isinstance(value, str):
            return tensor(rng.standard_normal(shape) if value == "an array" else np.zeros(shape, np.int64))
        return value

    return [made(value) for value in call]


def answer(function, args):
    """What a library answers, as a list of arrays; None if it refuses the call."""
    try:
        out = function(*args)
    except Exception:
        return None
    return None if out is None or out is NotImplemented else flat(out)


def flat(out):
    if isinstance(out, (list, tuple)):
        return [array for part in out for array in flat(part)]
    return [np.asarray(out.data if isinstance(out, mg.Tensor) else out)]


def same(some, others):
    return len(some) == len(others) and all(
        a.shape == b.shape and np.allclose(a, b, 1e-6, 1e-6, equal_nan=True) for a, b in zip(some, others, strict=True)
    )


def outcome_of(function, args, of_numpy, of_torch):
    """The Outcome of minigrad's call beside the two answers, of which one may be None."""
    answers = [a for a in (of_numpy, of_torch) if a is not None]
    differ = len(answers) == 2 and not same(*answers)
    try:
        found = flat(function(*args))
    except Exception as error:
        outcome = outcomes.of_error(error)
        says_which = isinstance(error, TypeError) and any(part in str(error) for part in ("=", "arguments but"))
        if differ and outcome.kind != AMBIGUOUS and not says_which:
            return Outcome(UNCLEAR, f"names no keyword: {outcome.detail}")
        return outcome
    if differ:
        return Outcome(DIFFERENT, "NumPy and PyTorch answer differently")
    return Outcome(EQUAL) if same(found, answers[0]) else Outcome(DIFFERENT, f"{found}, expected {answers[0]}"[:200])


def bad_calls(name, form):
    """The calls that end in another result or in an unclear error, in words."""
    import torch

    in_numpy, in_torch = getattr(np if form == "function" else np.ndarray, name), torch_function(name, form)
    in_minigrad = getattr(mg if form == "function" else mg.Tensor, name)
    for shape, call in positional_calls(name):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            of_numpy = answer(in_numpy, arguments(shape, call, lambda array: array))
            of_torch = answer(in_torch, arguments(shape, call, torch.from_numpy)) if in_torch else None
            if of_numpy is None and of_torch is None:
                continue
            outcome = outcome_of(in_minigrad, arguments(shape, call, mg.tensor), of_numpy, of_torch)
        if outcome.kind not in (EQUAL, AMBIGUOUS, REFUSED):
            yield f"{outcome.kind}: {form} {name}{call} of {shape}\n    {outcome.detail}"


@pytest.mark.parametrize("name,form", OF_EACH_FORM)
def test_a_call_that_numpy_and_pytorch_answer_differently_is_refused(name, form):
    bad = list(bad_calls(name, form))
    if name not in thresholds.UNFINISHED_WITHOUT_KEYWORDS:
        assert not bad, f"{len(bad)} calls\n" + "\n".join(bad[:10])
