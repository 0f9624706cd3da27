"""The old name of `python -m cudasim`."""

from kernels.system import cli

cli.renamed("kernels.cuda.sim", "cudasim")
