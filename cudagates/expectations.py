"""What is expected of each kernel's machine code, out of the specs of the ops.

A file that is not listed is compiled for every storage type and architecture without further macros; a kernel that is
not listed must meet MachineCode(): it loads and stores 128 bits at a time and never touches local memory.
"""

from pathlib import Path

import numpy as np

from kernels.cuda.launch import SOURCES, signatures
from kernels.spec import MachineCode, Source, specs

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

_COLUMN_SUMS = MachineCode("none", why="a warp reads neighbouring columns of any number, 128 bytes at a time")
TABLE = {
    "column_sums.cu": Source(kernels={"column_sums": _COLUMN_SUMS}),  # of several ops
    **{file: source for spec in specs().values() for file, source in spec.SOURCES.items()},
}


def sources(folder=SOURCES):
    """The .cu files of the folders there, sorted by name."""
    return sorted(Path(folder).glob("*/*.cu"), key=lambda path: path.name)


def source(path):
    """How a file is compiled, and what is expected of its kernels."""
    return TABLE.get(Path(path).name, Source())


def variants(source, type_name):
    """The further macros with which a source is compiled for a storage type: [{"HEAD": 64}, ...]."""
    # bfloat16 is no dtype of NumPy's own; launchers decide by the size, which is that of float16
    return source.variants(np.dtype("float16" if type_name == "bfloat16" else type_name))


def kernels(path):
    """The names of the kernels in a file."""
    return tuple(signatures(Path(path)))
