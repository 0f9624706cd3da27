"""Gradient checks: the gradient that backward gives, against the numerical gradient.

    minigrad.gradcheck(lambda x, w: my_op(x, w), {"x": x, "w": w})      # arrays: a function of minigrad Tensors
    minigrad.gradcheck(MyFunction.apply, {"x": x})                      # PyTorch's tensors, or JAX's arrays
    minigrad.gradcheck((forward, vjp), {"x": x})                        # functions of plain arrays
    python -m minigrad.gradient_checking        # every operation on every backend, as a table

They print which coordinates are wrong, both values, the noise and the likely cause.

    check.py                what is wrong; failure_message.py and likely_causes.py: how it is said, and why it may be
    numerical_gradient.py   what is measured; precision.py: how well that can be in each dtype
    probe.py                a function and its inputs; libraries/ and arrays.py: what each library has for that
    table.py                the table of the command
"""

from minigrad.gradient_checking.check import gradcheck
from minigrad.gradient_checking.results import GradcheckError, GradcheckReport, Kink

__all__ = ["GradcheckError", "GradcheckReport", "Kink", "gradcheck"]
