"""Seeded bugs in kernels, out of their specs, at least one for each in the reference or the fast set; and in SGD."""

from seeded import Bug

from kernels.spec import specs


def kernel(op, bug):
    """A bug of kernels/OP/spec.py as it is put in place."""
    where = f"kernels.{op}.{bug.backend}.{bug.kernel}"
    return Bug(bug.name, where, lambda right: lambda *a, **k: bug.change(right, *a, **k), bug.gradient, bug.cause)


def sgd_forgets(right, param, grad, momentum_buffer, *setting):
    right(param, grad, None, *setting)


def sgd_decay_times_rate(right, param, grad, momentum_buffer, rate, momentum, weight_decay, *more):
    right(param, grad, momentum_buffer, rate, momentum, rate * weight_decay, *more)


def sgd_does_not_look_ahead(right, *setting):
    right(*setting[:7], False)


def adam_forgets_the_largest(right, param, grad, m, v, *setting):
    right(param, grad, m, v, *setting[:-2], None, setting[-1])


KERNELS = [
    *[kernel(op, bug) for op, spec in specs().items() for bug in spec.BUGS],
    Bug("momentum forgotten", "minigrad.optim.sgd_step",
        lambda right: lambda *a: sgd_forgets(right, *a), ""),
    Bug("weight decay scaled by the learning rate twice", "minigrad.optim.sgd_step",
        lambda right: lambda *a: sgd_decay_times_rate(right, *a), ""),
    Bug("no look ahead in Nesterov's momentum", "minigrad.optim.sgd_step",
        lambda right: lambda *a: sgd_does_not_look_ahead(right, *a), ""),
    Bug("AMSGrad's maximum forgotten", "minigrad.optim.adam_step",
        lambda right: lambda *a: adam_forgets_the_largest(right, *a), ""),
]  # fmt: skip
