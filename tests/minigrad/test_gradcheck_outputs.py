"""gradcheck of minigrad functions: what they may return and take, and what is refused in one line."""

import re
from collections import namedtuple

import numpy as np
import pytest

import minigrad as mg
from cudasim import array as sim

Pair = namedtuple("Pair", "first second")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("fn", [
    lambda x: {"loss": x.exp().sum(), "more": [x * 2.0, (mg.tensor(np.arange(3)), None, 3, True, "text")]},
    lambda x: (x, x.exp()), lambda x: Pair(x, x * 2.0), lambda x: [x, np.arange(2)],
    lambda x: [x, mg.tensor(np.ones(2))],  # a constant
])  # fmt: skip
@pytest.mark.parametrize("device", ["cpu", "cuda-sim"])
def test_outputs_may_be_nested_and_hold_integers(fn, device):
    assert mg.gradcheck(fn, [normal(2, 3)], device=device).largest < 1e-9


def test_every_output_of_a_dict_is_checked():
    def wrong_backward(dout):
        return -dout

    def wrong(x):
        return mg.record(x.data * 2.0, (x,), wrong_backward)

    with pytest.raises(mg.GradcheckError, match="likely cause"):
        mg.gradcheck(lambda x: {"right": x * 2.0, "more": [wrong(x)]}, [normal(3)])


@pytest.mark.parametrize("fn,message", [
    (lambda x: None, "fn returned None; expected a minigrad.Tensor, or a list, tuple or dict of them; is `return` "
     "missing?"),
    (lambda x: x.sum().item(), "fn returned a float; expected a minigrad.Tensor, or a list, tuple or dict of them; a "
     "number has no gradient: leave out float() and .item()"),
    (lambda x: np.float64(3), "fn returned a numpy.float64; "), (lambda x: 3, "fn returned an int; "),
    (lambda x: [x, {"loss": 0.5}], "fn returned a float at out[1]['loss']; "), (lambda x: "", "fn returned a str; "),
    (lambda x: x.data, "fn returned a numpy.ndarray; expected a minigrad.Tensor, or a list, tuple or dict of them; the "
     "inputs are minigrad's, and no gradient passes from one library to another"),
    (lambda x: [x, np.ones(3)], "fn returned a numpy.ndarray at out[1]; "), (lambda x: {x}, "fn returned a set; "),
    (lambda x: [], "fn returned nothing; "), (lambda x: (None, 3), "fn returned no floating-point numbers; "),
    (lambda x: mg.tensor(np.arange(3)), "fn returned no floating-point numbers; "),
    (lambda x: x.astype(np.float32), "fn's output is float32 for float64 inputs; something inside narrows it"),
])  # fmt: skip
def test_an_output_that_cannot_be_checked_is_refused(fn, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}") as caught:
        mg.gradcheck(fn, [normal(2, 3)])
    assert "\n" not in str(caught.value)


def test_an_output_off_the_graph_is_refused_if_it_changes():
    for fn, where in ((lambda x: x.detach() * 2.0, ""), (lambda x: (x * 2.0, x.detach()), "[1]"),
                      (lambda x: {"y": mg.tensor(np.exp(x.data))}, "['y']")):  # fmt: skip
        with pytest.raises(mg.GradcheckError) as caught:
            mg.gradcheck(fn, [normal(3)])
        assert str(caught.value).startswith(f"fn's output{where} changes with the inputs, but no graph of minigrad's")
        assert caught.value.cause == "detached" and "\n" not in str(caught.value)


def test_a_function_that_ignores_its_inputs_is_no_pass():
    weight = mg.tensor(np.ones(3), requires_grad=True)
    for fn in (lambda x: mg.tensor(np.ones(3)), lambda x: weight, lambda x: weight * 2.0):
        with pytest.raises(mg.GradcheckError) as caught:
            mg.gradcheck(fn, {"x": normal(3)})
        assert str(caught.value) == "fn's outputs do not depend on any input that is checked (x)"
    assert weight.grad is None
    mg.gradcheck(lambda x: x, [normal(3)])  # a leaf itself is an output too


def test_what_is_no_array_of_floats_is_handed_on_untouched():
    ids, setting, got = np.array([1, 0]), {"axis": 1}, []

    def fn(x, *others):
        got.append(others)
        return x

    mg.gradcheck(fn, (normal(2), ids, setting, 3, None, "text", True))
    assert all(a is ids and b is setting and rest == [3, None, "text", True] for a, b, *rest in got)
    assert all(
        type(each) is type(other) for args in got for each, other in zip(args[2:], (3, None, "", True), strict=True)
    )


def test_inputs_may_be_nested_or_a_single_array():
    report = mg.gradcheck(lambda parts, named: mg.concatenate(parts) * named["w"],
                          {"parts": [normal(2), normal(1)], "named": {"w": normal(3)}})  # fmt: skip
    assert set(report.errors) == {"parts[0]", "parts[1]", "named['w']"}
    assert set(mg.gradcheck(lambda x: x * 2.0, normal(3)).errors) == {"input 0"}
    assert set(mg.gradcheck(lambda x: x * 2.0, mg.tensor(normal(3), requires_grad=True)).errors) == {"input 0"}
    mg.gradcheck(lambda x, y: x * y, (x for x in normal(2, 3)))  # a generator


def test_inputs_that_cannot_be_checked_are_refused():
    for inputs, message in (
        (3, "inputs is an int; expected arrays or tensors in a list, a tuple or a dict of names"),
        ("", "inputs is a str; "), (None, "inputs is None; "), ([], "nothing to check: "), ({}, "nothing to check: "),
        (mg.tensor([1.0]), "nothing to check: no input is a float array or a float64 Tensor that requires a gradient"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            mg.gradcheck(lambda x: x, inputs)


def test_a_plain_numpy_function_is_told_of_pairs():
    with pytest.raises(TypeError) as caught:
        mg.gradcheck(lambda x: np.tan(x), normal(3))  # which minigrad has not
    (note,) = caught.value.__notes__
    assert "called fn with minigrad Tensors" in note and "plain arrays a pair (forward, vjp)" in note


def test_a_tensor_on_a_device_is_checked_there():
    x = mg.tensor(sim.asarray(normal(3)), requires_grad=True)
    data = x.data
    assert mg.gradcheck(lambda x: x.exp() * 3.0, [x]).largest < 1e-9
    assert x.data is data


def test_the_report_says_what_the_noise_is():
    report = mg.gradcheck(lambda x: x.exp(), {"x": normal(3)})
    assert 0.0 < report.noise["x"] < 1e-9
    assert mg.gradcheck(lambda x: x.exp() + 1e9, {"x": normal(3)}).noise["x"] > 1e-4
