"""Every fast kernel gives the same bits again, and the same on one thread as on two.

Sizes give every parallel loop several chunks, so that a sum whose order depends on the threads would show.
"""

import copy

import numba
import numpy as np
import pytest
from parity import ALL_KERNELS, IN_PLACE, arguments, assert_same_bits

from kernels import backend

cpu = backend("cpu")


@pytest.fixture
def threads():
    """`numba.set_num_threads`, put back afterwards."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


def run(name, args):
    """Copies of all that one call gives; of what it changed in place as well."""
    if name in IN_PLACE:
        args = copy.deepcopy(args)
    return copy.deepcopy((getattr(cpu, name)(*args), args))


@pytest.mark.parametrize("name", ALL_KERNELS)
def test_repeated_calls_give_the_same_bits(name):
    args = arguments(name, np.random.default_rng(1), np.float32, T=550)
    first = run(name, args)
    for _ in range(3):
        assert_same_bits(run(name, args), first)


@pytest.mark.two_threads
@pytest.mark.parametrize("name", ALL_KERNELS)
def test_one_thread_and_two_give_the_same_bits(name, threads):
    args = arguments(name, np.random.default_rng(2), np.float32, T=550)
    threads(1)
    alone = run(name, args)
    threads(2)
    assert_same_bits(run(name, args), alone)
