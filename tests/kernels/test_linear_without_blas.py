"""Where NumPy carries another BLAS library than the one we can call, linear's kernels use NumPy's own products."""

import numpy as np
import pytest

from kernels import reference
from kernels.cpu import blas, linear


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_fallback_gives_the_same_products(monkeypatch, dtype, with_bias):
    monkeypatch.setattr(blas, "available", False)
    rng = np.random.default_rng(0)
    x, weight, bias, dout = (rng.standard_normal(shape) for shape in ((3, 31, 17), (5, 17), (5,), (3, 31, 5)))
    bias = bias if with_bias else None
    arguments = [None if a is None else a.astype(dtype) for a in (x, weight, bias, dout)]
    expected = reference.linear_forward(x, weight, bias), *reference.linear_backward(dout, x, weight, bias)
    x, weight, bias, dout = arguments
    results = linear.linear_forward(x, weight, bias), *linear.linear_backward(dout, x, weight, bias)
    for result, right in zip(results, expected, strict=True):
        if right is None:
            assert result is None
        else:
            assert result.dtype == dtype and result.shape == right.shape
            assert np.abs(result - right).max() <= (3e-6 if dtype == "float32" else 1e-14) * np.abs(right).max()
