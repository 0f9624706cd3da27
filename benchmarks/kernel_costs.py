"""What each kernel must cost at least: bytes that have to move and operations to be done; and calls to measure.

The least is what the mathematics asks for, whoever computes it: every array read once, every result written once. A
kernel's floor on a card is the longer of bytes over bandwidth and operations over peak (the roofline model; Williams,
Waterman and Patterson 2009).
"""

from kernels.spec import Sizes, kernels

#: GPT-2, 124 million parameters, 8 texts of 1024 tokens
GPT2 = Sizes(B=8, T=1024, C=768, H=12, V=50304, P=124 * 1024 * 1024)
#: enough rows for the edges of tiles and chunks not to count, few enough for the simulated device
SMALL = Sizes(B=1, T=256, C=768, H=12, V=8192, P=1 << 18)
CASES = tuple(kernels().values())


def least_bytes(kernel, args, results):
    """Every array read once, every result written once. results: what the kernel returned."""
    results = results if isinstance(results, tuple) else (results,)
    read = sum(_nbytes(a) for i, a in enumerate(args) if i not in kernel.unread)
    if kernel.written:  # in place: what is returned is one of these, or a single number
        return read + sum(_nbytes(args[i]) for i in kernel.written)
    made = sum(map(_nbytes, results))
    return read + made * (2 if kernel.unread else 1)  # what comes out of an array that is not read whole


def _nbytes(value):
    if isinstance(value, list):
        return sum(map(_nbytes, value))
    is_array = hasattr(value, "nbytes") and not isinstance(value, type)  # a dtype's class is none
    return value.nbytes if is_array and value.ndim else 0
