"""What tests, gates and benchmarks need to know of embedding: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import Bug, Gradient, Kernel, MachineCode, Sizes, Source, normal, normals


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """weight (V, C), ids (N,)."""
    return normal(rng, dtype, s.V, s.C), rng.integers(0, s.V, s.N)


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout (N, C), ids (N,), V."""
    return normal(rng, dtype, s.N, s.C), rng.integers(0, s.V, s.N), s.V


KERNELS = (
    Kernel("embedding_forward", _forward, (0.0, 0.0), unread=(0,)),  # a copy
    Kernel("embedding_backward", _backward, (4e-7, 4e-16)),
)
GRADIENTS = (Gradient("embedding", "repeated", lambda rng: [np.array([[1, 4, 1], [0, 1, 1]]), *normals((5, 3))(rng)]),)

_SORTS = MachineCode("none", why="sorts token ids, which stand anywhere")
SOURCES = {
    "embedding.cu": Source(
        kernels={
            **dict.fromkeys(("embedding_count", "embedding_lists", "embedding_order"), _SORTS),
            "embedding_sum_long": MachineCode(
                local_outside_loops=True, why="two sums of VEC columns leave too few registers for the list's length"
            ),
        }
    ),
}


def _last_id_wins(right: Callable, dout: Array, ids: Array, num_embeddings: int, into: Array | None = None) -> Array:
    dweight = np.zeros((num_embeddings, dout.shape[-1]), dout.dtype)
    dweight[ids.reshape(-1)] = dout.reshape(-1, dout.shape[-1])
    return dweight


def _one_id_twice(right: Callable, dout: Array, ids: Array, num_embeddings: int, into: Array | None = None) -> Array:
    dweight = right(dout, ids, num_embeddings, into).copy()
    dweight[ids.flat[0]] += dout.reshape(-1, dout.shape[-1])[0]  # as at the seam of two chunks
    return dweight


BUGS = (
    Bug("next row of the table", "cpu", "embedding_forward",
        lambda right, weight, ids: right(weight, np.minimum(ids + 1, len(weight) - 1)), "embedding", "shifted"),
    Bug("`=` for `+=` at repeated ids", "reference", "embedding_backward", _last_id_wins, "embedding", "overwritten"),
    Bug("an id at the seam added twice", "cpu", "embedding_backward", _one_id_twice, "embedding", "accumulated twice"),
)  # fmt: skip
