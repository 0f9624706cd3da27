"""What is expected of each kernel's machine code: its instructions (specs of the ops), its resources (budgets.json).

A file that is not in TABLE is compiled for every storage type and architecture without further macros; a kernel that is
not there must meet MachineCode(): it loads and stores 128 bits at a time and never touches local memory.

There is a budget for each kernel, storage type, set of macros, architecture and major version of NVRTC:
[registers, bytes spilled, bytes of shared memory, warps on an SM]: at most as many of the first three, at least as many
warps.
"""

import json
from pathlib import Path

import numpy as np

from kernels.cuda.launch import SOURCES, signatures
from kernels.spec import MachineCode, Source, specs
from kernels.system.files import writing

BUDGETS = Path(__file__).with_name("budgets.json")
COLUMNS = ("registers", "bytes spilled", "bytes of shared memory", "warps on an SM")
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


def read_budgets(version, path=BUDGETS):
    """{key: {"sm_80": row}} for NVRTC `version`, (13, 5); None if the file has none for its major version."""
    return json.loads(path.read_text(encoding="utf-8"))["nvrtc"].get(str(version[0])) if path.exists() else None


def write_budgets(table, version, path=BUDGETS):
    """Replace the budgets of one major version of NVRTC, a line for each kernel: a diff shows which have changed."""
    old = json.loads(path.read_text(encoding="utf-8"))["nvrtc"] if path.exists() else {}
    sections = []
    for major, budgets in sorted({**old, str(version[0]): table}.items()):
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(rows)}" for name, rows in budgets.items())
        sections.append(f'  "{major}": {{\n{lines}\n  }}')
    text = ",\n".join(sections)
    with writing(path) as file:
        file.write(f'{{"columns": {json.dumps(COLUMNS)},\n "nvrtc": {{\n{text}\n}}}}\n'.encode())
