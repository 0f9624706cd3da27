"""How the kernel tests compare a fast kernel with the reference: the reference always computes in float64.

An error is the largest difference over the largest magnitude of what was expected, so it says how many digits
of an output are right. Inputs are rounded to the tested dtype first and widened for the reference: both see the
same numbers, and what is measured is the kernel's own arithmetic.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import kernels
from kernels import backend, spec
from kernels.spec import normal

cpu, reference = backend("cpu"), backend("reference")

ALL_KERNELS = [fn for fns in kernels.KERNELS.values() for fn in fns]

#: kernel -> largest error allowed in float32 and in float64.
#: 6e-8 and 1.1e-16 are one rounding; a sum of n terms may collect about sqrt(n) of them.
TOLERANCES = {name: kernel.tolerance for name, kernel in spec.kernels().items()}
#: kernels that change the arrays they are given
IN_PLACE = tuple(name for name, kernel in spec.kernels().items() if kernel.written)


def relative_error(actual, expected, scale=0.0):
    """max |actual - expected| / max(|expected|, scale). NaN and infinity must stand where they are expected.

    scale: the size of what cancelled, for results that are exactly 0 on paper.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    assert np.isfinite(actual[finite]).all(), "NaN or infinity where a finite number was expected"
    largest = max(np.abs(expected[finite]).max(initial=0.0), scale)
    difference = np.abs(actual[finite] - expected[finite]).max(initial=0.0)
    return difference / largest if largest else difference


def widened(value):
    """The same value with every float array in float64."""
    if isinstance(value, list | tuple):
        return type(value)(widened(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.astype(np.float64 if value.dtype.kind == "f" else value.dtype)
    return value


def outputs(result):
    """A kernel's result as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def assert_same_bits(actual, expected):
    """Every array of one (nested) value equals its counterpart, bit for bit."""
    if isinstance(actual, list | tuple):
        for a, e in zip(actual, expected, strict=True):
            assert_same_bits(a, e)
    elif actual is not None:
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert actual.tobytes() == expected.tobytes(), "bits differ"


def check(name, *args, scale=0.0):
    """Run the fast kernel `name` and the float64 reference on `args`: values, shapes, dtypes, inputs untouched.

    scale: one number for all outputs or a tuple of one each; see `relative_error`. Returns the fast outputs.
    """
    first = args[0][0] if isinstance(args[0], list) else args[0]  # an array of the tested dtype
    before = copy.deepcopy(args)
    actual = outputs(getattr(cpu, name)(*args))
    assert_same_bits(args, before)
    expected = outputs(getattr(reference, name)(*widened(before)))
    dtype = np.dtype(args[1]) if name == "cast" else first.dtype
    scales = scale if isinstance(scale, tuple) else (scale,) * len(expected)
    for i, (a, e, s) in enumerate(zip(actual, expected, scales, strict=True)):
        assert_close(name, a, e, dtype, s, f"output {i}")
    return actual


def check_in_place(name, *args):
    """`check` for the kernels IN_PLACE: every array among the arguments is compared after the call too."""
    fast, plain = copy.deepcopy(args), widened(args)
    results = [(getattr(cpu, name)(*fast), getattr(reference, name)(*plain)), *zip(fast, plain, strict=True)]
    for i, (actual, expected) in enumerate(results):
        pairs = zip(actual, expected, strict=True) if isinstance(actual, list) else [(actual, expected)]
        for a, e in pairs:
            if isinstance(e, np.ndarray):
                assert_close(name, a, e, a.dtype, what="result" if i == 0 else f"argument {i - 1}")


def assert_close(name, actual, expected, dtype, scale=0.0, what="output"):
    """`actual` is of `dtype` (or an integer) and within the kernel's tolerance of `expected`."""
    if expected is None:
        assert actual is None
        return
    if isinstance(expected, np.ndarray):
        assert actual.dtype == (dtype if expected.dtype.kind == "f" else expected.dtype), f"{what} is {actual.dtype}"
    error, allowed = relative_error(actual, expected, scale), TOLERANCES[name][dtype.itemsize == 8]
    assert error <= allowed, f"{name}, {what} in {dtype}: error {error:.2g}, allowed {allowed:.2g}"


# --------------------------------------------------------------------------------------------- inputs


def strided(x, how):
    """The same numbers in another layout: "plain", "transposed" (last two axes swapped in memory) or "sliced"."""
    if how == "plain":
        return x
    if how == "transposed":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), np.nan, x.dtype)  # NaN: reading past the view shows
    wide[..., 1::2] = x
    return wide[..., 1::2]


def fused_heads(x):
    """x (B, H, T, D) -> the same numbers as a view into a wider (B, T, 2, H, D) array, as attention gets them."""
    B, H, T, D = x.shape
    wide = np.full((B, T, 2, H, D), np.nan, x.dtype)
    wide[:, :, 0] = x.transpose(0, 2, 1, 3)
    return wide[:, :, 0].transpose(0, 2, 1, 3)


def attention_inputs(rng, dtype, B, H, T, S, D):
    """dout, q, k, v in the layout of a training step."""
    shapes = (B, H, T, D), (B, H, T, D), (B, H, S, D), (B, H, S, D)
    return [fused_heads(normal(rng, dtype, *shape)) for shape in shapes]


def attention_saved(q, k, v, *setting):
    """`out` and `logsumexp` as a forward pass would have saved them: exact ones, rounded to q's dtype."""
    out, logsumexp = reference.attention_forward(*widened((q, k, v)), *setting)
    return fused_heads(out.astype(q.dtype)), logsumexp.astype(q.dtype)


def arguments(name, rng, dtype, **sizes):
    """One ordinary call of kernel `name`: its positional arguments, ragged ones. sizes: others of `spec.Sizes`."""
    return spec.kernels()[name].arguments(spec.RAGGED._replace(**sizes), rng, np.dtype(dtype))


def run_without_amx(code, cache):
    """Run code that leaves a kernel's function as `compiled`, in a process that knows AVX-512's instruction alone.

    Its kernels are compiled anew, into the directory `cache`.
    """
    here = Path(__file__).resolve().parent
    before = "from kernels.cpu import micro_kernel_bfloat16; micro_kernel_bfloat16.HAS_AMX = False\n"
    after = "asm = ''.join(compiled.inspect_asm().values())\nassert 'vdpbf16ps' in asm and 'tdpbf16ps' not in asm\n"
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": f"{here.parent.parent}{os.pathsep}{here}"}
    command = [sys.executable, "-c", before + code + after]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
