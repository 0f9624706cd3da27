"""x += v and x[i] = v change what they change in PyTorch, or raise; no gradient is computed from changed arrays."""

import contextlib
import operator
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph, nn, optim

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch


def manual_sgd(T):
    x, y = T.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), T.tensor([1.0, 2.0, 3.0])
    w, b = T.zeros(2, requires_grad=True), T.zeros(1, requires_grad=True)
    for _ in range(5):
        ((x @ w + b - y) ** 2).mean().backward()
        with T.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad = None
    return w, b


def moving_average(T):
    average, model = T.nn.Linear(2, 2), T.nn.Linear(2, 2)
    with T.no_grad():
        for p, value in zip([*average.parameters(), *model.parameters()], (1.0, 2.0, 3.0, 4.0), strict=True):
            p[...] = value
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a *= 0.9
            a += 0.1 * p
    return average.weight, average.bias


def running_mean(T):
    layer = T.nn.Module()
    layer.register_buffer("mean", T.zeros(2))
    held, batch = layer.mean, T.tensor([[1.0, 2.0], [3.0, 4.0]])
    held *= 0.9
    held += 0.1 * batch.mean(0)
    return (layer.mean,)


def views_and_aliases(T):
    x = T.arange(6.0)
    view, alias, listed = x[1:3], x, [x]
    view += 10
    alias *= 2
    listed[0] -= 1
    x.reshape(2, 3)[1] /= 4
    x[0] += 5
    x[[1, 1]] += 3
    x[x > 20] = 0.5
    x[2:4] = T.tensor([7, 8])
    return x, view


def dtype_is_kept(T):
    x, n, mask = T.tensor([7.5, -2.5]), T.tensor([7, -3]), T.tensor([True, False])
    x += T.tensor([1.0, 2.0], dtype=T.float64)
    x **= 2
    x //= 3
    n %= 4
    n ^= 5
    n |= 8
    n &= T.tensor([12, 15], dtype=T.uint8)
    n[0] = 2.9
    mask &= n > 2
    return x, n, mask


@pytest.mark.pytorch
@pytest.mark.parametrize("script", [manual_sgd, moving_average, running_mean, views_and_aliases, dtype_is_kept])
def test_a_pytorch_script_that_changes_tensors_in_place_gets_pytorch_s_numbers(script):
    for ours, theirs in zip(script(mg), script(torch), strict=True):
        np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-6, strict=True)


def test_parameters_stay_views_of_the_optimizer_s_arena():
    layer = nn.Linear(2, 1)
    opt = optim.AdamW(layer.parameters(), lr=0.1)
    layer(mg.ones(1, 2)).sum().backward()
    opt.step()
    array = layer.weight.data
    with mg.no_grad():
        layer.weight *= 0
        layer.weight += 2
    assert layer.weight.data is array and array.tolist() == [[2, 2]]
    layer(mg.ones(1, 2)).sum().backward()
    opt.step()
    assert array[0, 0] not in (0, 2) and layer.weight.data is array


OPERATORS = ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"]


@pytest.mark.parametrize("name", OPERATORS)
def test_a_gradient_is_never_computed_from_an_array_that_was_changed(name):
    change = getattr(operator, name)
    leaf = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf that needs a gradient; do it inside of no_grad"):
        change(leaf, 2.0)
    for x, v in ((leaf * 1, 2.0), (leaf * 1, leaf), *[(mg.ones(2), leaf)] * (name != "ifloordiv")):
        before, view = x.tolist(), x[:1]
        with pytest.raises(RuntimeError, match=r"a view of x, an operation or a variable holds too.*; say x = x"):
            change(x, v)
        with pytest.raises(RuntimeError, match=r"a view of x, an operation or a variable holds too.*; say x = x"):
            change(view, leaf[:1])
        assert x.tolist() == before
    constant = mg.tensor([3.0, 4.0])
    loss = (leaf * constant).sum()
    change(constant, 2.0)
    with pytest.raises(RuntimeError, match=r"mul saved 'b'.*has changed since the forward pass"):
        loss.backward()


def test_an_array_that_a_gradient_needs_is_not_changed_while_it_is_recorded():
    leaf = mg.tensor([1.0, 2.0], requires_grad=True)
    x = leaf.exp()  # saves what it returns; PyTorch refuses in backward
    with pytest.raises(RuntimeError, match="an operation or a variable holds too"):
        x += 1
    x, shared = leaf * 2, (leaf * 2).detach()
    array = x.data
    for held in (x, shared):
        keep = held.detach()
        with pytest.raises(RuntimeError, match="holds too"):
            held *= leaf
        del keep
    del array
    x *= leaf
    x.sum().backward()
    assert x.tolist() == [2, 8] and leaf.grad.tolist() == [4, 8]


