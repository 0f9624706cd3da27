"""Gradient checks: the gradient that backward gives, against the numerical gradient.

    minigrad.gradcheck(lambda x, w: my_op(x, w), {"x": x, "w": w})
    python -m minigrad.gradient_checking        # every operation on every backend, as a table

Both print which coordinates are wrong, both values, the noise and the likely cause.
"""

from minigrad.gradient_checking.check import gradcheck
from minigrad.gradient_checking.numerical_gradient import Kink
from minigrad.gradient_checking.results import GradcheckError, GradcheckReport

__all__ = ["GradcheckError", "GradcheckReport", "Kink", "gradcheck"]
