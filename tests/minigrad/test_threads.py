"""Several threads at once: what one of them does changes nothing for the others, and no gradient is lost."""

import asyncio
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import graph, nn, random
from minigrad.debug import check_mode

N_THREADS, N_PASSES = 4, 50


def together(*functions):
    """Run each in a thread of its own, and raise what any of them raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def leaf(*values):
    return mg.tensor(np.array(values, np.float32), requires_grad=True)


def test_no_grad_holds_in_its_own_thread_alone():
    """Also where two overlap and neither lies within the other."""
    x, barrier = leaf(1.0), threading.Barrier(2, timeout=30)

    def first():
        with mg.no_grad():
            barrier.wait()  # 1: the other thread records
            assert (x * 2.0).node is None
            barrier.wait()  # 2: the other thread is in a no_grad of its own
        barrier.wait()  # 3
        assert (x * 2.0).node is not None

    def second():
        barrier.wait()
        assert (x * 2.0).node is not None
        with mg.no_grad():
            barrier.wait()
            barrier.wait()
            assert (x * 2.0).node is None
        assert (x * 2.0).node is not None

    together(first, second)
    assert (x * 2.0).node is not None


def test_a_decorated_generator_records_nothing_and_its_caller_does():
    x = leaf(1.0)
    caught = []

    @mg.no_grad()
    def doubled():
        try:
            factor = yield (x * 2.0).node
            yield (x * factor).node
        except KeyError:
            caught.append((x * 2.0).node)
            yield "caught"
        return "the end"

    generator = doubled()
    assert next(generator) is None and graph.thread.recording
    assert generator.send(3.0) is None and (x * 2.0).node is not None
    assert generator.throw(KeyError()) == "caught" and caught == [None]
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "the end" and graph.thread.recording
    another = doubled()
    next(another)
    another.close()
    assert graph.thread.recording


def test_one_no_grad_object_serves_two_threads():
    guard, barrier = mg.no_grad(), threading.Barrier(2, timeout=30)

    def first():
        with guard:
            barrier.wait()
            barrier.wait()
        assert graph.thread.recording

    def second():
        with mg.no_grad():
            barrier.wait()
            with guard:
                barrier.wait()
            assert not graph.thread.recording
        assert graph.thread.recording

    together(first, second)


def test_a_decorated_coroutine_records_nothing_and_its_caller_does():
    x, seen = leaf(1.0), []

    @mg.no_grad()
    async def inside():
        seen.append((x * 2.0).node)
        await asyncio.sleep(0)
        return (x * 2.0).node

    async def outside():
        task = asyncio.ensure_future(asyncio.gather(inside(), inside()))
        await asyncio.sleep(0)
        assert (x * 2.0).node is not None
        return await task

    assert asyncio.run(outside()) == [None, None] and seen == [None, None]


def test_what_no_grad_cannot_decorate_it_refuses():
    async def numbers():
        yield 1

    with pytest.raises(TypeError, match="async generators"):
        mg.no_grad()(numbers)


def test_methods_of_a_class_are_decorated_too():
    x = leaf(1.0)

    class Of:
        @mg.no_grad()
        @staticmethod
        def several():
            yield (x * 2.0).node

        @mg.no_grad()
        @classmethod
        def one(cls):
            return (x * 2.0).node

    assert list(Of.several()) == [None] and Of().one() is None


def test_check_mode_belongs_to_the_thread():
    x, barrier = leaf(1.0), threading.Barrier(2, timeout=30)

    def first():
        with check_mode():
            barrier.wait()
            barrier.wait()
            assert (x * 2.0).node.call is not None
        assert (x * 2.0).node.call is None

    def second():
        barrier.wait()
        with check_mode():
            barrier.wait()
        assert (x * 2.0).node.call is None

    together(first, second)


def test_a_shared_module_has_the_path_of_each_threads_own_call():
    waits, made = Waits(threading.Barrier(2, timeout=30)), {}
    outer = Holds("block", waits.barrier)
    outer.block = waits
    together(
        lambda: made.update(outer=outer(leaf(1.0)).node.module), lambda: made.update(alone=waits(leaf(1.0)).node.module)
    )
    assert made == {"outer": "block", "alone": "Waits"}


def test_threads_that_do_not_seek_draw_different_numbers():
    drawn = []
    together(*[lambda: drawn.append(random.next_stream())] * 3)
    assert len(set(drawn)) == 3


def test_a_decorated_function_may_call_itself_and_raise():
    x = leaf(1.0)

    @mg.no_grad()
    def down(n):
        if n:
            down(n - 1)
            assert not graph.thread.recording
        else:
            raise_once()
        return (x * 2.0).node

    def raise_once():
        with pytest.raises(KeyError), mg.no_grad():
            raise KeyError

    assert down(3) is None and graph.thread.recording


class Waits(nn.Module):
    def __init__(self, barrier):
        self.barrier = barrier

    def forward(self, x):
        self.barrier.wait()
        return x * 2.0


class Holds(nn.Module):
    def __init__(self, name, barrier):
        setattr(self, name, Waits(barrier))
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


def test_each_thread_names_the_modules_that_it_calls():
    barrier, made = threading.Barrier(2, timeout=30), {}
    together(*(lambda name=name: made.update({name: Holds(name, barrier)(leaf(1.0)).node.module}) for name in "ab"))
    assert made == {"a": "a", "b": "b"} and graph.thread.module_path == ""


def test_each_thread_has_its_own_random_position():
    random.seek(7)
    barrier, drawn = threading.Barrier(2, timeout=30), {}

    def draw(seed):
        random.seek(seed)
        drawn[seed] = []
        for _ in range(3):
            barrier.wait()
            drawn[seed].append(random.next_stream())

    together(lambda: draw(1), lambda: draw(2))
    assert drawn == {seed: [(seed, 0, stream) for stream in range(3)] for seed in (1, 2)}
    assert random.next_stream() == (7, 0, 0)


def test_each_thread_chooses_its_kernels():
    """It begins with what the main thread selected."""
    x, barrier = np.ones(3, np.float32), threading.Barrier(2, timeout=30)

    def plain():
        assert kernels.for_array(x) is fast
        with kernels.use("reference"):
            barrier.wait()
            assert kernels.for_array(x) is kernels.backend("reference")
            barrier.wait()
        assert kernels.for_array(x) is fast
        kernels.select("reference")  # of this thread, which ends here

    def other():
        barrier.wait()
        assert kernels.for_array(x) is fast
        barrier.wait()

    with kernels.use("fast"):
        fast = kernels.for_array(x)
        together(plain, other)
        assert kernels.for_array(x) is fast


SHARED = """
import threading
import numpy as np
import kernels
import minigrad as mg
from minigrad import functional as F, optim
kernels.select({kernel_set!r})
rng = np.random.default_rng(0)
x = rng.standard_normal((64, 32)).astype(np.float32)
ids = rng.integers(0, 32, 64)

