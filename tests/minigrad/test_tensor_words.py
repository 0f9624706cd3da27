"""The words of a tensor beside its operators: numbers, formats, arrays, copies, sizes."""

import contextlib
import copy
import warnings

import numpy as np
import pytest

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch


def test_a_loss_is_printed_and_taken_as_a_number():
    loss = (mg.tensor([1.0, 2.5], requires_grad=True) ** 2).mean()
    assert f"{loss:.4f}" == "3.6250" and f"{loss}" == "3.625" and format(loss, ".1e") == "3.6e+00"
    assert float(loss) == 3.625 and int(loss) == 3 and loss.item() == 3.625 and bool(loss)
    assert float(mg.tensor([[2.0]])) == 2.0
    with pytest.raises(ValueError, match="size 1"):
        float(mg.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"the format '.2f' needs a tensor without axes; this one has shape \(2,\)"):
        f"{mg.tensor([1.0, 2.0]):.2f}"
    assert f"{mg.tensor([1.0])}" == repr(mg.tensor([1.0]))


def test_one_integer_is_an_index():
    i = mg.tensor(2)
    assert "abc"[i] == "c" and list(range(i)) == [0, 1] and np.arange(5)[i] == 2 and [7, 8, 9][mg.tensor([1])] == 8
    for bad in (mg.tensor(1.0), mg.tensor([1, 2])):
        with pytest.raises(TypeError, match="only a tensor of one integer can be an index"):
            _ = "abc"[bad]


def test_numpy_takes_a_tensor_unless_a_gradient_would_be_lost():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"an array has no gradient; say x.detach\(\)"):
        np.asarray(x)
    with pytest.raises(RuntimeError, match=r"x.detach\(\)"):
        mg.tensor([x[0], x[1]])
    with pytest.raises(RuntimeError, match=r"an array has no gradient; say x.detach\(\).numpy\(\)"):
        x.numpy()
    assert x.detach().numpy() is x.data and mg.tensor([1.0]).numpy().tolist() == [1.0]
    np.testing.assert_array_equal(np.asarray(x.detach()), x.data, strict=True)
    assert np.asarray(x.detach()) is x.data and np.array(x.detach()) is not x.data
    assert np.asarray(x.detach(), dtype=np.float64).dtype == np.float64
    with mg.no_grad():
        assert np.mean(np.asarray(x)) == 1.5 and x.numpy() is x.data


def test_a_tensor_is_made_of_tensors_arrays_and_numbers():
    a, b = mg.tensor(1.0), mg.tensor(2.0)
    assert mg.tensor([a, b]).tolist() == [1.0, 2.0] and mg.tensor([a, b]).dtype == np.float32
    assert mg.tensor([mg.tensor([1, 2]), mg.tensor([3, 4])]).tolist() == [[1, 2], [3, 4]]
    assert mg.tensor([np.float32(1), 2]).dtype == np.float32


@pytest.mark.pytorch
@pytest.mark.parametrize("data", [
    1, 1.0, True, [1, 2], [1.0, 2], [True, False], [[1], [2]], [], np.float64(1), np.float32(1), np.int32(1),
    [np.float64(1)], [1.0, np.float64(2)], [np.float16(1)], np.ones(2), np.ones(2, np.float16), np.array(2.0),
    np.ones(2, np.int32), [np.ones(2), np.ones(2)],
], ids=repr)  # fmt: skip
def test_the_dtype_of_a_new_tensor_is_torch_s(data):
    with warnings.catch_warnings(action="ignore"):
        expected = torch.tensor(np.stack(data) if isinstance(data, list) and data and np.ndim(data[0]) else data)
    assert str(mg.tensor(data).dtype) == str(expected.dtype).removeprefix("torch.")
    assert mg.tensor(data).shape == tuple(expected.shape)


