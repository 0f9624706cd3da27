"""Who keeps what alive, hooks, and backward functions that write over what they saved.

The cyclic collector is off in every test here: all of it must work by reference counts alone.
"""

import gc
import weakref

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import nn
from minigrad.graph import Node


@pytest.fixture(autouse=True)
def no_cyclic_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def newest_id():
    return (leaf(1) * 1.0).node.id


def nodes_since(mark):
    """The nodes made after `newest_id` returned this that are alive."""
    return [o for o in gc.get_objects() if type(o) is Node and o.id > mark]  # isinstance would ask for o.__class__


# ------------------------------------------------------------------------------------------- lifetimes


def graph_of_six(x, weight, bias):
    """A loss, and weak references to all its Tensors and arrays."""
    refs = []

    def watched(t):
        refs.extend([weakref.ref(t), weakref.ref(t.data)])
        refs.extend(weakref.ref(v) for v in t.node.saved.values() if isinstance(v, np.ndarray) and v.base is None)
        return t

    hidden = watched(mg.gelu(watched(mg.linear(x, weight, bias))))
    hidden = watched(watched(mg.layernorm(hidden, bias, bias)) + x)
    return watched(mg.softmax_cross_entropy(watched(hidden.tanh()), np.array([0, 1, 2, 3]))), refs


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_nothing_of_the_graph_is_alive_after_backward(kernel_set):
    leaves = leaf(4, 6), leaf(6, 6, seed=1), leaf(6, seed=2)
    with kernels.use(kernel_set):
        graph_of_six(*leaves)[0].backward()  # compiling for the first time leaves cycles, which are not ours
        gc.collect()
        mark = newest_id()
        loss, refs = graph_of_six(*leaves)
        assert len(nodes_since(mark)) == 6
        loss.backward()
    held = {id(loss), id(loss.data), *(id(t.data) for t in leaves)}
    assert [r() for r in refs if r() is not None and id(r()) not in held] == []
    assert nodes_since(mark) == [loss.node]  # the user still holds the loss, and nothing below it
    del loss
    assert nodes_since(mark) == []


def test_dropping_the_loss_without_a_backward_frees_everything():
    mark = newest_id()
    x = leaf(3)
    loss = (x.exp() * x).sum()
    array = weakref.ref(loss.node.parents[0].parents[0].saved["out"])
    assert array() is not None
    del loss
    assert array() is None
    assert nodes_since(mark) == []


