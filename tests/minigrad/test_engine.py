"""The engine: sums of gradients, their order, refused inputs, and the message when a backward function fails."""

import re
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph, nn


def leaf(*values, dtype=np.float64):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def test_gradients_of_two_backwards_add_up():
    x = leaf(1.0, 2.0)
    (x * 3.0).sum().backward()
    first = x.grad
    kept = first.copy()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3.0 + 2.0, 3.0 + 4.0])
    np.testing.assert_array_equal(first, kept)  # what a person holds does not change under them
    x.zero_grad()
    assert x.grad is None


def test_the_gradient_is_nobody_elses_array():
    a, b, dout = leaf(1.0, 2.0), leaf(3.0, 4.0), np.ones(2)
    (a + b).backward(dout)
    assert not np.shares_memory(a.grad, b.grad)
    assert not np.shares_memory(a.grad, dout)
    c = leaf(1.0)
    c.backward(dout[:1])
    assert not np.shares_memory(c.grad, dout)


def test_a_diamond_counts_every_path_once():
    x = leaf(2.0)
    y = x * x  # 4
    left, right = y * 3.0, y * y
    (left + right * left).sum().backward()  # 3 y + 3 y^3, dy/dx = 2 x
    np.testing.assert_allclose(x.grad, [(3 + 9 * 16) * 4.0], rtol=1e-15)


def test_a_ladder_of_diamonds_is_walked_once_per_node_not_per_path():
    x = y = leaf(1.0)
    for _ in range(200):  # 2**200 paths
        y = (y + y) * 0.5
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1.0])


def test_a_short_and_a_long_way_meet_in_order():
    x = leaf(1.5)
    y = x.exp()
    z = y
    for _ in range(10):
        z = z * 1.0
    (y * z).sum().backward()  # y's gradient is complete only after the long way was walked
    np.testing.assert_allclose(x.grad, 2.0 * np.exp(3.0), rtol=1e-15)


def test_a_chain_of_20000_operations():
    x = leaf(0.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    assert sys.getrecursionlimit() < 20_000
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1.0])


def test_tied_parameter_used_twice_adds_into_one_gradient():
    rng = np.random.default_rng(0)
    weight = mg.tensor(rng.standard_normal((5, 3)), requires_grad=True)
    ids = np.array([1, 4, 1])
    mg.gradcheck(lambda w: mg.softmax_cross_entropy(mg.linear(mg.embedding(ids, w), w), ids), {"w": weight}, rtol=1e-8)


def test_zero_dimensional_results_stay_arrays_when_they_add_up():
    x = leaf(0.5).sum()
    x = mg.tensor(x.data, requires_grad=True)
    y = x.gelu()  # a kernel, which takes arrays only
    (y + y * 2.0 + x).backward()
    assert type(x.grad) is np.ndarray
    assert x.grad.shape == ()


# ------------------------------------------------------------------------------------------- twice


def test_a_second_backward_says_what_to_pass():
    x = leaf(1.0, 2.0)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"#\d+ sum .*retain_graph=True"):
        loss.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])  # the refused one added nothing


def test_a_freed_part_below_a_new_graph_is_refused_before_anything_is_added():
    x, other = leaf(1.0, 2.0), leaf(1.0, 1.0)
    y = x * x
    y.sum().backward()
    with pytest.raises(RuntimeError, match=r"mul .*retain_graph=True"):
        (y * other).sum().backward()
    assert other.grad is None


def test_retain_graph_gives_the_same_gradients_again():
    x = leaf(1.0, 2.0)
    y = x.exp()
    loss = (y * y + y).sum()
    loss.backward(retain_graph=True)
    once = x.grad.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


def test_a_failed_backward_leaves_no_half_gradients_behind():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    z = y.exp()
    loss = (z + y).sum()

    def fail(grad):
        raise ValueError("hook failed")

    remove = z.register_hook(fail)
    with pytest.raises(ValueError, match="hook failed"):
        loss.backward(retain_graph=True)  # y had its gradient from z + y by then
    remove()
    x.zero_grad()
    loss.backward()
    np.testing.assert_allclose(x.grad, 2.0 * np.exp(2.0 * x.data) + 2.0, rtol=1e-15)


# ------------------------------------------------------------------------------------------- not recording


def test_no_grad_as_a_block_and_as_a_decorator():
    x = leaf(1.0, 2.0)

    @mg.no_grad()
    def double(x):
        return x * 2.0

    for _ in range(2):  # a decorated function can be called again
        assert not double(x).requires_grad
    with mg.no_grad():
        with mg.no_grad():
            pass
        assert (x * 2.0).node is None
    assert (x * 2.0).requires_grad
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert (x * 2.0).requires_grad


def test_detach_shares_the_array_and_stops_the_gradient():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    assert y.detach().data is y.data
    assert not y.detach().requires_grad
    (y * y.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad, 9.0 * x.data)


