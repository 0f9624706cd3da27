"""backward_steps: what a step shows is right and never changes, and stepping changes nothing."""

import copy
import re

import numpy as np
import pytest
import small_net
from small_net import Net, gradients, in_arena, loss_of, same_bits

import kernels
import minigrad as mg
from minigrad.debug import Stats

# -------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_gradients_are_those_of_a_plain_backward_bit_for_bit(kernel_set):
    stepped, plain = Net(), Net()
    with kernels.use(kernel_set):
        loss_of(plain).backward()
        loss = loss_of(stepped)
        steps = list(mg.backward_steps(loss))
    assert len(steps) == 10 and same_bits(gradients(stepped), gradients(plain))


def test_a_step_says_what_ran_where_on_what_and_what_it_gave():
    net = Net()
    loss = loss_of(net)
    root = loss.node
    steps = list(mg.backward_steps(loss))
    assert [s.id for s in steps] == sorted((s.id for s in steps), reverse=True) and steps[0].id == root.id
    first = steps[0]
    assert (first.op, first.module) == ("softmax_cross_entropy", "")
    assert set(first.saved) >= {"logits", "targets", "logsumexp"} and list(first.grads) == ["dlogits"]
    assert first.dout == 1 and first.source[0] == small_net.__file__ and "softmax_cross_entropy(" in first.source[2]

    norm = next(s for s in steps if s.module == "blocks.1")
    assert norm.op == "layernorm" and list(norm.grads) == ["dx", "dweight", "dbias"]
    assert np.array_equal(norm.grads["dweight"], net.blocks[1].weight.grad)
    assert norm.source[2] == "x = mg.gelu(block(mg.linear(x, self.weight))) + x"
    again = kernels.for_array(norm.dout).layernorm_backward(
        norm.dout, *(norm.saved[name] for name in ("x", "weight", "mean", "rstd"))
    )
    assert all(np.array_equal(a, b) for a, b in zip(again, norm.grads.values(), strict=True))

    text = str(norm)
    assert text.startswith(f"#{norm.id} layernorm in blocks.1\n") and f"{norm.source[0]}:{norm.source[1]}" in text
    assert all(re.search(rf"^    {n} +\(", text, re.M) for n in ("x", "rstd", "dout", "dx", "dbias"))
    assert "has_bias=True" in text
    assert repr(norm) == f"<step #{norm.id} layernorm in blocks.1: dx, dweight, dbias>"


def test_stats_are_of_the_finite_elements():
    stats = Stats.of(np.array([[3.0, np.nan, 0.0], [-4.0, np.inf, 0.0]], np.float32))
    assert stats == Stats((2, 3), "float32", 5.0, -4.0, 3.0, pytest.approx(1 / 3), 2)
    assert str(stats) == "(2, 3) float32  norm 5  min -4  max 3  zeros 33.3%  2 NOT FINITE"
    assert Stats.of(np.array([3e300, 4e300])).norm == pytest.approx(5e300)  # the squares would overflow
    assert Stats.of(np.array([2, -1])).min == -1 and Stats.of(np.float32(0)).zeros == 1.0
    empty = Stats.of(np.zeros((0, 3)))
    assert empty.shape == (0, 3) and np.isnan(empty.norm) and empty.zeros == 0.0
    assert np.isnan(Stats.of(np.array([np.nan])).max)


def doubled(x, factor):
    return mg.record(2 * x.data, (x, factor), doubled_backward)


def doubled_backward(dout):
    return 2 * dout, None


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (lambda x, y: x * y, ["da", "db"]),
        (lambda x, y: mg.where(x.data > 0, x, y), ["da", "db"]),
        (lambda x, y: mg.linear(x, y), ["dx", "dweight"]),
        (lambda x, y: mg.linear(x, y, mg.tensor(np.zeros(3))), ["dx", "dweight", "dbias"]),
        (lambda x, y: mg.layernorm(x, y[0]), ["dx", "dweight"]),
        (lambda x, y: mg.permute(x, 1, 0), ["dx"]),
        (lambda x, y: mg.embedding(np.array([1]), x), ["dweight"]),
        (lambda x, y: doubled(x, y), ["dx", "dfactor"]),
        (lambda x, y: mg.concatenate([x, y]), ["d0", "d1"]),  # a list of any length has no names
        (lambda x, y: mg.record(x.data, (x,), lambda dout: dout), ["d0"]),
    ],
)
def test_gradients_have_the_names_of_the_inputs(fn, names):
    x, y = (mg.tensor(np.random.default_rng(i).standard_normal((3, 3)), requires_grad=True) for i in range(2))
    step = next(mg.backward_steps(fn(x, y), np.ones_like(fn(x, y).data)))
    assert list(step.grads) == names


def test_dout_is_what_the_backward_function_got_from_a_hook():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y.register_hook(lambda grad: 10 * grad)
    steps = list(mg.backward_steps(y.sum()))
    assert steps[1].op == "exp" and (steps[1].dout == 10).all()


def test_it_refuses_what_backward_refuses_and_knows_leaves():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for bad, kind in ((lambda: mg.backward_steps(x), RuntimeError), (lambda: mg.backward_steps(x, [1]), ValueError),
                      (lambda: mg.backward_steps(mg.tensor([1.0])), RuntimeError)):  # fmt: skip
        with pytest.raises(kind):
            bad()
    assert list(mg.backward_steps(x, [3.0, 4.0])) == [] and x.grad.tolist() == [3, 4]


def test_retain_graph_allows_a_second_pass_and_its_absence_does_not():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    loss = x.exp().sum()
    assert len(list(mg.backward_steps(loss, retain_graph=True))) == len(list(mg.backward_steps(loss))) == 2
    with pytest.raises(RuntimeError, match="retain_graph"):
        list(mg.backward_steps(loss))


def test_a_step_stays_as_it_is_whatever_is_written_to_the_arrays():
    net = Net()
    loss = loss_of(net)
    steps = list(mg.backward_steps(loss))
    before = copy.deepcopy([s.arrays for s in steps])
    for p in net.parameters():
        p.data[...] = 7.0
        p.grad[...] = 7.0
    assert all(same_bits(a, s.arrays) for a, s in zip(before, steps, strict=True))


# ---------------------------------------------------------------------------------------- giving up


def test_giving_up_half_way_gives_the_leaves_their_gradients_back():
    net = Net()
    for step in mg.backward_steps(loss_of(net)):
        if step.module == "blocks.1":
            break
    assert [p.grad for p in net.parameters()] == [None] * 5

    loss_of(net).backward()
    before = gradients(net)
    with pytest.raises(ZeroDivisionError):
        for step in mg.backward_steps(loss_of(net)):
            1 / (step.module != "blocks.0")
    assert same_bits(gradients(net), before)


def test_giving_up_restores_an_optimizers_buffers_too():
    """There the engine adds in place, so that putting the old array back would not be enough."""
    net = Net()
    optimizer = in_arena(net.parameters())
    optimizer.zero_grad()
    loss_of(net).backward()
    before = gradients(net)
    assert net.weight.grad is net.weight.grad_buffer
    steps = mg.backward_steps(loss_of(net))
    for _ in range(3):
        next(steps)
    assert not same_bits(gradients(net), before)
    steps.close()
    assert same_bits(gradients(net), before)