def test_a_module_called_and_backpropagated_leaves_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    mark = newest_id()
    with kernels.use("reference"):
        model(mg.tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert nodes_since(mark) == []


def test_an_activation_that_no_backward_function_saved_dies_with_the_users_last_reference():
    x = leaf(1000)
    y = x + 1.0  # neither add nor sum needs y
    array, tensor = weakref.ref(y.data), weakref.ref(y)
    z = y.sum()
    assert array() is not None
    del y
    assert (array(), tensor()) == (None, None)
    z.backward()
    np.testing.assert_array_equal(x.grad, 1.0)


def test_a_saved_activation_lives_until_backward():
    x = leaf(1000)
    y = x.exp()
    array = weakref.ref(y.data)
    z = y.sum()
    del y
    assert array() is not None
    z.backward()
    assert array() is None


@pytest.mark.parametrize("fn", [lambda x, c: x * c, mg.matmul, lambda x, c: mg.linear(x, c)],
                         ids=["mul", "matmul", "linear"])  # fmt: skip
def test_what_only_a_constants_gradient_needs_is_not_kept(fn):
    x = leaf(3, 3)
    y = x + 0.0
    array = weakref.ref(y.data)
    z = fn(y, mg.tensor(np.ones((3, 3))))  # the constant wants no gradient, so y is not needed
    del y
    assert array() is None
    z.sum().backward()


def test_what_a_person_holds_never_changes():
    x = leaf(4, 5)
    logits = x * 2.0
    loss = mg.softmax_cross_entropy(logits, np.array([0, 1, 2, 3]))
    held = {"logits": logits.data, **{k: v for k, v in loss.node.saved.items() if isinstance(v, np.ndarray)}}
    copies = {k: v.copy() for k, v in held.items()}
    for _ in range(2):
        loss.backward(retain_graph=True)
    grad, copy = x.grad, x.grad.copy()
    loss.backward()
    np.testing.assert_array_equal(grad, copy)
    for name, array in held.items():
        np.testing.assert_array_equal(array, copies[name], name)


# ------------------------------------------------------------------------------------------- hooks


def test_hooks_on_intermediates_see_and_replace_the_whole_gradient():
    x = leaf(3)
    y = x * 2.0
    seen = []
    y.register_hook(lambda grad: seen.append(grad.copy()))
    remove = y.register_hook(lambda grad: grad * 10.0)
    y.register_hook(lambda grad: seen.append(grad.copy()))
    loss = (y * 3.0 + y).sum()
    loss.backward(retain_graph=True)
    np.testing.assert_array_equal(seen, [[4.0] * 3, [40.0] * 3])  # once, with both uses in it, and in order
    np.testing.assert_array_equal(x.grad, [80.0] * 3)
    remove()
    remove()  # a second time does no harm
    x.zero_grad()
    loss.backward()
    np.testing.assert_array_equal(x.grad, [8.0] * 3)
    assert len(seen) == 4


def test_hooks_on_leaves_see_the_gradient_of_a_backward_once():
    """All uses in one array, without what `.grad` held before: clipping in a hook would else clip each use."""
    x = leaf(2)
    seen = []
    handle = x.register_hook(lambda grad: seen.append(grad.copy()))
    x.register_hook(lambda grad: -grad)
    loss = (x * 3.0 + x * 4.0).sum()
    loss.backward(retain_graph=True)
    np.testing.assert_array_equal(seen, [[7.0, 7.0]])
    np.testing.assert_array_equal(x.grad, [-7.0, -7.0])
    loss.backward()
    np.testing.assert_array_equal(seen, [[7.0, 7.0]] * 2)
    np.testing.assert_array_equal(x.grad, [-14.0, -14.0])
    handle.remove()
    (x * 3.0).sum().backward()
    assert len(seen) == 2
    np.testing.assert_array_equal(x.grad, [-17.0, -17.0])
    x.backward(np.ones(2))  # a leaf that is the root
    np.testing.assert_array_equal(x.grad, [-18.0, -18.0])


@pytest.mark.pytorch
def test_hooks_are_called_as_in_torch():
    import torch

    def calls(leaf, ones):
        x, seen = leaf, []
        for factor in (2.0, 3.0):
            x.register_hook(lambda grad, factor=factor: (seen.append(("x", grad.sum().item())), grad * factor)[1])
        y = x * x
        y.register_hook(lambda grad: seen.append(("y", grad.sum().item())))
        z = (y * 3.0 + x * y).sum()
        for _ in range(2):
            z.backward(retain_graph=True)
        x.backward(ones)
        return seen, x.grad.tolist()

    values = np.array([1.0, -2.0, 0.5])
    ours = calls(mg.tensor(values, requires_grad=True), np.ones(3))
    assert ours == calls(torch.tensor(values, requires_grad=True), torch.ones(3, dtype=torch.float64))


def test_a_hook_is_removed_by_its_handle_and_only_it():
    x, seen = leaf(2), []
    first, second = x.register_hook(seen.append), x.register_hook(seen.append)
    with x.register_hook(lambda grad: grad * 2.0):
        first.remove()
        first.remove()  # a second time does no harm to the other
        x.sum().backward()
        assert len(seen) == 1
    second()  # as in older versions
    x.sum().backward()
    assert len(seen) == 1 and x.grad.tolist() == [3.0, 3.0]


def test_a_hook_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="the hook is a float; expected a function"):
        leaf(2).register_hook(1.0)


def test_a_hook_that_fails_leaves_the_leaf_as_it_was():
    x, y = leaf(2), leaf(2)
    x.register_hook(lambda grad: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x * y + x).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("on", [lambda x, y: x, lambda x, y: y], ids=["leaf", "intermediate"])
def test_a_hook_must_keep_shape_and_gets_the_dtype_right(on):
    x = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    y = x * 2.0
    remove = on(x, y).register_hook(lambda grad: np.ones(3))
    with pytest.raises(RuntimeError, match=r"hook turned a gradient of shape \(2,\) into one of \(3,\)"):
        y.sum().backward()
    remove()
    x.zero_grad()
    y = x * 2.0
    on(x, y).register_hook(lambda grad: grad.astype(np.float64))
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_a_hook_needs_something_that_has_a_gradient():
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        mg.tensor([1.0]).register_hook(print)