def loss_of(weight):
    return (F.linear(mg.tensor(x), weight) * F.embedding(ids, weight)).sum() * 1e-3 + weight.sum() * 1e-3

for in_arena in (False, True):
    weight = mg.nn.Parameter(rng.standard_normal((32, 32)).astype(np.float32))
    optimizer = optim.AdamW([weight]) if in_arena else None
    loss_of(weight).backward()
    once = weight.grad.copy()
    weight.zero_grad()

    def work():
        for _ in range({n_passes}):
            loss_of(weight).backward()

    threads = [threading.Thread(target=work) for _ in range({n_threads})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    n = {n_passes} * {n_threads}
    np.testing.assert_allclose(weight.grad, n * once, rtol=1e-3, atol=1e-3 * abs(n * once).max())
print("all are there")
"""


@pytest.mark.parametrize(("kernel_set", "layer"), [("reference", "default"), ("fast", "omp"), ("fast", "workqueue")])
def test_no_contribution_to_a_shared_leaf_is_lost(kernel_set, layer):
    script = SHARED.format(kernel_set=kernel_set, n_passes=N_PASSES, n_threads=N_THREADS)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        env={**os.environ, "NUMBA_THREADING_LAYER": layer},
    )  # fmt: skip
    assert result.stdout == "all are there\n", result.stdout + result.stderr
