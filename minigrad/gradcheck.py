"""The old name of `python -m minigrad.gradient_checking`."""

from kernels.system import cli

cli.renamed("minigrad.gradcheck", "minigrad.gradient_checking")
