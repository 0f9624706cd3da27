"""Optimizer state comes back bit for bit."""

import numpy as np
import pytest
from small_net import in_arena

import kernels
from minigrad import nn, optim, runtime

SHAPES = {"w": (4, 3), "b": (3,), "late": (2, 5)}
MAKERS = {"adamw": optim.AdamW, "sgd": lambda params: optim.SGD(params, momentum=0.9)}


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return {name: nn.Parameter(rng.standard_normal(shape, np.float32)) for name, shape in SHAPES.items()}


def walk(optimizer, params, steps):
    for step in steps:
        rng = np.random.default_rng([2, step])
        for name, p in params.items():
            p.grad = None if name == "late" and step < 3 else rng.standard_normal(p.shape, np.float32)
        optimizer.step()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_steps_after_a_round_trip_are_the_same_bits(make):
    whole = parameters()
    walk(make(whole.items()), whole, range(10))

    first = parameters()
    optimizer = make(first.items())
    walk(optimizer, first, range(5))
    state = optimizer.state_dict()
    second = {name: nn.Parameter(p.data.copy()) for name, p in first.items()}
    resumed = make(second.items())
    walk(optimizer, first, range(5, 7))  # the state handed out was a copy, which going on does not change
    resumed.load_state_dict(state)
    walk(resumed, second, range(5, 10))
    for name in SHAPES:
        np.testing.assert_array_equal(second[name].data, whole[name].data)


def test_the_state_is_kept_per_name():
    params = parameters()
    optimizer = optim.AdamW(params.items())
    walk(optimizer, params, range(5))
    state = optimizer.state_dict()
    assert state["step"] == {"w": 5, "b": 5, "late": 2}
    for moment in ("m", "v"):
        assert {name: array.shape for name, array in state[moment].items()} == SHAPES
        assert all(array.base is None or array.flags.c_contiguous for array in state[moment].values())
    reversed_order = optim.AdamW(reversed(params.items()))
    reversed_order.load_state_dict(state)
    again = reversed_order.state_dict()
    assert again["step"] == state["step"]
    for moment in ("m", "v"):
        for name, array in state[moment].items():
            np.testing.assert_array_equal(again[moment][name], array)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make):
    params = parameters()
    optimizer = make(params.items())
    walk(optimizer, params, range(4))
    before = optimizer.state_dict()
    fresh = make(parameters().items()).state_dict()
    key = next(k for k in fresh if k != "step")
    late = np.zeros((2, 5), np.float32)

    def changed(**arrays):
        return {**fresh, key: {**fresh[key], **arrays}}

    wrong = [
        ({**fresh, key: {k: v for k, v in fresh[key].items() if k != "b"}}, "b"),
        (changed(other=late), "other"),
        (changed(late=late[0]), "late has shape"),  # would broadcast
        (changed(late=late.astype(complex)), "late holds complex128"),
        (changed(late=late.astype(str)), "late holds <U32"),
        (changed(late=late.tolist()), "late is a list"),
        ({k: v for k, v in fresh.items() if k != key}, key),
        ({**fresh, "more": {}}, "more"),
    ]
    if "step" in fresh:
        wrong += [({**fresh, "step": {**fresh["step"], "late": x}}, "'step' of late is")
                  for x in (-1, 1.0, True, None, "1", 1 << 63, np.nan)]  # fmt: skip
    for state, message in wrong:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    np.testing.assert_equal(after, before)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_a_step_that_did_not_count_leaves_no_trace(kernel_set):
    """Neighbours' counts stay their own: a and b are updated apart as long as they have taken different steps."""

    def walk(bad_step):
        params = {name: nn.Parameter(np.full(3, 1.0, np.float32)) for name in "ab"}
        optimizer = in_arena(params.items(), learning_rate=0.1)
        for grads, norm in (({"a": 0.3}, 1.0), ({"b": 0.5}, np.nan), ({"a": 0.1, "b": -0.2}, 1.0)):
            if np.isnan(norm) and not bad_step:
                continue
            for name, p in params.items():
                p.grad = np.full(3, grads[name], np.float32) if name in grads else None
            optimizer.step(norm=norm)
        return params, optimizer.state_dict()["step"]

    with kernels.use(kernel_set):
        (expected, counts), (found, found_counts) = walk(bad_step=False), walk(bad_step=True)
    assert found_counts == counts == {"a": 2, "b": 1}
    assert all(np.array_equal(found[name].data, expected[name].data) for name in "ab")


@pytest.mark.compiler
def test_on_a_device_too_only_the_device_knows_whether_a_step_counted():
    placed = runtime.asarray("cuda-sim")
    params = {name: nn.Parameter(placed(np.full(3, 1.0, np.float32))) for name in "ab"}
    optimizer = in_arena(params.items(), learning_rate=0.1)
    for grads, norm in (({"a": 0.3}, 1.0), ({"b": 0.5}, np.inf), ({"a": 0.1, "b": -0.2}, 1.0)):
        for name, p in params.items():
            p.grad = placed(np.full(3, grads[name], np.float32)) if name in grads else None
        optimizer.step(norm=placed(np.array(norm)))
    assert optimizer.state_dict()["step"] == {"a": 2, "b": 1}


def test_the_norm_does_not_depend_on_the_steps_that_were_taken():
    """Its sums follow from the gradients alone, so that a resumed run forms them in the same order."""
    rng = np.random.default_rng(0)
    params = {name: nn.Parameter(np.zeros(1009, np.float32)) for name in "abc"}
    grads = {name: rng.standard_normal(1009).astype(np.float32) for name in params}
    norms = []
    for taken in ({}, {"b": 1}, {"a": 2, "b": 5, "c": 7}):
        optimizer = in_arena(params.items())
        state = optimizer.state_dict()
        optimizer.load_state_dict({**state, "step": {**state["step"], **taken}})
        for name, p in params.items():
            p.grad = grads[name].copy()
        norms.append(optimizer.grad_norm())
    assert norms[0] == norms[1] == norms[2]
