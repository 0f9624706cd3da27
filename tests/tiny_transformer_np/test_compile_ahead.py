"""The rehearsal of a run calls the kernels of the run, all and no others, with arrays of the same types."""

import pytest
from small_models import make_trainer, same_bits, weights_of

import kernels
from kernels import matmul_precision
from kernels.cpu import forked
from minigrad import random
from tiny_transformer_np.model import LARGE_VOCABULARY
from tiny_transformer_np.training.compile_ahead import prepare_kernels
from tiny_transformer_np.training.preflight import preflight

WIDE = "".join(chr(0x4E00 + i) for i in range(LARGE_VOCABULARY)) * 3  # the loss of so many characters is another kernel


def loaded():
    """The kernels that this process has loaded, and for which types."""
    return {(kernel.py_func.__module__, kernel.__name__, str(sig)) for kernel in forked.watched
            for sig in kernel.overloads}  # fmt: skip


@pytest.fixture(autouse=True)
def compiled_kernels():
    with kernels.use("fast"):
        yield


@pytest.mark.parametrize(
    ("model", "training", "dtype"),
    [
        ({"n_head": 1}, {}, "float32"),
        ({"dropout": 0.1, "bias": False, "gelu": "none", "positions": "sinusoidal"}, {}, "float32"),
        ({"tie_weights": False}, {"grad_accumulation_steps": 3, "grad_clip": 0.0}, "float32"),
        pytest.param({"dropout": 0.1}, {}, "bfloat16", marks=pytest.mark.bfloat16),
        ({}, {"text": WIDE}, "float32"),
    ],
)
def test_a_run_loads_no_kernel_that_its_rehearsal_did_not(model, training, dtype):
    matmul_precision.select(dtype)
    try:
        trainer = make_trainer(model=model, sample_tokens=2, **training)
        for kernel in forked.watched:
            kernel._reset_overloads()
        prepare_kernels(trainer)
        rehearsed = loaded()
        preflight(trainer, whole=True, say=lambda line: None)
        trainer.train_step()
        trainer.evaluate()
        trainer.sample()
    finally:
        matmul_precision.select("float32")
    assert rehearsed and loaded() == rehearsed


def test_a_rehearsal_changes_nothing_and_does_not_meet_the_numbers_of_the_run():
    trainer = make_trainer(sample_tokens=2, learning_rate=1e30)  # in this run a sample would be refused
    weights = weights_of(trainer)
    random.seek(3)
    prepare_kernels(trainer)
    place = random.next_stream()
    random.seek(3)
    assert random.next_stream() == place and trainer.step == 0
    assert same_bits(weights_of(trainer), weights)


def test_the_plain_kernels_need_no_rehearsal(monkeypatch):
    with kernels.use("reference"):
        kernels.prepare(lambda: pytest.fail("rehearsed"))
