"""training/loader.py: the same batches for any number of threads; errors arrive; threads end, and nothing hangs."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from small_models import make_trainer, same_bits, weights_of

from tiny_transformer_np import CharTokenizer, ConfigError
from tiny_transformer_np.corpus.tokens import MappedFile, Tokens
from tiny_transformer_np.training import TextDataset
from tiny_transformer_np.training.loader import Loader

ANY_NUMBER = pytest.mark.parametrize("num_workers", [0, 1, 3])


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    gc.collect()
    assert_no_threads()


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def assert_no_threads():
    """Within a second: a thread that is told to end by the garbage collector need not have ended when that returns."""
    wait_until(lambda: not threads(), seconds=1.0)


def wait_until(condition, seconds=5.0):
    """An AssertionError if it is not true by then."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def dataset(n=401, seq_len=4):
    return TextDataset(np.arange(n) % 10, CharTokenizer("abcdefghij"), seq_len)


def loader_of(data, num_workers, **how):
    return Loader(data, 3, seed=7, num_workers=num_workers, **how)


# --------------------------------------------------------------------------------------------- the same bits


@ANY_NUMBER
def test_batches_are_those_of_the_dataset_in_whatever_order_they_are_asked_for(num_workers):
    """Also the same one again, one that is on its way already, and one from the past."""
    data = dataset()
    loader = loader_of(data, num_workers, prefetch=4)
    numbers = [*range(50), 50, 50, 52, 53, 10, 11, 12, 1000, 0, 0, *np.random.default_rng(0).integers(0, 60, 50)]
    for number in map(int, numbers):
        loaded = loader.batch(number)
        for given, expected in zip(loaded.batch, data.batch(number, 3, 7), strict=True):
            np.testing.assert_array_equal(given, expected)
        assert loaded.n_targets == 12
    loader.close()


@pytest.mark.parametrize("settings", [{}, {"grad_accumulation_steps": 3}, {"overfit_one_batch": True}], ids=str)
def test_any_number_of_threads_trains_to_the_same_bits(settings):
    trained = {}
    for num_workers in (0, 1, 3):
        trainer = make_trainer(num_workers=num_workers, model={"dropout": 0.1}, **settings)
        assert trainer.train() is True
        trained[num_workers] = weights_of(trainer)
    assert same_bits(trained[0], trained[1]) and same_bits(trained[0], trained[3])


def test_training_goes_on_from_any_step_to_the_same_bits(tmp_path):
    whole = make_trainer(max_steps=7)
    whole.train()
    for step in (1, 4):
        first, second = (make_trainer(max_steps=7, num_workers=2) for _ in "ab")
        for _ in range(step):
            first.train_step()
        first.save_checkpoint(tmp_path / "one.safetensors")
        second.load_checkpoint(tmp_path / "one.safetensors")
        second.train()
        assert same_bits(weights_of(second), weights_of(whole))


def test_a_dataset_that_takes_anothers_place_is_trained_on():
    trainer, other = (make_trainer(num_workers=2) for _ in "ab")
    trainer.train_step()
    other.train_dataset = TextDataset(trainer.train_dataset.tokens[::-1], trainer.train_dataset.tokenizer, 8)
    plain = make_trainer()
    plain.train_dataset = other.train_dataset
    assert other.train_step() == plain.train_step() != make_trainer().train_step()


def test_looking_at_any_batch_does_not_disturb_the_threads():
    """verify_every, a replay of a step and preflight ask for batches of their own."""
    plain, looked = make_trainer(), make_trainer(num_workers=2, verify_every=2)
    for _ in range(4):
        plain.train_step()
        looked.loss_of(looked.step + 5, 0)
        looked.train_step()
        looked.evaluate()
    assert same_bits(weights_of(plain), weights_of(looked))
    looked.train()
    plain.train()
    assert same_bits(weights_of(plain), weights_of(looked))


# -------------------------------------------------------------------------------------- how far, and how long


def test_no_more_is_fetched_ahead_than_was_asked_for():
    data, fetched = dataset(), []
    original = data.batch
    data.batch = lambda number, *args: fetched.append(number) or original(number, *args)
    loader = loader_of(data, 2, prefetch=7)
    for number in (0, 1):
        loader.batch(number)
        wait_until(lambda n=8 + number: len(fetched) == n)  # 7 ahead of the one that was taken
        time.sleep(0.1)
        assert sorted(fetched) == list(range(8 + number))
    loader.close()


# ---------------------------------------------------------------------------------------------- what fails


def breaking(data, number, error):
    """Let the dataset raise `error` for one batch."""
    original = data.batch

    def disk_that_fails(asked, *args):
        if asked == number:
            raise error
        return original(asked, *args)

    data.batch = disk_that_fails


@ANY_NUMBER
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError(), SystemExit(3), KeyError("x")])
def test_the_step_that_needs_a_batch_raises_what_the_thread_raised(num_workers, error):
    trainer = make_trainer(num_workers=num_workers)
    breaking(trainer.train_dataset, 3, error)
    with pytest.raises(type(error)) as caught:
        trainer.train()
    assert caught.value is error and trainer.step == 3  # batches are numbered from 0, steps from 1
    assert "disk_that_fails" in "".join(traceback.format_tb(caught.tb))
    assert_no_threads()


def test_a_batch_that_failed_is_fetched_again_when_it_is_asked_for_again():
    data = dataset()
    original = data.batch
    breaking(data, 2, OSError("once"))
    loader = loader_of(data, 2)
    loader.batch(0), loader.batch(1)
    time.sleep(0.1)  # all threads are as far ahead as they may be
    with pytest.raises(OSError, match="once"):
        loader.batch(2)
    time.sleep(0.1)
    data.batch = original
    np.testing.assert_array_equal(loader.batch(2).batch[0], data.batch(2, 3, 7)[0])
    loader.close()


