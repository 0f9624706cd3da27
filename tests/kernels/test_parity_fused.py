"""The kernels that do the work of two: the same numbers as the two, whatever the size and the layout."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import check, normal, strided, widened

from kernels import backend

reference = backend("reference")

ROOT = Path(__file__).parents[2]

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LAYOUTS = pytest.mark.parametrize("layout", ["plain", "transposed", "sliced"])
SIZES = [(1, 5), (2, 16), (15, 31), (17, 33), (127, 64), (1025, 33), (17, 129), (0, 7)]  # 1025: past 64 chunks


@DTYPES
@LAYOUTS
@pytest.mark.parametrize("beside", [True, False], ids=["with dtotal", "without"])
def test_residual_layernorm(dtype, layout, beside):
    rng = np.random.default_rng(1)
    for rows, C in SIZES:
        x, residual, dout, dtotal = (strided(normal(rng, dtype, rows, C), layout) for _ in range(4))
        weight, bias = normal(rng, dtype, C), normal(rng, dtype, C)
        check("residual_layernorm_forward", x, residual, weight, None, 1e-5)
        total = check("residual_layernorm_forward", x, residual, weight, bias, 1e-5)[0]
        _, mean, rstd = reference.layernorm_forward(*widened((total, weight, bias)), 1e-5)
        saved = total, weight, mean.astype(dtype), rstd.astype(dtype)
        check("residual_layernorm_backward", dout, dtotal if beside else None, *saved)


@DTYPES
@LAYOUTS
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_bias_gelu(dtype, layout, approximate):
    rng = np.random.default_rng(2)
    for rows, C in [(1, 1), *SIZES]:
        x, dout = (strided(3 * normal(rng, dtype, rows, C), layout) for _ in range(2))
        bias = normal(rng, dtype, C)
        check("bias_gelu_forward", x, bias, approximate)
        check("bias_gelu_backward", dout, x, bias, approximate)


def test_a_batch_of_rows():
    rng = np.random.default_rng(3)
    x, residual, dout, dtotal = (normal(rng, np.float32, 2, 3, 5, 16) for _ in range(4))
    weight, bias = normal(rng, np.float32, 16), normal(rng, np.float32, 16)
    total, out, mean, rstd = check("residual_layernorm_forward", x, residual, weight, bias, 1e-5)
    assert (out.shape, mean.shape) == ((2, 3, 5, 16), (2, 3, 5))
    check("residual_layernorm_backward", dout, dtotal, total, weight, mean, rstd)
    check("bias_gelu_forward", x, bias, "tanh")
    check("bias_gelu_backward", dout, x, bias, "tanh")


NORMALISED = """
import numpy as np
from kernels import backend
rng = np.random.default_rng(4)
x, residual, weight, bias = (rng.normal(size=s).astype(np.float32) for s in ((31, 33), (31, 33), (33,), (33,)))
for kernels in backend("reference"), backend("cpu"):
    total, *rest = kernels.residual_layernorm_forward(x, residual, weight, bias, 1e-5)
    again = kernels.layernorm_forward(total, weight, bias, 1e-5)
    print(all(a.tobytes() == b.tobytes() for a, b in zip([total, *rest], [x + residual, *again], strict=True)))
"""


def test_the_residual_sum_is_normalised_to_the_last_bit_like_a_stored_one():
    """What backward computes from `total` belongs to what forward gave.

    Asked of kernels from the cache, so the first process is only there to fill it: the process that compiled a parallel
    function may get other last bits than all later ones, probably since Numba optimises once more what it stores.
    """
    for _ in range(2):
        command = [sys.executable, "-c", NORMALISED]
        found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout
    assert found.split() == ["True", "True"]
