"""A call that NumPy and PyTorch answer differently is refused, and the table of such calls is complete.

Every function that all three have is called by position, with the same arguments, in NumPy and in PyTorch, as function
and as method. Where both answer and differ, minigrad raises the TypeError of its table; where they agree, or only one
answers, minigrad gives that answer or refuses. The functions are those that minigrad has: a new one takes part.
"""

import contextlib
import inspect
import itertools
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional
from minigrad.ambiguous import AMBIGUOUS

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

INPUTS = [np.random.default_rng(1).permutation(n).reshape(shape) + 0.5 for n, shape in (
    (4, (4,)), (6, (2, 3)), (4, (2, 2)), (6, (1, 2, 3)))]  # fmt: skip
SINGLE = [0, 1, -1, 2, 3, True, False, None, (), (0,), (1,), (0, 1), (1, 0), (1, 1), [1, 1], (2, 2), (1, 1, 1, 1),
          ((1, 1), (0, 1)), (2, 1, 0), "same"]  # fmt: skip
PAIRS = [*itertools.product((0, 1, -2), (0, 1, -1, 2, True, None, "same"))]
TRIPLES = [(1, 0, True), (0, True, True), (2, 1, 0), (0, 1, 1), (2, 1, 1), (0, None, None)]
#: NumPy's `dtype`, `kind` and `order`, which stand where PyTorch has flags
SETTINGS = [
    ("C",),
    ((1, -1), "F"),
    (0, "stable"),
    (-1, "stable"),
    (0, np.float64),
    (None, np.float32),
    (0, 1, np.float64),
]
ARGUMENTS = [(), *((arg,) for arg in SINGLE), *PAIRS, *TRIPLES, *SETTINGS]
NUMPY = np, np.ndarray


def twins(homes, name):
    """The functions and methods of that name."""
    return [f for home in homes if callable(f := getattr(home, name, None))]


def torch_homes():
    return torch, torch.Tensor, torch.nn.functional


def names():
    """Functions of minigrad that both libraries have by the same name."""
    ours = [n for n, f in inspect.getmembers(functional, inspect.isfunction) if not n.startswith("_")]
    return [n for n in ours if twins(NUMPY, n) and twins(torch_homes(), n)]


