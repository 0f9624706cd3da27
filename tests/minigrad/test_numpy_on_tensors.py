"""NumPy's functions and arrays beside a Tensor: a Tensor with its gradient comes back, or one line says what to do."""

import numpy as np
import pytest

import minigrad as mg

X = np.float32([[1.0, 2.0], [3.0, 5.0]])
UFUNCS = ["exp", "sqrt", "log", "absolute", "negative", "tanh", "sin", "sign", "square", "floor", "isnan", "rint"]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "power",
    "maximum",
    "matmul",
    "equal",
    "less",
    "remainder",
    "not_equal",
]
REDUCTIONS = ["sum", "mean", "max", "min", "prod", "std", "var", "any", "all", "argmax"]


@pytest.mark.parametrize("name", UFUNCS)
def test_a_function_of_numpy_keeps_the_gradient(name):
    x = mg.tensor(X, requires_grad=True)
    y = getattr(np, name)(x)
    assert isinstance(y, mg.Tensor)
    np.testing.assert_allclose(y.data, getattr(np, name)(X), rtol=1e-6, strict=True)
    if name == "exp":
        y.sum().backward()
        np.testing.assert_allclose(x.grad, np.exp(X), rtol=1e-6)


@pytest.mark.parametrize("name", BINARY)
def test_an_array_beside_a_tensor_stays_a_tensor(name):
    x, expected = mg.tensor(X, requires_grad=True), getattr(np, name)(X, X)
    for out in (getattr(np, name)(x, X), getattr(np, name)(X, x), getattr(np, name)(x, x)):
        assert isinstance(out, mg.Tensor)
        np.testing.assert_allclose(out.data, expected, rtol=1e-6, strict=True)
    for out in (X + x, np.float64(2) * x, X @ x, np.float32(2) / x):
        assert isinstance(out, mg.Tensor) and out.requires_grad and out.dtype == np.float32
    assert isinstance(X < x, mg.Tensor) and isinstance(np.float64(2) == x, mg.Tensor)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_of_numpy_has_numpy_s_meaning(name):
    x, reduce = mg.tensor(X, requires_grad=True), getattr(np, name)
    for axis in (None, 0, 1):
        out = reduce(x, axis=axis)
        assert isinstance(out, mg.Tensor)
        np.testing.assert_allclose(out.data, reduce(X, axis=axis), rtol=1e-6)


def test_what_numpy_alone_can_do_is_refused_in_one_line():
    x, array = mg.tensor(X), X.copy()
    with pytest.raises(TypeError, match=r"NumPy writes no tensor into an array; say array \+= x.detach\(\).numpy\(\)"):
        array += x
    for call, says in (
        (lambda: np.tan(x), r"say np.tan\(x.detach\(\).numpy\(\)\)"),
        (lambda: np.exp(x, dtype=np.float64), r"say mg.exp\(x\) or np.exp"),
        (lambda: np.add.reduce(x), r"say np.add.reduce\(x.detach"),
    ):
        with pytest.raises(TypeError, match=says):
            call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'out'"):
        x.sum(out=array)
    np.testing.assert_array_equal(array, X)


def test_an_array_of_a_device_sees_that_it_must_leave_the_operation_to_the_tensor():
    assert mg.tensor(X).__array_ufunc__ is None  # CuPy asks the object
    assert callable(mg.Tensor.__array_ufunc__)  # NumPy the class


def test_a_tensor_is_a_sequence_only_where_it_has_axes():
    with pytest.raises(TypeError, match=r"a tensor without axes has no elements to go through; x.item\(\)"):
        list(mg.tensor(3.0))
    for element in (None, "a"):
        with pytest.raises(TypeError, match=r"a tensor holds numbers, and .* is none"):
            element in mg.tensor([1.0])  # noqa: B015
    assert 1.0 in mg.tensor([1.0]) and 2 not in mg.tensor([1.0])
    assert [1] * mg.tensor(2) == [1, 1] and ([1.0, 2.0] * mg.tensor([2.0, 2.0])).tolist() == [2, 4]
    with pytest.raises(IndexError, match=r"x.size\(5\): the tensor has 1 axes"):
        mg.tensor([1.0]).size(5)
