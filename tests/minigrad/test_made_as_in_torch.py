"""What one writes for PyTorch to make tensors makes the same here, or raises: no number is lost on the way."""

import contextlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import random

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(2**63, None), ([2**63], None), (300, "uint8"), (-1, "uint8"), (float("nan"), "int64"), ([float("inf")], "int32")],
)
def test_a_number_outside_of_its_dtype_is_not_wrapped_around(data, dtype):
    with pytest.raises(OverflowError, match=r"outside of int64|is not within"):
        mg.tensor(data, dtype=dtype)
    with pytest.raises(OverflowError):
        mg.full((2,), data[0] if isinstance(data, list) else data, dtype=dtype)
    assert mg.tensor([1.5, -2.5], dtype="int8").tolist() == [1, -2] and mg.tensor(255, dtype="uint8").item() == 255
    assert mg.tensor(np.uint64(2**63)).item() == 2**63


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: mg.tensor([np.ma.array([1.0, 2.0], mask=[0, 1])]), "a tensor has no mask"),
        (lambda: mg.tensor([mg.tensor([1.0]), mg.tensor([2.0])]), "say mg.cat for a row of them, or mg.stack"),
        (lambda: mg.tensor([[1, 2], [3]]), "the lists have different lengths"),
        (lambda: mg.tensor([1.0]) + None, "integers or booleans, not None"),
        (lambda: mg.cat([mg.ones(1), None]), "integers or booleans, not None"),
        (lambda: mg.linspace(0, 1, 5.7), "the number of steps is 5.7; expected an integer"),
        (lambda: mg.randint(0, 2.5, (2,)), "high is 2.5; expected an integer"),
        (lambda: mg.randperm(3.0), "n is 3.0; expected an integer"),
        (lambda: mg.eye(2.0), "a size is 2.0; expected an integer"),
        (lambda: mg.zeros(-1), "a size is not negative"),
        (lambda: mg.arange(float("nan")), "must be finite"),
        (lambda: random.uniform((2,)), "the size is the third argument"),
        (lambda: random.normal((2,), 3.0), "the size is the third argument"),
    ],
)
def test_what_makes_no_tensor_is_refused_in_one_line(make, says):
    with pytest.raises((TypeError, ValueError), match=says) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_numpy_s_names_in_random_have_numpy_s_arguments():
    for draw in (random.uniform, random.normal):
        assert draw(0, 1, (2, 3)).shape == (2, 3) and draw(size=4).shape == (4,) and draw().shape == ()
        assert draw().dtype == draw(0, 1, 2).dtype == np.float32
    assert abs(random.normal(5, 0.1, 1000).mean() - 5) < 0.1 and random.uniform(2, 3, 100).min() >= 2


@pytest.mark.pytorch
def test_full_has_pytorch_s_dtypes():
    for value in (np.float64(3), np.int32(3), True, 2, 2.5):
        assert mg.full((2,), value).dtype == str(torch.full((2,), value).dtype).removeprefix("torch.")
    assert mg.full((2,), mg.tensor(np.float64(3))).dtype == np.float32
    assert mg.full((2,), 3, dtype=np.float64).dtype == np.float64


def test_everyday_words_of_pytorch_are_there():
    import minigrad.nn.functional as F

    x = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.no_grad
    def double(x):
        return x * 2

    assert F.relu is mg.F.relu and not double(x).requires_grad and (x * 2).requires_grad
    assert mg.is_tensor(x) and not mg.is_tensor(x.data) and mg.numel(x) == 2 and (mg.inf, mg.pi) == (np.inf, np.pi)
    assert mg.nan != mg.nan
    for like in (mg.zeros_like, mg.ones_like, mg.empty_like, mg.rand_like, mg.randn_like):
        assert like(input=x).shape == (2,)
    assert mg.full_like(input=x, fill_value=2).tolist() == [2, 2]
    assert mg.randint(mg.tensor(0), mg.tensor(1), (2,)).tolist() == [0, 0]


def test_none_as_a_dtype_does_not_widen():
    x = mg.tensor([1.0])
    assert x.to(None) is x and x.to(dtype=None).dtype == np.float32
    for call in (lambda: x.astype(None), lambda: x.type(None), lambda: mg.F.astype(x, None)):
        with pytest.raises(TypeError, match="astype needs a dtype; None, which is float64 in NumPy"):
            call()