def test_a_clone_has_memory_of_its_own_and_hands_gradients_on():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    assert y.data is not x.data and y.tolist() == x.tolist()
    (y * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert mg.tensor([1, 2]).clone().tolist() == [1, 2]
    assert copy.deepcopy(x).tolist() == [1, 2]


def test_a_gradient_that_a_person_assigns_is_taken_as_an_array_of_the_right_shape():
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    for assigned in (mg.ones(2), np.ones(2), np.ones(2, int)):
        p.grad = assigned
        (p * 3).sum().backward()
        np.testing.assert_array_equal(p.grad, np.float32([4, 4]), strict=True)
    before = p.grad
    for wrong in (np.ones(1), np.float32(1), mg.ones(2, 1)):
        with pytest.raises(ValueError, match=r"grad has shape .*; the tensor has \(2,\)"):
            p.grad = wrong
    assert p.grad is before


def test_a_gradient_is_neither_lost_nor_truncated_because_requires_grad_was_assigned():
    x, ints = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([1, 2])
    y = x * 2
    with pytest.raises(RuntimeError, match=r"only a leaf can give up its gradient; x.detach\(\)"):
        y.requires_grad = False
    (y * 3).sum().backward()
    assert x.grad.tolist() == [6, 6]
    with pytest.raises(TypeError, match="only floating-point tensors can require gradients, not int64"):
        ints.requires_grad = True
    for wrong in ("a", 1, None):
        with pytest.raises(TypeError, match=r"requires_grad is .*; expected True or False"):
            x.requires_grad = wrong
        with pytest.raises(TypeError, match=r"requires_grad is .*; expected True or False"):
            mg.tensor([1.0], requires_grad=wrong)
    assert x.requires_grad is True and ints.requires_grad is False


@pytest.mark.parametrize("buffered", [False, True])
def test_a_leaf_frozen_after_the_forward_pass_gets_no_gradient(buffered):
    frozen, x = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([1.0, 2.0], requires_grad=True)
    if buffered:
        frozen.grad = frozen.grad_buffer = np.float32([5, 5])
    loss = (frozen * x).sum() + mg.F.embedding([0, 0], frozen.reshape(2, 1)).sum()
    frozen.requires_grad_(False)
    loss.backward()
    assert x.grad.tolist() == [1, 2]
    assert frozen.grad is None if not buffered else frozen.grad.tolist() == [5, 5]


def test_data_that_is_a_tensor_is_named_where_it_is_used():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    w.data = mg.tensor([3.0, 4.0])
    for use in (lambda: w + 1, lambda: w * w, lambda: w @ w, lambda: w - mg.ones(2)):
        with pytest.raises(TypeError, match=r"x.data is a Tensor .*; it must be an array, as in x.data = y.data"):
            use()


def test_backward_takes_pytorch_s_names_and_says_what_is_not_there():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for call in ({"gradient": mg.ones(2)}, {"grad": np.ones(2)}, {"gradient": [1.0, 1.0], "retain_graph": None}):
        x.grad = None
        (x * 3).backward(**call)
        assert x.grad.tolist() == [3, 3]
    with pytest.raises(TypeError, match="gradient or grad, not both"):
        (x * 3).backward(mg.ones(2), grad=mg.ones(2))
    with pytest.raises(TypeError, match="create_graph=True asks for gradients of gradients"):
        x.sum().backward(create_graph=True)
    with pytest.raises(TypeError, match="backward has no inputs="):
        x.sum().backward(inputs=[x])


def test_a_tensor_goes_to_another_dtype_but_to_no_device():
    x = mg.tensor([1.0])
    assert x.to("float64").dtype == np.float64 and x.to(mg.tensor([1])).dtype == np.int64 and x.cpu() is x
    with pytest.raises(TypeError, match="to takes a dtype, not 'cuda'; a tensor is where its array is"):
        x.to("cuda")
    with pytest.raises(TypeError, match="unexpected keyword argument 'device'"):
        x.to(device="cuda")


def test_equal_is_one_bool():
    x = mg.tensor([1.0, float("nan")])
    assert not x.equal(x) and mg.array_equal(x, x, equal_nan=True)
    assert x[:1].equal([1.0]) and not x[:1].equal([1.0, 1.0]) and not x[:1].equal([2.0])


def test_requires_grad_can_be_switched_on_leaves():
    x = mg.tensor([1.0])
    assert x.requires_grad_() is x and x.requires_grad and not x.requires_grad_(False).requires_grad
    y = mg.tensor([1.0], requires_grad=True) * 2
    assert y.requires_grad_() is y
    with pytest.raises(RuntimeError, match="only a leaf can give up its gradient"):
        y.requires_grad_(False)
    with pytest.raises(TypeError, match="only floating-point tensors can require gradients, not int64"):
        mg.tensor([1]).requires_grad_()


def test_size_is_numpy_s_number_and_torch_s_method():
    x = mg.tensor(np.zeros((2, 3)))
    assert x.size == 6 and x.size + 1 == 7 and x.size() == (2, 3) and x.size(0) == 2 and x.size(dim=-1) == 3
    assert (x.numel(), x.dim(), x.is_floating_point()) == (6, 2, True)
    with pytest.raises(IndexError):
        x.size(2)
    assert not mg.tensor([1]).is_floating_point()


def test_matrices_are_transposed():
    x = mg.tensor(np.arange(24.0).reshape(2, 3, 4))
    np.testing.assert_array_equal(x.mT.data, x.data.swapaxes(1, 2))
    np.testing.assert_array_equal(x[0].t().data, x.data[0].T)
    assert x[0, 0].t().shape == (4,)
    with pytest.raises(RuntimeError, match="takes a matrix, this tensor has 3 axes"):
        x.t()
    with pytest.raises(ValueError, match="axis"):
        _ = x[0, 0].mT
