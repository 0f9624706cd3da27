"""Floating-point formats, and the numbers of a format at which a function is tried."""

import math
from typing import Any, NamedTuple

import numpy as np


class Format(NamedTuple):
    """A binary format of IEEE 754's kind."""

    name: str  # of its dtype
    bits: int  # of a fraction, the leading one counted
    largest_exponent: int

    @property
    def unit(self) -> float:
        """The unit of rounding: half the distance from 1 to the next number."""
        return 2.0**-self.bits

    @property
    def smallest(self) -> float:
        """The smallest subnormal number, which is the distance between neighbours there."""
        return 2.0 ** (2 - self.largest_exponent - self.bits)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.largest_exponent)

    @property
    def largest(self) -> float:
        return (2.0 - 2.0 * self.unit) * 2.0**self.largest_exponent

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.name == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.name)


FORMATS = {
    f.name: f
    for f in (Format("float32", 24, 127), Format("float64", 53, 1023), Format("float16", 11, 15),
              Format("bfloat16", 8, 127))
}  # fmt: skip


def points(
    form: Format, around: tuple[float, ...], domain: tuple[float, float], count: int, rng: np.random.Generator
) -> np.ndarray:
    """About `count` numbers of a format strictly within `domain`, sorted, none twice, as an array of its dtype.

    Some have magnitudes spread evenly over all exponents, some lie where most functions change, some are neighbours
    of `around` (roots, thresholds of the code) and of the limits beyond which exp, its square and its square root
    overflow or vanish; and there are the extreme numbers themselves.
    """
    low, high = math.log(form.smallest), math.log(form.largest)
    edges = [limit * factor for limit in (low, math.log(form.smallest_normal), high) for factor in (0.5, 1.0, 2.0)]
    edges += [math.copysign(math.sqrt(2.0 * abs(edge)), edge) for edge in edges]
    extremes = [0.0, form.smallest, 3 * form.smallest, form.smallest_normal, form.largest, 1.0, 2.0, math.pi]
    n = count // 8
    near = rng.choice([*around, *edges], n) * (1.0 + rng.choice([-1, 1], n) * 2.0 ** rng.uniform(-form.bits, -2, n))
    magnitudes = [np.exp(rng.uniform(low, high, 2 * n)), np.exp(rng.uniform(math.log(1e-3), math.log(-low), 2 * n))]
    everywhere = np.concatenate([*magnitudes, extremes, rng.uniform(0, -1.1 * low, 2 * n), 10 * rng.random(n)])
    signed = np.concatenate([everywhere, -everywhere, near, list(around), edges])
    with np.errstate(over="ignore"):
        x = np.unique(signed.astype(form.dtype).astype(np.float64))
    x = x[np.isfinite(x) & (x > domain[0]) & (x < domain[1])]
    chosen = rng.permutation(len(x))[: max(count - 32, 0)]
    always = np.flatnonzero(np.isin(x, np.array([*extremes, *np.negative(extremes)]).astype(form.dtype)))
    return x[np.unique(np.concatenate([chosen, always]))].astype(form.dtype)
