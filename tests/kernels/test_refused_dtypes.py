"""A kernel that has no compiled version for the arrays it is given says so in one line.

Numba's own message has up to 300 lines. The reference kernels compute whatever NumPy can.
"""

import numpy as np
import pytest

import kernels
from kernels.spec import RAGGED
from kernels.spec import kernels as all_kernels

SMALL = RAGGED._replace(B=2, T=3, C=8, V=11, P=20)
PLAIN = {"embedding_forward", "linear_cross_entropy_backward"}  # array code, for any numbers
TAKE = {
    # the storage type of the first three; GELU computes it in float32
    "float16": PLAIN | {"fused_adamw_step", "scale_and_check", "cast", "gelu_forward", "gelu_backward"},
    "int64": PLAIN | {"fused_adamw_step"},  # no parameter holds integers: a Tensor refuses to learn them
    "int32": PLAIN | {"fused_adamw_step"},
    "complex64": PLAIN,
    "bool": PLAIN,
}


def converted(value, dtype):
    """A kernel's sample arguments with all floats as another dtype."""
    if isinstance(value, (list, tuple)):
        return type(value)(converted(each, dtype) for each in value)
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


@pytest.mark.parametrize("dtype", TAKE)
@pytest.mark.parametrize("name", all_kernels())
def test_a_kernel_takes_the_arrays_or_says_in_one_line_that_it_does_not(name, dtype):
    arguments = all_kernels()[name].arguments(SMALL, np.random.default_rng(0), np.dtype("float32"))
    try:
        getattr(kernels.backend("cpu"), name)(*(converted(each, dtype) for each in arguments))
    except (TypeError, ValueError) as error:
        said = str(error)
        assert "\n" not in said and len(said) < 300 and "numba" not in said.lower() and dtype.strip("64") in said, said
        assert error.__suppress_context__ or error.__context__ is None
    else:
        assert name in TAKE[dtype]


def test_arrays_of_two_dtypes_are_refused_in_one_line():
    x, weight = np.ones((2, 3), np.float32), np.ones((4, 3))
    with pytest.raises(
        TypeError, match=r"the compiled kernel cpu\.matmul\.multiply_operands is .*given float32, float64"
    ):
        kernels.backend("cpu").linear_forward(x, weight, None)
