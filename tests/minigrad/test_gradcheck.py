"""The gradient check itself: it catches every seeded bug, says where, passes what is right, and leaves no trace.

Each seeded bug is a mistake that people make in a backward function.
"""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.ops.elementwise import unbroadcast


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def with_backward(forward, function, n=1):
    """An op of n Tensors whose backward function is `function(dout, *arrays)`; right or wrong."""

    def rule_backward(dout, arrays):
        return function(dout, *arrays)

    def op(*tensors):
        arrays = [t.data for t in tensors[:n]]
        return mg.record(forward(*arrays), tensors[:n], rule_backward, arrays=arrays)

    return op


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def mean_share(dout, out):
    return (dout * out).sum(axis=-1, keepdims=True)


def one_row_wrong(dout, x):
    dx = dout * 2 * x
    dx[17] *= 1.01
    return dx


def add_at_lost(dout, weight):
    dweight = np.zeros_like(weight)
    dweight[REPEATED] = dout  # `=` where `+=` was meant: an id that stands twice keeps one gradient
    return dweight


def plus_equals_lost(dout, weight):
    dweight = np.zeros_like(weight)
    dweight[REPEATED] += dout  # looks right, adds once
    return dweight


REPEATED = np.array([1, 0, 1, 1])
# name: forward, the right backward function, the wrong one, input shapes
BUGS = {
    "sign": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: -d * np.cos(x), [(2, 3)]),
    "factor-2": (np.square, lambda d, x: d * 2 * x, lambda d, x: d * x, [(2, 3)]),
    "a-millionth": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: d * np.cos(x) * (1 + 1e-5), [(2, 3)]),
    "zero": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: 0 * d, [(2, 3)]),
    "nothing-returned": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: None, [(2, 3)]),
    "nan": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: d * np.nan, [(2, 3)]),
    "dout-ignored": (np.sin, lambda d, x: d * np.cos(x), lambda d, x: np.cos(x), [(2, 3)]),
    "broadcast-sum-scaled": (
        np.add, lambda d, a, b: (d, d.sum(axis=0)), lambda d, a, b: (d, d.mean(axis=0)), [(4, 3), (3,)]),
    "broadcast-first-row": (
        np.add, lambda d, a, b: (d, unbroadcast(d, (1, 3))), lambda d, a, b: (d, d[:1]), [(4, 3), (1, 3)]),
    # `normal` draws from default_rng(0): were upstream drawn likewise, it would equal `a` and hide this one
    "transposed": (lambda a: a @ a, lambda d, a: d @ a.T + a.T @ d, lambda d, a: (d @ a.T + a.T @ d).T, [(3, 3)]),
    "inputs-swapped": (
        np.multiply, lambda d, a, b: (d * b, d * a), lambda d, a, b: (d * a, d * b), [(2, 3), (2, 3)]),
    "softmax-without-mean": (
        softmax, lambda d, x: softmax(x) * (d - mean_share(d, softmax(x))), lambda d, x: softmax(x) * d, [(3, 5)]),
    # exact for an upstream gradient of ones, for which the right answer is 0
    "softmax-right-for-ones": (
        softmax, lambda d, x: softmax(x) * (d - mean_share(d, softmax(x))), lambda d, x: 0.0 * d, [(3, 5)]),
    "centred-without-centring": (
        lambda x: x - x.mean(), lambda d, x: d - d.mean(), lambda d, x: d - 1.0, [(7,)]),
    "set-for-add": (lambda w: w[REPEATED], lambda d, w: ops.indexing.getitem_backward(d, w.shape, REPEATED),
                    add_at_lost, [(3, 2)]),
    "fancy-plus-equals": (lambda w: w[REPEATED], lambda d, w: ops.indexing.getitem_backward(d, w.shape, REPEATED),
                          plus_equals_lost, [(3, 2)]),
    "one-row-of-many": (np.square, lambda d, x: d * 2 * x, one_row_wrong, [(60, 50)]),
    "large-transposed": (lambda a: a @ a, lambda d, a: d @ a.T + a.T @ d, lambda d, a: a @ d + d @ a, [(30, 30)]),
}  # fmt: skip


@pytest.mark.parametrize("forward,right,wrong,shapes", BUGS.values(), ids=BUGS)
def test_a_seeded_bug_is_caught_and_the_right_backward_function_passes(forward, right, wrong, shapes):
    inputs = normal(*shapes)
    mg.gradcheck(with_backward(forward, right, len(inputs)), inputs, rtol=1e-8)
    with pytest.raises(mg.GradcheckError, match="analytic"):
        mg.gradcheck(with_backward(forward, wrong, len(inputs)), inputs)


@pytest.mark.parametrize("seed", range(5))
def test_one_wrong_element_of_a_large_input_is_caught_whatever_the_directions(seed):
    def wrong(dout, x):
        dx = dout * 2 * x
        dx[3, 4] *= 1.5
        return dx

    with pytest.raises(mg.GradcheckError, match="random direction"):
        mg.gradcheck(with_backward(np.square, wrong), normal((80, 90)), seed=seed)


def test_a_missing_broadcast_sum_is_refused_by_its_shape():
    op = with_backward(np.add, lambda dout, a, b: (dout, dout), 2)
    with pytest.raises(
        mg.GradcheckError, match=re.escape("returned a gradient of (4, 3) float64 for an input of (3,)")
    ) as caught:
        mg.gradcheck(op, normal((4, 3), (3,)))
    assert (caught.value.input, caught.value.cause) == ("input 1", "missing broadcast sum")


