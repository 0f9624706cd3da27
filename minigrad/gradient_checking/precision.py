"""What can be measured in a dtype: steps, tolerances and the size of rounding, for float64 and for float32."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Precision:
    """Settings that depend on how exactly a function computes.

    eps           the distance from 1 to the next number
    rtol, step    defaults of `gradcheck`
    steady        a measurement whose error is above this, relative to the gradient, excuses nothing
    close         the relative difference below which two gradients count as equal, when a cause is looked for
    kink_steps    two steps, of which the one-sided derivatives are compared
    column_steps  steps for a column of the Jacobian; the second near a kink
    sweep         steps among which the best is looked for
    same_bits     the tolerance on gradients of two backward passes that should be equal
    narrower      the next dtype: a gradient whose numbers all fit into it has lost digits
    """

    eps: float
    rtol: float
    step: float
    steady: float
    close: float
    kink_steps: tuple[float, float]
    column_steps: tuple[float, float]
    sweep: np.ndarray
    same_bits: float
    narrower: type[np.floating]


DOUBLE = Precision(
    float(np.finfo(np.float64).eps), rtol=1e-6, step=1e-3, steady=1e-4, close=1e-5, kink_steps=(1e-5, 1e-6),
    column_steps=(1e-4, 1e-6), sweep=10.0 ** -np.arange(2.0, 9.0), same_bits=1e-9, narrower=np.float32,
)  # fmt: skip
SINGLE = Precision(
    float(np.finfo(np.float32).eps), rtol=1e-3, step=1e-2, steady=3e-2, close=3e-3, kink_steps=(1e-2, 1e-3),
    column_steps=(2e-2, 2e-3), sweep=10.0 ** -np.arange(0.5, 4.5, 0.5), same_bits=1e-4, narrower=np.float16,
)  # fmt: skip
BY_DTYPE = {"float64": DOUBLE, "float32": SINGLE}