@pytest.mark.pytorch
@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in ("ifloordiv", "imod", "ipow")])
@pytest.mark.parametrize("start", ["constant", "non-leaf", "float64 beside float32", "broadcast"])
def test_a_running_total_of_losses_has_pytorch_s_gradients(name, start):
    change, results = getattr(operator, name), []
    for T in (torch, mg):
        leaf = T.tensor([[1.5, 2.0], [0.5, 3.0]], requires_grad=True)
        other = T.tensor([[2.0, 1.0], [3.0, 0.5]], dtype=T.float64 if start.startswith("float64") else T.float32)
        total = T.ones(2, 2) if start == "constant" else leaf * 2
        same = total
        for factor in (1.0, 2.0):
            total = change(total, (leaf * factor)[:1] if start == "broadcast" else leaf * other * factor)
        same.sum().backward()
        assert total is same and same.dtype == T.float32
        results.append((np.asarray(same.detach()), np.asarray(leaf.grad)))
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_elements_that_a_gradient_needs_are_not_assigned():
    leaf, constant = mg.tensor([1.0, 2.0], requires_grad=True), mg.ones(2)
    with pytest.raises(RuntimeError, match=r"x\[i\] = v would change a leaf .* or say x = mg.where\(mask, v, x\)"):
        leaf[0] = 1
    with pytest.raises(RuntimeError, match="through which gradients flow"):
        constant[0] = leaf[0]
    for index in (0, [0], slice(1)):
        with pytest.raises(RuntimeError):
            leaf[index] += 1
    assert leaf.tolist() == [1, 2] and constant.tolist() == [1, 1]
    loss = (leaf * constant).sum()
    constant[0] = 5
    with pytest.raises(RuntimeError, match="has changed since the forward pass"):
        loss.backward()


def test_what_does_not_fit_is_refused_and_nothing_changes():
    x, n, mask = mg.tensor([1.0]), mg.tensor([1, 2]), mg.tensor([True])
    with pytest.raises(ValueError, match=r"x \+= v gives shape \(2,\), and x has \(1,\); say x = x \+ v"):
        x += mg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="x /= v gives float32, and x holds int64; say x = x / v"):
        n /= 2
    with pytest.raises(TypeError, match=r"x \*= v gives int64, and x holds bool"):
        mask *= 2
    for view in (x.expand(3), mg.as_tensor(np.broadcast_to(np.float32(1), 2))):
        with pytest.raises(ValueError, match=r"x is read-only: .*; change x.clone\(\)"):
            view += 1
        with pytest.raises(ValueError, match="x is read-only"):
            view[0] = 1
    with pytest.raises(IndexError):
        n[2] = 1
    with pytest.raises(TypeError, match="NumPy and PyTorch answer this call differently"):
        mg.zeros(2, 3, 4)[0, :, [1, 2]] = 1
    assert x.tolist() == [1] and n.tolist() == [1, 2] and mask.tolist() == [True]


def product_backward(dout, saved):
    inner = saved["a"] if isinstance(saved, dict) else saved[0] if isinstance(saved, tuple) else saved
    return dout * (inner.data if isinstance(inner, mg.Tensor) else inner)


class One(NamedTuple):
    array: object


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"a": t.data}, lambda t: One(t.data), lambda t: (t,)])
def test_an_operation_of_one_s_own_notices_that_what_it_saved_was_changed(wrap):
    leaf, factor = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([3.0, 4.0])
    out = mg.record(leaf.data * factor.data, (leaf,), product_backward, saved=wrap(factor))
    out.sum().backward(retain_graph=True)
    assert leaf.grad.tolist() == [3, 4]
    factor *= 10
    with pytest.raises(RuntimeError, match=r"saved 'saved'.*has changed since the forward pass"):
        out.sum().backward()


@pytest.mark.parametrize(
    "view", [lambda a: np.lib.stride_tricks.sliding_window_view(a, 2)[0], lambda a: np.asarray(memoryview(a))[:2]]
)
def test_a_gradient_is_never_computed_from_a_window_on_an_array_that_was_changed(view):
    array = np.array([1.0, 2.0, 3.0], np.float32)
    leaf, window, whole = mg.tensor([1.0, 1.0], requires_grad=True), mg.from_numpy(view(array)), mg.from_numpy(array)
    loss = (leaf * window).sum()
    whole *= 10
    with pytest.raises(RuntimeError, match="has changed since the forward pass"):
        loss.backward()


@pytest.mark.pytorch
def test_an_element_of_a_tensor_is_a_view_as_in_pytorch():
    results = []
    for T in (torch, mg):
        x, m = T.tensor([3.0, 2.0]), T.zeros(2, 2)
        first, row = x[0], m[T.tensor(1)]
        x *= 2
        first += 1
        row += 5
        for element in x:
            element -= 1
        m[0][1] += 7
        m[1, 1] *= 2
        results.append([first.item(), x.tolist(), m.tolist()])
    assert results[0] == results[1]


def test_a_diagonal_is_not_written_to_in_vain():
    diagonal = mg.eye(2).diagonal()
    with pytest.raises(ValueError, match=r"x is read-only: .* a diagonal"):
        diagonal += 1


def test_an_assigned_number_is_one_that_the_dtype_holds():
    for dtype, value in ((mg.int64, float("nan")), (mg.uint8, 300), (mg.int32, 2**31), (mg.int64, float("inf"))):
        x = mg.zeros(2, dtype=dtype)
        with pytest.raises(OverflowError):
            x[0] = value
        assert x.tolist() == [0, 0]


def test_one_element_of_any_shape_is_assigned_to_one_place():
    x, y = mg.zeros(2), mg.zeros(2, 2)
    x[0] = mg.tensor([5.0])
    y[1, 1] = np.array([[7.0]])
    y[0] = [3.0]
    assert x.tolist() == [5, 0] and y.tolist() == [[3, 3], [0, 7]]


def test_many_assignments_do_not_slow_backward():
    x = mg.zeros(3000)
    for i in range(3000):
        x[i] += 1
    assert len(graph._writes[id(x.data)][1]) < 10
