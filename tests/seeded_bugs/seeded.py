"""The class of seeded bugs, the context that plants one, and the checks that must catch it.

A bug replaces one backward function or one kernel for the length of a `with` block. Nothing else is changed.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))

import parity

import kernels
from minigrad import optim
from minigrad.gradient_checking import GradcheckError, table
from minigrad.opcases import CASES, OpCase


@dataclass(frozen=True)
class Bug:
    """One seeded bug.

    name    in words, as the table shows it
    where   module and function, "minigrad.ops.reduce.sum_backward"
    wrong   wrong(right) -> the function that takes its place
    op      the operation in minigrad.opcases whose check must fail; "" for optimizers and norms
    cause   the likely cause that the message should name; "" if no pattern can tell it
    case    a call that shows the bug, if those of opcases do not
    """

    name: str
    where: str
    wrong: Callable
    op: str
    cause: str = ""
    case: OpCase | None = None

    @property
    def kernel(self):
        """The kernel that has the bug, or None."""
        module, _, function = self.where.rpartition(".")
        function = {"_scores": "attention_forward"}.get(function, function)
        return function if module.startswith("kernels") else None

    @property
    def backend(self):
        return "fast" if ".cpu." in self.where else "reference"


def owner(bug):
    """The object whose attribute the function is: a module, a class, or all kernels of a backend."""
    path, _, name = bug.where.rpartition(".")
    if bug.kernel == name:
        return kernels.backend("cpu" if bug.backend == "fast" else "reference")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:  # a method
        module, _, cls = path.rpartition(".")
        return getattr(importlib.import_module(module), cls)


@contextmanager
def planted(bug):
    """A context in which the wrong function replaces the right one."""
    name = bug.where.rpartition(".")[2]
    right = getattr(owner(bug), name)
    wrong = bug.wrong(right)
    wrong.__name__ = name  # messages name a backward function by this
    setattr(owner(bug), name, wrong)
    try:
        yield
    finally:
        setattr(owner(bug), name, right)


# ---------------------------------------------------------------------------------------------- checks
# each returns None if it passes, else (message, likely cause)


def by_gradcheck(bug):
    """float64, against finite differences."""
    with kernels.use(bug.backend):
        for case in _cases(bug):
            try:
                table.float64_error(case)
            except GradcheckError as error:
                return str(error), error.cause
    return None


def by_float32(bug):
    """float32, against the same gradient in float64."""
    with kernels.use(bug.backend):
        for case in _cases(bug):
            try:
                error = table.float32_error(case)
            except RuntimeError as refused:  # the engine refuses a gradient of another dtype
                return str(refused), None
            if not error <= table.LIMITS["float32"]:
                return f"error {error:.2g}", None
    return None


def by_parity(bug):
    """The fast kernel against the reference kernel in float64, on shapes of several tiles."""
    if bug.kernel is None:
        return None
    for dtype in np.float32, np.float64:
        arguments = parity.arguments(bug.kernel, np.random.default_rng(0), np.dtype(dtype))
        try:
            if bug.kernel in parity.IN_PLACE:
                parity.check_in_place(bug.kernel, *arguments)
            else:
                parity.check(bug.kernel, *arguments)
        except AssertionError as error:
            return str(error), None
    return None


def by_optimizer_reference(bug):
    """Five steps of each optimizer against the update written out for one number at a time."""
    if bug.op:
        return None
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal(7), rng.standard_normal((5, 7)) * 10.0 ** rng.uniform(-5, 1, (5, 7))
    with kernels.use(bug.backend):
        for steps in (_adamw_steps, _amsgrad_steps, _sgd_steps, _nesterov_steps):
            ours, expected = steps(start.copy(), grads)
            if not np.allclose(ours, expected, rtol=1e-12, atol=1e-13):
                return f"{steps.__name__}: off by {np.abs(ours - expected).max():.2g}", None
    return None


CHECKS = {
    "gradcheck": by_gradcheck,
    "float32 against float64": by_float32,
    "parity with reference": by_parity,
    "optimizer reference": by_optimizer_reference,
}


def caught_by(bug):
    """{check: (message, likely cause)} of all checks that notice the bug."""
    with planted(bug):
        found = {name: check(bug) for name, check in CHECKS.items()}
    return {name: result for name, result in found.items() if result}


def _cases(bug):
    if bug.case is not None:
        return [bug.case]
    return [case for case in CASES if case.op == bug.op]


def _adamw_steps(param, grads, rate=0.1, beta1=0.8, beta2=0.95, eps=1e-3, decay=0.3, grad_scale=0.5):
    ours, m, v = param.copy(), np.zeros(7), np.zeros(7)
    step = kernels.for_array(ours).adamw_step
    for t, grad in enumerate(grads, start=1):
        step(ours, grad.copy(), m, v, t, rate, beta1, beta2, eps, decay, grad_scale)
    for i in range(len(param)):
        p, first, second = param[i], 0.0, 0.0
        for t, grad in enumerate(grads[:, i] * grad_scale, start=1):
            first = beta1 * first + (1 - beta1) * grad
            second = beta2 * second + (1 - beta2) * grad**2
            p -= rate * decay * p
            p -= rate * (first / (1 - beta1**t)) / ((second / (1 - beta2**t)) ** 0.5 + eps)
        param[i] = p
    return ours, param


def _amsgrad_steps(param, grads, rate=0.1, beta1=0.8, beta2=0.5, eps=1e-3, decay=0.3):
    """Adam in array code, for what the kernel does not have: AMSGrad, ascent, and a decay added to the gradient."""
    ours, m, v, max_v = param.copy(), np.zeros(7), np.zeros(7), np.zeros(7)
    for t, grad in enumerate(grads, start=1):
        optim.adam_step(ours, grad.copy(), m, v, t, rate, beta1, beta2, eps, decay, False, max_v, True)
    for i in range(len(param)):
        p, first, second, largest = param[i], 0.0, 0.0, 0.0
        for t, grad in enumerate(grads[:, i], start=1):
            gradient = decay * p - grad
            first = beta1 * first + (1 - beta1) * gradient
            second = beta2 * second + (1 - beta2) * gradient**2
            largest = max(largest, second)
            p -= rate * (first / (1 - beta1**t)) / ((largest / (1 - beta2**t)) ** 0.5 + eps)
        param[i] = p
    return ours, param


def _nesterov_steps(param, grads, rate=0.1, momentum=0.9, decay=0.2):
    return _sgd_steps(param, grads, rate, momentum, decay, nesterov=True)


def _sgd_steps(param, grads, rate=0.1, momentum=0.9, decay=0.2, nesterov=False):
    ours, buffer = param.copy(), np.zeros(7)
    for grad in grads:
        optim.sgd_step(ours, grad.copy(), buffer, rate, momentum, decay, 0.0, nesterov)
    for i in range(len(param)):
        velocity = 0.0
        for grad in grads[:, i]:
            gradient = grad + decay * param[i]
            velocity = momentum * velocity + gradient
            param[i] -= rate * (gradient + momentum * velocity if nesterov else velocity)
    return ours, param
