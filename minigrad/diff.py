"""The old name of `python -m minigrad.compare_steps`."""

from kernels.system import cli

cli.renamed("minigrad.diff", "minigrad.compare_steps")
