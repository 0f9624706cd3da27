"""Ids and targets: what is checked in forward is what backward uses, whatever becomes of the caller's array."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import kernels
import minigrad as mg

RNG = np.random.default_rng(0)
TABLE, LOGITS, SQUARE = (RNG.standard_normal(shape) for shape in ((5, 3), (4, 5), (5, 5)))
CALLS = {
    "embedding": lambda x, ids: (mg.embedding(ids, x) ** 2).sum(),
    "embedding with padding": lambda x, ids: mg.embedding(ids, x, padding_idx=1).sum() * 2,
    "softmax_cross_entropy": mg.softmax_cross_entropy,
    "cross_entropy": mg.cross_entropy,
    "cross_entropy, each": lambda x, ids: mg.cross_entropy(x, ids, reduction="none").sum(),
    "nll_loss": mg.nll_loss,
    "linear_cross_entropy": lambda x, ids: mg.linear_cross_entropy(x, mg.tensor(SQUARE), ids),
}
each_call = pytest.mark.parametrize("name", CALLS)
both_sets = pytest.mark.parametrize("kernel_set", kernels.SETS)


def gradient(name, ids, between=lambda ids: None):
    """The gradient of the float input, when between(ids) happens after the forward pass."""
    x = mg.tensor(TABLE if "embedding" in name else LOGITS, requires_grad=True)
    loss = CALLS[name](x, ids)
    between(ids)
    loss.backward()
    return x.grad


@both_sets
@each_call
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_a_loader_that_reuses_its_buffer_does_not_change_the_gradient(name, kernel_set, dtype):
    ids = np.array([1, 4, 1, 0], dtype)

    def next_batch(buffer):
        buffer[...] = 2

    with kernels.use(kernel_set):
        expected = gradient(name, ids.copy())
        np.testing.assert_array_equal(gradient(name, ids, next_batch), expected)
        assert not np.array_equal(gradient(name, ids), expected)  # of the batch that is in the buffer now


@both_sets
def test_a_buffer_that_is_filled_with_wild_numbers_between_forward_and_backward_does_not_crash(kernel_set):
    """In a process of its own: without the copy this writes far outside of the gradient."""
    program = f"""
        import numpy as np, kernels, minigrad as mg
        kernels.select({kernel_set!r})
        for op, shape in ((lambda x, ids: mg.embedding(ids, x).sum(), (5, 3)), (mg.softmax_cross_entropy, (4, 5))):
            for wild in (2**40, -2**40, -1, 5):
                ids = np.array([1, 4, 1, 0])
                x = mg.tensor(np.ones(shape), requires_grad=True)
                loss = op(x, ids)
                ids[...] = wild
                loss.backward()
                assert abs(x.grad.sum() - (12 if shape == (5, 3) else 0)) < 1e-9, x.grad
        print("no crash")
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "no crash\n"), found.stderr


@both_sets
@each_call
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64, ">i4"])
def test_an_index_outside_of_the_table_is_refused_before_a_kernel_reads_it(name, kernel_set, dtype):
    dtype = np.dtype(dtype)
    wrong = [5, np.iinfo(dtype).max, *([-1, np.iinfo(dtype).min] if dtype.kind == "i" else [])]
    with kernels.use(kernel_set):
        for bad in wrong:
            with pytest.raises(IndexError, match=rf" {bad} is outside 0\.\.4"):
                gradient(name, np.array([0, 1, bad, 1], dtype))
        expected = gradient(name, np.array([1, 4, 1, 0]))
        np.testing.assert_array_equal(gradient(name, np.array([1, 4, 1, 0], dtype)), expected)


@both_sets
@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint8])
@pytest.mark.parametrize("name", [name for name in CALLS if "entropy" in name or name == "nll_loss"])
def test_an_ignored_target_is_no_index(name, kernel_set, dtype):
    """ignore_index is -100, which unsigned integers cannot hold: 2**64 - 100 and 156 are wrong targets, not ignored."""
    ignored = np.array(-100).astype(dtype)
    with kernels.use(kernel_set):
        if ignored == -100:
            assert (gradient(name, np.array([1, -100, 1, 0]))[1] == 0).all()
        else:
            with pytest.raises(IndexError, match=f"{ignored} is outside"):
                gradient(name, np.array([1, ignored, 1, 0], dtype))


def test_ids_in_a_memory_mapped_file_or_in_a_list_are_taken(tmp_path):
    expected = gradient("embedding", np.array([1, 4, 1, 0]))
    np.array([1, 4, 1, 0], np.uint16).tofile(tmp_path / "ids")
    for ids in (np.memmap(tmp_path / "ids", np.uint16, "r"), [1, 4, 1, 0], mg.tensor(np.array([1, 4, 1, 0]))):
        np.testing.assert_array_equal(gradient("embedding", ids), expected)