def test_nothing_is_recorded_without_a_leaf_that_wants_a_gradient():
    constant = mg.tensor(np.ones(2))
    out = (constant * 2.0).exp()
    assert out.node is None
    assert out.is_leaf
    with pytest.raises(RuntimeError, match="nothing to differentiate"):
        out.sum().backward()
    mixed = constant * leaf(1.0, 2.0)
    mixed.sum().backward()
    assert constant.grad is None


# ------------------------------------------------------------------------------------------- upstream


def test_backward_of_more_than_one_element_needs_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs the gradient"):
        (x * 2.0).backward()
    (x[:1] * 2.0).backward()  # one element does not
    np.testing.assert_array_equal(x.grad, [2.0, 0.0])
    with pytest.raises(ValueError, match=r"grad has shape \(3,\); the tensor has \(2,\)"):
        (x * 2.0).backward(np.ones(3))
    (x * 2.0).backward(mg.tensor([1, 1]))  # a Tensor, of another dtype
    np.testing.assert_array_equal(x.grad, [4.0, 2.0])


def test_only_floats_can_require_gradients():
    with pytest.raises(TypeError, match="int64"):
        mg.tensor(np.arange(3), requires_grad=True)


# --------------------------------------------------------------------------- backward functions that fail


def returning(grad):
    def wrong_backward(dout):
        return grad

    return lambda x: mg.record(x.data * 2.0, (x,), wrong_backward)


@pytest.mark.parametrize("grad", [np.ones(3), np.ones((2, 1)), np.ones(()), np.ones(2, np.float32), np.float64(1.0)])
@pytest.mark.parametrize("below", [lambda x: x, lambda x: x * 1.0], ids=["leaf", "intermediate"])
def test_a_gradient_of_wrong_shape_or_dtype_names_its_backward_function(grad, below):
    x = leaf(1.0, 2.0)
    message = f"wrong_backward returned a gradient of {grad.shape} {grad.dtype} for an input of (2,) float64"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        returning(grad)(below(x)).sum().backward()
    assert x.grad is None


def test_a_backward_function_that_returns_too_few_gradients_is_refused():
    def short_backward(dout):
        return (dout,)

    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(ValueError, match="zip"):
        mg.record(x.data + y.data, (x, y), short_backward).backward()


def test_an_exception_inside_a_backward_function_names_node_line_and_shapes():
    x = leaf(1.0, 2.0, 3.0)
    y = x.exp()  # the line to be named
    y.node.saved["out"] = np.ones((7, 1, 2))
    with pytest.raises(ValueError, match="broadcast") as caught:
        (y * 2.0).sum().backward()
    (note,) = caught.value.__notes__
    assert f"node #{y.node.id}, exp, made at {__file__}:{y.node.source[1]}\n" in note
    assert "y = x.exp()  # the line to be named" in note
    assert "dout (3,), saved: out (7, 1, 2)" in note


class Block(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x).exp()


class Net(nn.Module):
    def __init__(self):
        self.blocks = nn.ModuleList([Block() for _ in range(4)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x * 2.0


def test_a_node_knows_its_op_line_and_module():
    net, x = Net(), mg.tensor(np.ones((1, 2), np.float32))
    out = net(x)
    path, _, text = out.node.source
    assert (path, text) == (__file__, "return x * 2.0")
    assert (out.node.op, out.node.module) == ("mul", "Net")
    last = out.node.parents[0]
    assert (last.op, last.module) == ("exp", "blocks.3")
    assert last.source[2] == "return self.inner(x).exp()"
    assert (last.parents[0].op, last.parents[0].module) == ("linear", "blocks.3.inner")
    assert repr(last) == f"<#{last.id} exp (1, 2) float32 in blocks.3>"
    assert (x * net.blocks[0].inner.weight).node.module == ""  # outside again
    assert net.blocks[3](x).node.module == "Block"  # called by itself: names count from here
    assert net(x).node.parents[0].module == "blocks.3"


def test_a_failing_backward_function_names_its_module():
    out = Net()(mg.tensor(np.ones((1, 2), np.float32)))
    out.node.parents[0].saved["out"] = np.ones(7)
    with pytest.raises(ValueError, match="broadcast") as caught:
        out.sum().backward()
    assert "exp in module blocks.3, made at" in caught.value.__notes__[0]


def test_the_module_path_is_left_when_forward_raises():
    with pytest.raises(ValueError, match="features"):
        Net()(mg.tensor(np.ones((1, 3), np.float32)))
    assert graph.thread.module_path == ""


def test_ids_count_up_in_order_of_creation():
    x = leaf(1.0)
    y = x * 2.0
    z = y + 1.0
    assert x.node is None
    assert y.node.id < z.node.id
    assert f"made by <#{z.node.id} add (1,) float64>" in repr(z)
