"""What is expected of each kernel's machine code: the one table to edit when a .cu is added.

A file that is not listed is compiled for every storage type and architecture without further macros; a kernel that is
not listed must meet Kernel(): it loads and stores 128 bits at a time and never touches local memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kernels.attention.cuda import MMA_HEADS, choose
from kernels.cuda.launch import SOURCES, STORAGE, signatures
from kernels.cuda.rows import row_kernel, vec

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
EVERY_TYPE = tuple(STORAGE)
HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Kernel:
    """What must be found in the code of one kernel."""

    wide: str = (
        "both"  # moves 128 bits at a time in "loads" (LDG.E.128), "stores" (STG.E.128), "both", "either", "none"
    )
    threads: int = 256  # of the largest block it is launched with, if the source has no __launch_bounds__
    opcodes: tuple[str, ...] = ()  # that must occur, by the beginning of their names
    local_outside_loops: bool = False  # local memory may be touched before and after the loops, never in one
    why: str = ""  # a reason for each demand that is dropped


@dataclass(frozen=True)
class Source:
    """How one .cu file is compiled, and its kernels where they differ from Kernel()."""

    types: tuple[str, ...] = EVERY_TYPE
    oldest: int = ARCHITECTURES[0]
    variants: Callable[[str], list[dict[str, int]]] = lambda type_name: [{}]  # further macros for a storage type
    kernels: dict[str, Kernel] = field(default_factory=dict)

    def of(self, kernel):
        """What is expected of a kernel, by its name."""
        return self.kernels.get(kernel, Kernel())


def _attention(arch, heads):
    """What attention's launcher compiles for these head sizes."""

    def variants(type_name):
        found = (choose(_dtype(type_name), D, 1.0, arch, []).defines for D in heads)
        return [dict(defines) for defines in dict.fromkeys(found)]

    return variants


def _rows(source, kernel, *groups):
    """What the launcher of a source that includes rows.cuh compiles for rows of that many times 128 bits."""

    def variants(type_name):
        n = vec(_dtype(type_name))
        found = (row_kernel(source, kernel, count * n, n)[0].defines for count in groups)
        return [dict(items) for items in dict.fromkeys(tuple(defines.items()) for defines in found)]

    return variants


def _dtype(type_name):
    """bfloat16 is no dtype of NumPy's own; what launchers decide by is its size, which is float16's."""
    return np.dtype("float16" if type_name == "bfloat16" else type_name)


_SUMS = Kernel(wide="loads", why="writes a number a row or a block")
_FEW = Kernel(wide="none", why="a few numbers beside the arrays")
_CAST = Kernel(wide="either", why="a cast moves 128 bits of the wider type, or of both if they are one")
_TENSOR_CORES = Kernel(
    opcodes=("HMMA", "LDSM", "LDGSTS"), local_outside_loops=True, why="accumulators fill the registers"
)

TABLE = {
    "attention.cu": Source(variants=_attention(75, (32, 64, 96, 128)), kernels={
        "attention_forward": Kernel(local_outside_loops=True, why="accumulators fill the registers"),
        "attention_backward_dq": Kernel(local_outside_loops=True, why="accumulators fill the registers"),
        "attention_backward_dkv": Kernel(local_outside_loops=True, why="accumulators fill the registers"),
    }),
    "attention_delta.cu": Source(kernels={"attention_delta": Kernel("loads", threads=128, why=_SUMS.why)}),
    "attention_mma.cu": Source(HALF, oldest=80, variants=_attention(80, MMA_HEADS), kernels={
        "attention_forward_mma": _TENSOR_CORES,
        "attention_backward_dq_mma": _TENSOR_CORES,
        "attention_backward_dkv_mma": _TENSOR_CORES,
    }),
    "cast.cu": Source(kernels=dict.fromkeys(("from_float", "from_double", "to_float", "to_double"), _CAST)),
    "column_sums.cu": Source(kernels={
        "column_sums": Kernel("none", why="a warp reads neighbouring columns of any number, 128 bytes at a time"),
    }),
    "embedding.cu": Source(kernels=dict.fromkeys(("embedding_count", "embedding_lists", "embedding_order"),
                                                 Kernel("none", why="sorts token ids, which stand anywhere"))),
    "fused_adamw.cu": Source(kernels={"fused_adamw_begin": Kernel("none", threads=1, why="one thread, eight numbers")}),
    "global_norm.cu": Source(kernels={"sum_of_squares": _SUMS, "root_of_sum": _FEW}),
    "layernorm.cu": Source(variants=_rows("layernorm/layernorm.cu", "layernorm_forward", 512, 1024)),
    "linear.cu": Source(kernels={"sum_columns_of_chunks": _SUMS}),
    "scale_and_check.cu": Source(kernels={"all_finite": _FEW}),
    "softmax_cross_entropy.cu": Source(kernels={
        "softmax_cross_entropy_forward": _SUMS, "count_targets": _FEW, "sum_losses": _FEW,
    }),
}  # fmt: skip


def sources(folder=SOURCES):
    """The .cu files of the folders there, sorted by name."""
    return sorted(Path(folder).glob("*/*.cu"), key=lambda path: path.name)


def source(path):
    """How a file is compiled, and what is expected of its kernels."""
    return TABLE.get(Path(path).name, Source())


def kernels(path):
    """The names of the kernels in a file."""
    return tuple(signatures(Path(path)))
