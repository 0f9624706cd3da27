"""A small reverse-mode autograd engine over plain NumPy arrays, made to be stepped through.

    import minigrad as mg
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad                      # array([2., 4., 6.], dtype=float32)

Start reading at graph.py, the whole engine, then at ops/, each operation with its backward function below it.
"""

from math import inf, nan, pi

from tiny_transformer_np_package_check import __version__  # isort: skip  first: refuses foreign packages
from minigrad._tensor import Tensor, record  # isort: skip  first: it finishes its class with `functional`
from kernels.system import renamed_commands
from minigrad import functional, nn, optim, random
from minigrad.debug import backward_steps, break_on
from minigrad.dtypes import (
    boolean,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from minigrad.factories import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    is_tensor,
    linspace,
    manual_seed,
    numel,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from minigrad.functional import *  # noqa: F403  its __all__ lists what this is
from minigrad.gradient_checking import GradcheckError, gradcheck
from minigrad.recording import no_grad
from minigrad.runtime import get_num_threads, set_num_threads

renamed_commands.answer({"minigrad.diff": "minigrad.compare_steps", "minigrad.gradcheck": "minigrad.gradient_checking"})
F = functional
# PyTorch's other names of dtypes; `from minigrad import *` leaves Python's own alone
half, double, short, long = float16, float64, int16, int64
float, int, bool = float32, int32, boolean

__all__ = [
    "F",
    "GradcheckError",
    "Tensor",
    "__version__",
    "arange",
    "as_tensor",
    "backward_steps",
    "break_on",
    "double",
    "empty",
    "empty_like",
    "eye",
    "float16",
    "float32",
    "float64",
    "from_numpy",
    "full",
    "full_like",
    "functional",
    "get_num_threads",
    "gradcheck",
    "half",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_tensor",
    "linspace",
    "long",
    "manual_seed",
    "nan",
    "nn",
    "no_grad",
    "numel",
    "ones",
    "ones_like",
    "optim",
    "pi",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "random",
    "randperm",
    "record",
    "set_num_threads",
    "short",
    "tensor",
    "uint8",
    "zeros",
    "zeros_like",
]  # fmt: skip
__all__ += functional.__all__  # `minigrad.exp` is `minigrad.functional.exp`
