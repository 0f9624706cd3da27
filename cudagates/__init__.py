"""Checks every CUDA kernel without a GPU: it compiles, it stays within its budgets, its machine code is as expected.

    python -m cudagates            # measure, print the table, check; exit status 1 if a gate is broken
    python -m cudagates --write    # measure and replace the budgets, after an intended change

Every .cu of our kernels is compiled for every storage type and architecture.
    expectations.py   what is expected of the machine code: by the specs in kernels/OP/spec.py, and by budgets.json
    measure.py        compile, disassemble, count
    architectures.py  the limits of each architecture, and how many warps of a kernel fit
    loops.py          which instructions stand inside a loop
    check.py          compares measurements with expectations
Needs NVIDIA's compiler and disassembler: pip install -e '.[gpu-check]'.
"""

from tiny_transformer_np_package_check import __version__ as __version__  # refuses foreign packages
