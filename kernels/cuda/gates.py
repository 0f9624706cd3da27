"""The old name of `python -m cudagates`."""

from kernels.system import cli

cli.renamed("kernels.cuda.gates", "cudagates")