def test_the_message_names_input_index_both_values_and_tolerance():
    def wrong(dout, x, weight):
        dweight = dout * x
        dweight[1, 2] = 5.0
        return dout * weight, dweight

    x, weight = normal((2, 3), (2, 3))
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(with_backward(np.multiply, wrong, 2), {"x": x, "weight": weight})
    found = re.fullmatch(
        r"weight, index \(1, 2\): analytic 5, numeric (\S+), difference (\S+), tolerance (\S+) \(shape \(2, 3\)\)",
        str(caught.value).splitlines()[0],
    )
    assert found, str(caught.value)
    numeric, difference, tolerance = map(float, found.groups())
    assert difference == pytest.approx(abs(5.0 - numeric), rel=1e-2)
    assert 0.0 < tolerance < 1e-4 < difference


def test_inputs_in_a_list_are_named_by_position():
    op = with_backward(np.multiply, lambda dout, a, b: (dout * b, dout * b), 2)
    with pytest.raises(mg.GradcheckError, match=r"^input 1, index \(0,\)"):
        mg.gradcheck(op, normal((2,), (2,)))


def test_a_gradient_that_is_truly_zero_passes():
    report = mg.gradcheck(lambda a, b: a * 2.0 + b * 0.0, normal((2, 3), (2, 3)), rtol=1e-9)
    assert set(report.errors) == {"input 0", "input 1"}
    mg.gradcheck(lambda a, b: a * 2.0, normal((2, 3), (4,)))  # b takes no part at all
    mg.gradcheck(lambda a: (a - a) * 3.0, normal((3,)))
    mg.gradcheck(lambda x: mg.softmax(x, dim=-1).sum(axis=-1), normal((3, 5)))  # rounding: each sum is 1


def test_the_report_says_how_far_off_the_gradient_was():
    report = mg.gradcheck(lambda a: a.exp(), {"a": normal((3,))[0]})
    assert report.largest == report.errors["a"] < 1e-9
    off = with_backward(np.exp, lambda dout, a: dout * np.exp(a) * (1 + 1e-4))
    assert mg.gradcheck(off, normal((3,)), rtol=1e-3).largest == pytest.approx(1e-4, rel=0.9)


def test_a_function_that_is_not_deterministic_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(mg.GradcheckError, match="not deterministic"):
        mg.gradcheck(lambda a: a * float(rng.uniform()), normal((3,)))


def test_float32_is_refused():
    narrow = mg.tensor(np.ones(3, np.float32), requires_grad=True)
    with pytest.raises(TypeError, match=r"w is float32.*float64"):
        mg.gradcheck(lambda w: w * 2.0, {"w": narrow})
    with pytest.raises(TypeError, match="output is float32"):
        mg.gradcheck(lambda w: w.astype(np.float32), normal((3,)))


def test_nothing_to_check_is_an_error():
    with pytest.raises(TypeError, match="nothing to check"):
        mg.gradcheck(lambda ids: ids, [np.arange(3)])


def test_arrays_of_float32_are_checked_in_float64_and_integers_passed_on():
    seen = []

    def fn(x, ids):
        seen.append((x.dtype, type(ids), ids.dtype))
        return mg.embedding(ids, x)

    mg.gradcheck(fn, [normal((3, 2))[0].astype(np.float32), np.array([2, 0, 2])])
    assert set(seen) == {(np.dtype(np.float64), np.ndarray, np.dtype(np.int64))}


def test_several_outputs_are_checked_together():
    mg.gradcheck(lambda x: mg.split(x.exp(), 3, axis=0), normal((6,)), rtol=1e-8)
    half = with_backward(np.exp, lambda dout, x: dout * np.exp(x) * 0.5)
    with pytest.raises(mg.GradcheckError):
        mg.gradcheck(lambda x: [x * 2.0, half(x)], normal((6,)))  # the second is wrong


def test_the_callers_arrays_and_gradients_stay_as_they_were():
    layer = nn.Linear(3, 2).astype(np.float64)
    x = normal((4, 3))[0]
    layer(mg.tensor(x)).sum().backward()
    held = {n: (p.data, p.data.copy(), p.grad, p.grad.copy()) for n, p in layer.named_parameters()}
    array = x.copy()
    mg.gradcheck(lambda x, *_: layer(x) * 3.0, {"x": x, **dict(layer.named_parameters())}, rtol=1e-8)
    np.testing.assert_array_equal(x, array)
    for name, p in layer.named_parameters():
        data, data_copy, grad, grad_copy = held[name]
        assert p.data is data
        assert p.grad is grad
        np.testing.assert_array_equal(data, data_copy)
        np.testing.assert_array_equal(grad, grad_copy)


def test_a_gradient_in_an_optimizers_arena_stays_as_it_was():
    layer = nn.Linear(3, 2).astype(np.float64)
    mg.optim.GradientArena(layer).gather()
    x = mg.tensor(normal((4, 3))[0])
    layer(x).sum().backward()
    grad, copy, buffer = layer.weight.grad, layer.weight.grad.copy(), layer.weight.grad_buffer
    assert grad is buffer
    mg.gradcheck(lambda *_: layer(x) * 3.0, dict(layer.named_parameters()))
    assert layer.weight.grad is layer.weight.grad_buffer is buffer
    np.testing.assert_array_equal(grad, copy)


def test_they_stay_even_when_the_check_fails():
    w = mg.tensor(normal((3,))[0], requires_grad=True)
    w.grad = np.full(3, 7.0)
    data, grad, copy = w.data, w.grad, w.data.copy()
    with pytest.raises(mg.GradcheckError):
        mg.gradcheck(with_backward(np.sin, lambda dout, x: dout), [w])
    with pytest.raises(ZeroDivisionError):
        mg.gradcheck(lambda w: w * (1 // 0), [w])
    assert w.data is data
    assert w.grad is grad
    np.testing.assert_array_equal(data, copy)
    np.testing.assert_array_equal(grad, 7.0)
