"""Calls that NumPy and PyTorch both take and answer differently. minigrad refuses them and says which keyword to use.

A keyword that only one library has (`axis`, `keepdims`, `ddof`: NumPy; `dim`, `keepdim`: PyTorch) tells whose function
is meant. The table below has every name of which a call without such a keyword is ambiguous, as a function or as a
method; `tests/oracle/test_positional.py` compares the two libraries and finds no other one.
"""

from typing import NoReturn

AMBIGUOUS = {
    "all_axes": "say dim=() for a reduction over all axes (PyTorch), or axis=() for one over none (NumPy)",
    "equal": "say eq for NumPy's comparison of elements, or array_equal or x.equal(y) for PyTorch's one bool",
    "getitem": "take the int first, as in x[0][:, [1, 2]], for PyTorch's order of axes; moveaxis then gives NumPy's",
    "index_list": "take a tuple, as in x[[0, 1], [1, 2]], for PyTorch's pairs, or np.array(index) for NumPy's rows",
    "index_uint8": "take index != 0 for PyTorch's mask, or index.astype(np.int64) for NumPy's indices",
    "max": "say dim= for PyTorch's (values, indices), or axis= for NumPy's values",
    "median": "say dim= for PyTorch's (values, indices), the lower of two, or axis= for NumPy's mean of two",
    "min": "say dim= for PyTorch's (values, indices), or axis= for NumPy's values",
    "pad": "say pad= for PyTorch's list, which begins with the last axis, or pad_width= for NumPy's",
    "repeat": "say tile for PyTorch's copies of the whole, or axis= for NumPy's of each element (axis=None: flattened)",
    "sort": "say dim= for PyTorch's (values, indices), or axis= for NumPy's values",
    "split": "say dim= for parts of a size, as in PyTorch, or axis= for a number of parts or cuts, as in NumPy",
    "std": "say correction=1 (or dim=) for PyTorch's n - 1, or ddof=0 (or axis=) for NumPy's n",
    "transpose": "say swapaxes(i, j) or dim0= and dim1= for PyTorch's exchange, or axes= for NumPy's permutation",
    "var": "say correction=1 (or dim=) for PyTorch's n - 1, or ddof=0 (or axis=) for NumPy's n",
}


def refuse(name: str, entry: str | None = None) -> NoReturn:
    """Raise the TypeError for an ambiguous call of `name`; entry: its key in the table, if that is another."""
    raise TypeError(f"{name}: NumPy and PyTorch answer this call differently; {AMBIGUOUS[entry or name]}")
