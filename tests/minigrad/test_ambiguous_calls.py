"""A call that NumPy and PyTorch answer differently is refused in one line, by the table `minigrad/ambiguous.py`.

`tests/oracle/test_positional.py` looks for such calls among all names; here stand indices, and a call for each entry.
"""

import contextlib
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.ambiguous import AMBIGUOUS

with contextlib.suppress(ImportError):  # the tests that need it carry the marker
    import torch

INDEX_PARTS = (1, slice(0, 2), None, ..., [0, 1], [True, True])


@pytest.mark.pytorch
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


#: entry of the table -> a call that it refuses, and what the message names
REFUSED = {
    "all_axes": (lambda x: x.sum(()), r"sum: .*dim=\(\) .*axis=\(\)"),
    "equal": (lambda x: mg.equal(x, x), r"equal: .*say eq .*x\.equal\(y\)"),
    "getitem": (lambda x: x[0, None, [1, 2]], "getitem: .*moveaxis"),
    "index_list": (lambda x: x[[[0, 1], [1, 2]]], r"getitem: .*x\[\[0, 1\], \[1, 2\]\], .*np\.array"),
    "index_uint8": (lambda x: x[np.ones(3, np.uint8)], "getitem: .*!= 0 .*astype"),
    "max": (lambda x: x.max(0), "max: .*dim= .*axis="),
    "median": (lambda x: x.median(), "median: .*dim= .*axis="),
    "min": (lambda x: x.min(-1), "min: .*dim= .*axis="),
    "pad": (lambda x: mg.pad(x, (1, 1)), "pad: .*pad= .*pad_width="),
    "repeat": (lambda x: x.repeat(2, 1), "repeat: .*tile .*axis="),
    "sort": (lambda x: x.sort(), "sort: .*dim= .*axis="),
    "split": (lambda x: x.split(2), "split: .*dim= .*axis="),
    "std": (lambda x: x.std(0), "std: .*correction=1 .*ddof=0"),
    "transpose": (lambda x: x.transpose(-2, -1), r"transpose: .*dim0= .*axes="),
    "var": (lambda x: x.var(), "var: .*correction=1 .*ddof=0"),
}


def test_every_entry_of_the_table_has_a_call_here():
    assert REFUSED.keys() == AMBIGUOUS.keys()


OF_ONE_LIBRARY = {
    "two-libraries": (lambda x: x.max(axis=0, keepdim=True), "keepdim= is PyTorch's keyword and axis= is NumPy's"),
    "out": (lambda x: x.sum(axis=0, out=x.data[0]), "unexpected keyword argument 'out'"),
    "out-of-two": (lambda x: x.max(axis=0, out=x.data[0]), "unexpected keyword argument 'out'"),
    "dtype": (lambda x: x.sum(0, np.float64), "sum: keepdim is .*float64.*say dtype= for a dtype"),
    "kind": (lambda x: x.sort(0, "stable"), "sort: .*dim= .*axis="),
}


@pytest.mark.parametrize("call,message", [*REFUSED.values(), *OF_ONE_LIBRARY.values()], ids=[*REFUSED, *OF_ONE_LIBRARY])
def test_the_error_is_one_line_that_names_the_keywords(call, message):
    with pytest.raises(TypeError, match=message) as raised:
        call(mg.tensor(np.ones((2, 3))))
    assert "\n" not in str(raised.value)


def test_numpys_kind_by_position_is_not_taken_for_descending():
    x = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(mg.argsort(x, 0, "stable").data, np.argsort(x, 0, "stable"))
