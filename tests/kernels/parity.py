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
from kernels import backend

cpu, reference = backend("cpu"), backend("reference")

ALL_KERNELS = [fn for fns in kernels.KERNELS.values() for fn in fns]

#: kernel -> largest error allowed in float32 and in float64: about three times the largest one measured.
#: 6e-8 and 1.1e-16 are one rounding; a sum of n terms may collect about sqrt(n) of them.
TOLERANCES = {
    "linear_forward": (1.5e-6, 5e-15),
    "linear_backward": (1.5e-6, 5e-15),
    "layernorm_forward": (5e-7, 2e-15),
    "layernorm_backward": (6e-7, 6e-15),
    "gelu_forward": (3e-7, 5e-16),
    "gelu_backward": (4e-6, 3e-14),  # loose: tanh form, 1 - sigmoid cancels and meets x * (1 + 3 * 0.0447 * x^2)
    "embedding_forward": (0.0, 0.0),  # a copy
    "embedding_backward": (4e-7, 4e-16),
    "dropout_forward": (2e-7, 4e-16),
    "dropout_backward": (2e-7, 4e-16),
    "attention_forward": (2.6e-6, 4.5e-15),
    "attention_backward": (4.2e-6, 4e-15),
    "softmax_cross_entropy_forward": (2.5e-7, 1.2e-15),
    "softmax_cross_entropy_backward": (2.5e-7, 6e-16),
    "adamw_step": (3.5e-7, 1.2e-15),
    "global_norm": (2e-15, 2e-15),  # float64 whatever the input
    "linear_cross_entropy_forward": (1.5e-6, 5e-15),  # as of its products
    "linear_cross_entropy_backward": (2e-7, 4e-16),
    "fused_adamw_step": (3.5e-7, 1.2e-15),
    "scale_and_check": (1.5e-7, 3e-16),
    "cast": (0.0, 0.0),  # to float16: one rounding, and that the same
}
#: kernels that change the arrays they are given
IN_PLACE = ("adamw_step", "fused_adamw_step", "scale_and_check")


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


def normal(rng, dtype, *shape):
    """Standard normal numbers of this dtype and shape."""
    return rng.standard_normal(shape).astype(dtype)


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


def arguments(name, rng, dtype, rows=150, C=70):
    """One ordinary call of kernel `name`: its positional arguments. Several chunks or tiles in every kernel."""
    x, dout, weight, bias = (normal(rng, dtype, *s) for s in ((rows, C), (rows, C), (C,), (C,)))
    ids = rng.integers(0, C, rows)
    if name.startswith("attention"):
        setting = (0.25, True, 0.3, 1, 2, 3)  # scale, causal, p, seed, step, stream
        dout, q, k, v = attention_inputs(rng, dtype, 2, 2, 130, 130, 16)
        if name == "attention_forward":
            return q, k, v, *setting
        into = [fused_heads(np.zeros_like(a)) for a in (q, k, v)]
        return dout, q, k, v, *attention_saved(q, k, v, *setting), *setting, into
    _, mean, rstd = reference.layernorm_forward(x, weight, bias, 1e-5)
    _, logsumexp, divisor = reference.softmax_cross_entropy_forward(x, ids, 3, "mean")
    return {
        "linear_forward": (x, normal(rng, dtype, 33, C), normal(rng, dtype, 33)),
        "linear_backward": (normal(rng, dtype, rows, 33), x, normal(rng, dtype, 33, C), normal(rng, dtype, 33)),
        "layernorm_forward": (x, weight, bias, 1e-5),
        "layernorm_backward": (dout, x, weight, mean, rstd, normal(rng, dtype, rows, C)),
        "gelu_forward": (x, "tanh"),
        "gelu_backward": (dout, x, "tanh"),
        "embedding_forward": (x, ids),
        "embedding_backward": (dout, ids, C),
        "dropout_forward": (x, 0.3, 1, 2, 3),
        "dropout_backward": (dout, 0.3, 1, 2, 3),
        "softmax_cross_entropy_forward": (x, ids, 3, "mean"),
        "softmax_cross_entropy_backward": (np.asarray(0.7, dtype), x, ids, logsumexp, divisor, 3, False),
        "adamw_step": (*(normal(rng, dtype, 40000) for _ in range(3)), np.abs(normal(rng, dtype, 40000)),
                       3, 0.1, 0.9, 0.99, 1e-3, 0.1, 0.5),
        "global_norm": ([normal(rng, dtype, 40000), x],),
        "linear_cross_entropy_forward": (x, normal(rng, dtype, 33, C), rng.integers(0, 33, rows), 3, "mean", 0.7, True),
        "linear_cross_entropy_backward": (np.asarray(0.7, dtype), x, normal(rng, dtype, 33, C), 2.0),
        "fused_adamw_step": (*(normal(rng, dtype, 40000) for _ in range(3)), np.abs(normal(rng, dtype, 40000)), None,
                             np.asarray(2), np.array([7, 7, 20001, 40000]), np.array([0.1, 0.3, 0.0, 0.2], dtype),
                             0.1, 0.9, 0.99, 1e-3, np.asarray(3.0), 2.0),
        "scale_and_check": ([normal(rng, dtype, 40000), dout], 0.3),
        "cast": (x, np.float16),
    }[name]  # fmt: skip


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
