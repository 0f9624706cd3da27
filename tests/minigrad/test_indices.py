"""Indices: a changed buffer changes no gradient, and an index out of bounds ends in one line, in forward."""

import numpy as np
import pytest

import minigrad as mg


def x23():
    return mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)


# call(x, index), an index array
PICKS = {
    "getitem": (lambda x, i: x[i], [1, 0, 1]),
    "getitem-tensor": (lambda x, i: x[mg.tensor(i)], [1, 0, 1]),
    "getitem-pair": (lambda x, i: x[i, 0], [1, 0, 1]),
    "getitem-mask": (lambda x, i: x[i], [True, False]),
    "index_select": (lambda x, i: x.index_select(1, i), [0, 2, 2]),
    "gather": (lambda x, i: x.gather(1, i), [[2, 1], [0, 0]]),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, dim=1), [[2, 1], [0, 0]]),
    "take_along_axis": (lambda x, i: mg.take_along_axis(x, i, axis=1), [[2, 1], [0, 0]]),
    "masked_fill": (lambda x, i: x.masked_fill(i, 7.0), [[True, False, True], [False, False, True]]),
    "masked_select": (lambda x, i: x.masked_select(i), [[True, False, True], [False, False, True]]),
    "where": (lambda x, i: mg.where(i, x, 0.0), [[True, False, True], [False, False, True]]),
    "repeat_interleave": (lambda x, i: x.repeat_interleave(i, dim=0), [3, 1]),
}


@pytest.mark.parametrize("pick,index", PICKS.values(), ids=PICKS)
def test_a_loader_that_uses_its_buffer_again_before_backward_changes_no_gradient(pick, index):
    kept, reused = x23(), x23()
    buffer = np.array(index)
    expected, out = pick(kept, np.array(index)), pick(reused, buffer)
    buffer[...] = 0
    upstream = np.random.default_rng(0).standard_normal(out.shape)
    expected.backward(upstream)
    out.backward(upstream)
    np.testing.assert_array_equal(reused.grad, kept.grad)


def test_an_index_that_is_out_of_bounds_by_the_time_of_backward_writes_nowhere_else():
    x, buffer = x23(), np.array([0, 1])
    out = x.gather(1, buffer.reshape(2, 1))
    buffer[...] = 10**12
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, [[1, 0, 0], [0, 1, 0]])


OUT_OF_BOUNDS = {
    "getitem": lambda x: x[np.array([0, 5])],
    "getitem-tensor": lambda x: x[mg.tensor([5])],
    "getitem-int": lambda x: x[5],
    "getitem-negative": lambda x: x[[-5]],
    "index_select": lambda x: x.index_select(0, [0, 5]),
    "gather": lambda x: x.gather(0, np.full((1, 3), 5)),
    "take_along_dim": lambda x: x.take_along_dim(np.full((1, 3), 5), dim=0),
}


@pytest.mark.parametrize("call", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_an_index_out_of_bounds_names_its_value_the_axis_and_the_size(call):
    with pytest.raises(IndexError, match=r"index -?5 is out of bounds for axis 0 with size 2") as raised:
        call(x23())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("call", [lambda x: x.gather(0, np.ones((1, 3))), lambda x: x.index_select(0, [0.5])])
def test_an_index_of_floats_is_refused(call):
    with pytest.raises(TypeError, match=r"the index must be integers, not float"):
        call(x23())


def test_a_mask_of_integers_is_refused():
    for call in (mg.masked_select, lambda x, mask: mg.masked_fill(x, mask, 0.0)):
        with pytest.raises(TypeError, match="the mask must be boolean, not int64"):
            call(x23(), np.ones((2, 3), np.int64))


def test_an_integer_tensor_is_not_filled_with_a_fraction():
    with pytest.raises(TypeError, match=r"masked_fill: int64 cannot hold the value 1\.5"):
        mg.masked_fill(np.arange(3), np.array([True, False, True]), 1.5)


def test_an_empty_list_picks_nothing():
    assert x23()[[]].shape == (0, 3)
    assert x23().gather(1, np.zeros((0, 2), np.int64)).shape == (0, 2)
