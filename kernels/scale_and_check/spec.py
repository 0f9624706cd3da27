"""What tests, gates and benchmarks need to know of scale_and_check: see `kernels.spec`."""

from kernels.spec import FEW, Bug, Kernel, Source, normal


def _arguments(s, rng, dtype):
    """Two arrays, of P elements together, and the scale."""
    return [normal(rng, dtype, s.P - s.P // 3), normal(rng, dtype, s.P // 3)], 0.3


def _without_last(right, arrays, scale):
    return right([*arrays[:-1], arrays[-1].copy()], scale)


KERNELS = (Kernel("scale_and_check", _arguments, (1.5e-7, 3e-16), written=(0,)),)
GRADIENTS = ()
SOURCES = {"scale_and_check.cu": Source(kernels={"all_finite": FEW})}
BUGS = (Bug("last array left as it was", "cpu", "scale_and_check", _without_last),)