def answer(function, convert, x, arguments):
    """What a call gives, as arrays; None if it is refused or gives something else."""
    arguments = [convert(x.copy()) if arg == "same" else arg for arg in arguments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return arrays(function(convert(x.copy()), *arguments))
    except Exception:
        return None


def arrays(out):
    if isinstance(out, (tuple, list)):
        parts = [arrays(part) for part in out]
        return None if any(part is None for part in parts) else parts
    if isinstance(out, mg.Tensor):
        return out.data
    out = np.asarray(out) if isinstance(out, (np.ndarray, np.generic, torch.Tensor)) else None
    return None if out is None or out.dtype.kind not in "biuf" else out


def equal(a, b):
    if isinstance(a, list) or isinstance(b, list):
        same = isinstance(a, list) and isinstance(b, list) and len(a) == len(b)
        return same and all(map(equal, a, b))
    return a.shape == b.shape and np.allclose(a, b, equal_nan=True)


def verdict(name, x, arguments, call=None):
    """(what minigrad must do, what is wrong with what it does or None, the table's entry that refused)."""
    of_numpy = [answer(f, np.asarray, x, arguments) for f in twins(NUMPY, name)]
    of_torch = [answer(f, torch.tensor, x, arguments) for f in twins(torch_homes(), name)]
    of_numpy, of_torch = ([each for each in found if each is not None] for found in (of_numpy, of_torch))
    must_refuse = any(not equal(a, b) for a, b in itertools.product(of_numpy, of_torch))
    arguments = [mg.tensor(x) if arg == "same" else arg for arg in arguments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = arrays((call or getattr(functional, name))(mg.tensor(x), *arguments))
    except TypeError as error:
        keys = [key for key in (name, "all_axes") if str(error).endswith(AMBIGUOUS.get(key, "\n"))]
        entry = keys[0] if keys else None
        # arguments that minigrad does not have at all, `out` and `subok`, are Python's to refuse
        if must_refuse and entry is None and "positional argument" not in str(error):
            return "refuse", f"{error}, which is not in the table", None
        return "refuse" if must_refuse else "either", None, entry
    except Exception as error:
        return "either", f"is ambiguous, and raised {error!r}" if must_refuse else None, None
    if must_refuse:
        return "refuse", "is ambiguous, and was answered", None
    known = of_numpy + of_torch
    if known and not any(equal(ours, each) for each in known):
        return "answer", f"gave {ours}, not {known[0]}", None
    return "answer", None, None


def findings(name, call=None):
    """(text of what is wrong, entry of the table that refused an ambiguous call), each call."""
    for x, arguments in itertools.product(INPUTS, ARGUMENTS):
        must, wrong, entry = verdict(name, x, arguments, call)
        yield (
            (f"{name}(x {x.shape}, {', '.join(map(repr, arguments))}) {wrong}" if wrong else None),
            (entry if must == "refuse" else None),
        )


def test_every_call_that_the_libraries_answer_differently_is_refused_by_the_table_and_no_other():
    wrong, used = [], {"getitem"}
    for name in names():
        for text, entry in findings(name):
            wrong += [text] if text else []
            used |= {entry} if entry else set()
    assert not wrong, "\n".join(wrong[:40])
    assert used == set(AMBIGUOUS), "entries of the table that no call needs"


def test_the_comparison_finds_a_silent_difference():
    def sorted_values(x, *args):
        return mg.tensor(np.sort(x.data, *args))

    assert any(text for text, _ in findings("sort", sorted_values))
    assert any(text for text, _ in findings("flip", lambda x, *args: x))


INDEX_PARTS = (1, slice(0, 2), None, ..., [0, 1], [True, True])


def test_an_index_that_the_libraries_answer_differently_is_refused():
    x, refused = np.arange(16.0).reshape(2, 2, 2, 2), 0
    for index in itertools.chain(*(itertools.product(INDEX_PARTS, repeat=n) for n in (1, 2, 3, 4))):
        try:
            of_numpy, of_torch = x[index], torch.tensor(x)[index].numpy()
        except (IndexError, TypeError):
            continue
        if of_numpy.shape == of_torch.shape and (of_numpy == of_torch).all():
            np.testing.assert_array_equal(mg.tensor(x)[index].data, of_numpy, str(index), strict=True)
        else:
            with pytest.raises(TypeError, match=r"getitem: .* take the int first"):
                _ = mg.tensor(x)[index]
            refused += 1
    assert refused > 20


MESSAGES = {
    "max": (lambda x: x.max(0), "max: .*dim= .*axis="),
    "split": (lambda x: x.split(2), "split: .*dim= .*axis="),
    "var": (lambda x: x.var(), "var: .*correction=1 .*ddof=0"),
    "std-axis": (lambda x: x.std(0), "std: .*correction=1 .*ddof=0"),
    "transpose": (lambda x: x.transpose(-2, -1), r"transpose: .*dim0= .*axes="),
    "repeat": (lambda x: x.repeat(2, 1), "repeat: .*tile .*axis="),
    "pad": (lambda x: mg.pad(x, (1, 1)), "pad: .*pad= .*pad_width="),
    "sort": (lambda x: x.sort(), "sort: .*dim= .*axis="),
    "sum": (lambda x: x.sum(()), r"sum: .*dim=\(\) .*axis=\(\)"),
    "two-libraries": (lambda x: x.max(axis=0, keepdim=True), "keepdim= is PyTorch's keyword and axis= is NumPy's"),
    "out": (lambda x: x.sum(axis=0, out=None), "unexpected keyword argument 'out'"),
    "out-of-two": (lambda x: x.max(axis=0, out=None), "unexpected keyword argument 'out'"),
}


@pytest.mark.parametrize("call,message", MESSAGES.values(), ids=MESSAGES)
def test_the_error_is_one_line_that_names_the_keywords(call, message):
    with pytest.raises(TypeError, match=message) as raised:
        call(mg.tensor(np.ones((2, 3))))
    assert "\n" not in str(raised.value)
