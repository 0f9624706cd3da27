"""Attention's memory grows with T, not with T squared: measured as the peak of a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import arguments

from kernels import backend
from kernels.arrays import empty

cpu = backend("cpu")

MiB = 2**20

# Prints how far the peak rises over attention's forward and backward pass, then over one (T, T) array: the
# gauge must see that one. Compiling has a peak of its own, so it is started afresh before measuring.
SCRIPT = """
import numpy as np
import kernels
cpu = kernels.backend("cpu")

def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

def step(T):
    setting = (0.25, True, 0.1, 1, 2, 3)
    qkv, dqkv = (np.ones((1, T, 3, 2, 16), np.float32) for _ in range(2))
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    into = [dqkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    out, logsumexp = cpu.attention_forward(q, k, v, *setting)
    cpu.attention_backward(out, q, k, v, out, logsumexp, *setting, into)

step(128)
open("/proc/self/clear_refs", "w").write("5")  # peak = now
before = peak()
step(8192)
attention = peak()
square = np.ones((8192, 8192), np.float32)
print(attention - before, peak() - before)
"""


@pytest.mark.linux
def test_attention_over_8192_tokens_makes_no_square_array():
    cpu.attention_forward(*arguments("attention_forward", np.random.default_rng(1), np.float32))
    cpu.attention_backward(*arguments("attention_backward", np.random.default_rng(1), np.float32))  # compiled, cached
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    attention, with_square = map(int, done.stdout.split())
    assert with_square - attention > 100 * MiB, "the gauge missed an array of 256 MiB"
    assert attention < 64 * MiB


def test_large_results_begin_a_cache_line():
    """Not by luck: of sixteen arrays of odd sizes every one."""
    rng = np.random.default_rng(0)
    for n in range(1, 17):
        x, weight = (rng.standard_normal((m, 3), np.float32) for m in (n, 5))
        out = cpu.linear_forward(x, weight, None)
        for result in (out, *cpu.linear_backward(out, x, weight, None)[:2], cpu.gelu_forward(x, "tanh")):
            assert result.ctypes.data % 64 == 0 and result.flags.c_contiguous


def test_in_place_of_a_large_array_there_is_room_for_its_parts():
    """Of what malloc takes: a chunk is what was asked for and 8 bytes, rounded up to sixteens."""

    def chunk(n):
        memory = empty((n,), np.dtype(np.float32)).base
        return -(-(memory.nbytes + 8) // 16) * 16

    MB = 2**18  # numbers
    assert chunk(24 * MB) == 4 * chunk(6 * MB) == 2 * chunk(9 * MB) + chunk(6 * MB)
    assert chunk(24 * MB) < 1.002 * 4 * 24 * MB