def test_an_error_of_a_batch_that_no_step_needs_is_not_raised():
    trainer = make_trainer(num_workers=2, max_steps=4)
    breaking(trainer.train_dataset, 4, OSError("behind the end"))
    assert trainer.train() is True


@ANY_NUMBER
def test_a_corpus_that_becomes_shorter_ends_the_run_in_one_line(num_workers, tmp_path):
    """To read behind the end of a mapped file kills a process; its size is looked at before each batch."""
    np.tile(np.arange(27, dtype=np.uint16), 4000).tofile(tmp_path / "train.bin")
    trainer = make_trainer(num_workers=num_workers, max_steps=100)
    file = MappedFile(tmp_path / "train.bin", np.uint16, 27 * 4000)
    trainer.train_dataset = TextDataset(Tokens.of_files([file], np.uint16), trainer.train_dataset.tokenizer, 8)
    trainer.train_step()
    os.truncate(tmp_path / "train.bin", 100)
    with pytest.raises(ConfigError, match=r"train\.bin became shorter while it was in use") as caught:
        trainer.train()
    assert "\n" not in str(caught.value) and trainer.step <= 1 + 2 * num_workers  # those that were ready
    assert_no_threads()


# ----------------------------------------------------------------------------------------- threads that end


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError, ConfigError])
def test_no_thread_outlives_training_that_fails(error):
    trainer = make_trainer(num_workers=3)
    backward = trainer.backward

    def fail(loss, grad):
        if trainer.step == 2:
            raise error("here")
        backward(loss, grad)

    trainer.backward = fail
    with pytest.raises(error):
        trainer.train()
    assert not threads()


def test_no_thread_outlives_training_that_a_signal_stops():
    trainer = make_trainer(num_workers=3, max_steps=1000)
    original = trainer.train_step

    def step():
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original()

    trainer.train_step = step
    assert trainer.train() is False
    assert trainer.step < 10 and not threads()
    trainer.train_step()  # it can go on
    assert len(threads()) == 3


def test_no_thread_outlives_a_trainer_that_was_deleted():
    trainer = make_trainer(num_workers=3)
    trainer.train_step()
    assert len(threads()) == 3
    del trainer
    gc.collect()
    assert_no_threads()


def test_threads_end_when_the_garbage_collector_runs_in_one_of_them():
    """There it cannot wait for itself."""
    data, dropped, collected = dataset(), threading.Event(), threading.Event()
    loader = loader_of(data, 2)
    loader.batch(0)
    original = data.batch

    def collecting(*args):
        dropped.wait(5)
        gc.collect()
        collected.set()
        return original(*args)

    data.batch = collecting
    loader.batch(1)  # a thread begins to fetch one more
    cycle = [loader]
    cycle.append(cycle)
    gc.disable()
    try:
        del loader, cycle
        dropped.set()
        assert collected.wait(5)
        assert_no_threads()
    finally:
        gc.enable()


def test_threads_that_cannot_be_started_are_said_and_none_stays(monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "loader 2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loader = loader_of(dataset(), 4)
    for _ in "ab":
        with pytest.raises(ConfigError, match=r"^num_workers is 4, but the system does not start so many threads"):
            loader.batch(0)
        assert_no_threads()


def run(program, timeout=60):
    """The program in a process of its own: (exit status, output). A hang is a failure.

    From Python 3.12 on, os.fork warns where there are threads.
    """
    found = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning:__main__", "-c", program],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return found.returncode, found.stdout + found.stderr


PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
from tiny_transformer_np.corpus.tokens import MappedFile, Tokens
from tiny_transformer_np.training import TextDataset
from tiny_transformer_np.training.loader import Loader

data = TextDataset(np.arange(401) % 10, None, 4)
original = data.batch
def slow(number, *args):
    if number == 3:
        print("stuck", flush=True)
        time.sleep(1000)
    return original(number, *args)
loader = Loader(data, 3, 7, num_workers=2)
"""


def test_a_program_ends_though_its_loader_is_not_closed():
    status, said = run(PROGRAM + "loader.batch(0); print('end')")
    assert (status, said) == (0, "end\n")


def test_a_loader_that_is_closed_elsewhere_is_not_waited_for():
    data, asked = dataset(), threading.Event()
    data.batch = lambda *args: asked.wait(5)
    loader = loader_of(data, 1)
    threading.Timer(0.2, loader.close).start()
    with pytest.raises(RuntimeError, match="was closed while a batch was waited for"):
        loader.batch(0)
    asked.set()


@pytest.mark.posix
def test_ctrl_c_ends_a_program_that_waits_for_a_thread_that_is_stuck():
    """On a disk that does not answer. Closing waits two seconds for it; the process ends without it."""
    interrupted = """
data.batch = slow
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
for number in range(10):
    loader.batch(number)
"""
    start = time.monotonic()
    status, said = run(PROGRAM + interrupted)
    assert status == -signal.SIGINT and "stuck" in said and "KeyboardInterrupt" in said
    assert time.monotonic() - start < 30


@pytest.mark.posix
def test_a_forked_process_starts_threads_of_its_own():
    """The parent's do not exist there."""
    forked = """
expected = data.batch(5, 3, 7)[0]
loader.batch(4)
child = os.fork()
same = np.array_equal(loader.batch(5).batch[0], expected)
if child:
    _, status = os.waitpid(child, 0)
    print(same, status)
sys.exit(0 if same else 1)
"""
    assert run(PROGRAM + forked) == (0, "True 0\n")
