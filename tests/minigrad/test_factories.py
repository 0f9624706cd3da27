"""Tensors from nothing: PyTorch's factories, their arguments, dtypes and refusals."""

import contextlib

import numpy as np
import pytest

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch

CALLS = {
    "zeros": lambda m: m.zeros(2, 3), "zeros-tuple": lambda m: m.zeros((2, 3)), "zeros-none": lambda m: m.zeros(()),
    "zeros-size": lambda m: m.zeros(size=(2,)), "ones": lambda m: m.ones(3), "full": lambda m: m.full((2,), 1.5),
    "full-int": lambda m: m.full((2,), 3), "full-bool": lambda m: m.full((2, 1), True),
    "arange": lambda m: m.arange(5), "arange-two": lambda m: m.arange(2, 7),
    "arange-step": lambda m: m.arange(7, 1, -2), "arange-float": lambda m: m.arange(0.0, 1.0, 0.1),
    "arange-cut": lambda m: m.arange(-0.9, 2.1, 2.0, dtype=m.tensor([1]).dtype), "arange-half": lambda m: m.arange(2.5),
    "arange-end": lambda m: m.arange(end=4), "arange-empty": lambda m: m.arange(0),
    "linspace": lambda m: m.linspace(0, 1, 5), "linspace-steps": lambda m: m.linspace(-1.0, 2.0, steps=4),
    "linspace-one": lambda m: m.linspace(3, 9, 1), "eye": lambda m: m.eye(3), "eye-wide": lambda m: m.eye(2, 4),
    "zeros-like": lambda m: m.zeros_like(m.ones(2, 3)), "ones-like": lambda m: m.ones_like(m.tensor([1, 2])),
    "full-like": lambda m: m.full_like(m.ones(2), 7.0), "full-like-int": lambda m: m.full_like(m.tensor([1, 2]), 7.0),
}  # fmt: skip


@pytest.mark.pytorch
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_factories_are_torch_s(call):
    np.testing.assert_allclose(call(mg).data, call(torch).numpy(), rtol=1e-6, strict=True)


def test_factories_take_dtypes_gradients_and_numpy_s_names():
    x = mg.zeros(2, dtype=np.float64, requires_grad=True)
    assert x.dtype == np.float64 and x.requires_grad
    assert mg.zeros(shape=(2, 3)).shape == mg.full(shape=2, fill_value=1).shape * 1 + (3,)
    assert mg.arange(0, stop=3).tolist() == [0, 1, 2] and mg.linspace(0, stop=1, num=3).tolist() == [0, 0.5, 1]
    assert mg.arange(3, dtype=np.float64).dtype == np.float64 and mg.empty(2, 3).shape == (2, 3)
    assert mg.ones_like(np.ones(2)).dtype == np.float64 and mg.zeros_like(x, dtype=np.int32).dtype == np.int32


@pytest.mark.parametrize("call,error,message", [
    (lambda: mg.zeros((2, 3), np.float32), TypeError, "a size is made of ints, .*; say dtype="),
    (lambda: mg.zeros(2.5), TypeError, "a size is made of ints"),
    (lambda: mg.zeros(2, size=(3,)), TypeError, "give the size once"),
    (lambda: mg.zeros(2, device="cpu"), TypeError, "device"),
    (lambda: mg.randn(2, generator=None), TypeError, "generator"),
    (lambda: mg.tensor([1.0], pin_memory=True), TypeError, "pin_memory"),
    (lambda: mg.full((2,)), TypeError, "needs a fill_value"),
    (lambda: mg.arange(5, 2), ValueError, "steps of 1 do not lead from 5 to 2"),
    (lambda: mg.arange(0, 5, 0), ValueError, "the step is 0"),
    (lambda: mg.linspace(0, 1), TypeError, "the number of steps"),
    (lambda: mg.randn(2, dtype=np.int64), TypeError, "randn draws floats, not int64; say randint"),
    (lambda: mg.randint(3, 3, (2,)), ValueError, "no integer from 3 to below 3"),
    (lambda: mg.zeros(2, dtype=np.int64, requires_grad=True), TypeError, "only floating-point"),
    (lambda: mg.from_numpy([1.0]), TypeError, "from_numpy takes an array, not a list"),
], ids=range(14))  # fmt: skip
def test_factories_refuse_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_same_seed_draws_the_same_numbers():
    def draw():
        mg.manual_seed(3)
        return [mg.rand(1000), mg.randn(1000, dtype=np.float64), mg.randint(10, (1000,)), mg.randint(-3, 4, size=1000),
                mg.randperm(1000), mg.randn_like(np.ones((2, 3), np.float16)), mg.rand_like(mg.ones(2))]  # fmt: skip

    with mg.random.kept():
        first, second = draw(), draw()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data, strict=True)
    uniform, normal, below, between, permutation, like, _ = first
    assert uniform.dtype == np.float32 and 0 <= uniform.data.min() < uniform.data.max() < 1
    assert abs(uniform.data.mean() - 0.5) < 0.05 and abs(normal.data.std() - 1) < 0.1 and normal.dtype == np.float64
    assert {*below.tolist()} == {*range(10)} and {*between.tolist()} == {*range(-3, 4)}
    assert sorted(permutation.tolist()) == [*range(1000)] and below.dtype == np.int64
    assert like.shape == (2, 3) and like.dtype == np.float16


def test_a_reused_buffer_does_not_change_a_tensor_that_was_made_of_it():
    buffer = np.ones(2, np.float32)
    x, shared, same = mg.tensor(buffer), mg.from_numpy(buffer), mg.as_tensor(buffer)
    of_tensor = mg.tensor(x)
    buffer[0] = x.data[1] = 5.0
    assert x.tolist() == [1, 5] and of_tensor.tolist() == [1, 1]
    assert shared.tolist() == same.tolist() == [5, 1]
