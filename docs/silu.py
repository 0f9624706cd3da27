"""The worked example of docs/gpu.md: SiLU as an operation with a CUDA kernel of its own, and its proof.

python docs/silu.py runs it on the simulated device; --device cuda on a GPU.
"""

import sys
from pathlib import Path

import numpy as np

import minigrad as mg
from kernels.cuda.launch import Kernel, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, vec
from kernels.system import cli
from minigrad import runtime

# ------------------------------------------------------------------------------- the reference: the formula in NumPy


def reference_forward(x):
    return x / (1.0 + np.exp(-x))


def reference_backward(dout, x):
    s = 1.0 / (1.0 + np.exp(-x))
    return dout * s * (1.0 + x * (1.0 - s))


# ----------------------------------------------------------------------------------------- the launcher of silu.cu

_forward = Kernel(Path(__file__).with_name("silu.cu").resolve(), "silu_forward")
_backward = Kernel(Path(__file__).with_name("silu.cu").resolve(), "silu_backward")
_THREADS = 256


def silu_forward(x):
    """x * sigmoid(x). Any shape -> the same."""
    out, grid = empty(x, x.shape), blocks(x.size, _THREADS * vec(x.dtype))
    _forward.launch(grid, _THREADS, out, contiguous(x), x.size, dtype=x.dtype)
    return out


def silu_backward(dout, x):
    """-> dx, shaped like x."""
    check_shapes("silu_backward", dout=(dout, x.shape))
    dx, grid = empty(x, x.shape), blocks(x.size, _THREADS * vec(x.dtype))
    _backward.launch(grid, _THREADS, dx, contiguous(dout), contiguous(x), x.size, dtype=x.dtype)
    return dx


# ------------------------------------------------------------------------------------------------ the operation


def silu(x):
    return mg.record(silu_forward(x.data), (x,), silu_backward, x=x.data)


# -------------------------------------------------------------------------------------------------------- the proof


def largest_error(place, dtype, n):
    """Of both kernels against the reference in float64, over the largest magnitude expected."""
    rng = np.random.default_rng(0)
    x, dout = (rng.standard_normal(n).astype(dtype) for _ in range(2))
    wide_x, wide_dout = x.astype(np.float64), dout.astype(np.float64)
    x, dout = place.asarray(x), place.asarray(dout)
    pairs = [
        (silu_forward(x), reference_forward(wide_x)),
        (silu_backward(dout, x), reference_backward(wide_dout, wide_x)),
    ]
    return max(np.abs(place.asnumpy(ours) - true).max() / np.abs(true).max() for ours, true in pairs)


@cli.command_line("silu.py")
def main(argv=None):
    parser = cli.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda-sim", "cuda"), default="cuda-sim")
    name = parser.parse_args(argv).device
    runtime.configure(name)
    place = runtime.module(name)
    for dtype, limit in ((np.float64, 1e-14), (np.float32, 2e-6), (np.float16, 4.9e-4)):
        error = max(largest_error(place, dtype, n) for n in (1, 31, 33, 129, 1009, 4099))
        print(f"{np.dtype(dtype).name:<8} largest error {error:.1e}, allowed {limit:.0e}")
        assert error <= limit
    mg.gradcheck(silu, [np.random.default_rng(1).standard_normal((5, 7))], device=name)
    print("gradients agree with the numerical gradients")


if __name__ == "__main__":
    sys.exit(main())
