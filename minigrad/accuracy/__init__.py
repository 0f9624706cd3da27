"""Every elementwise function against mpmath over the whole range of its dtype; `python -m minigrad.accuracy`.

functions.py    the table: an operation, what mpmath computes for it and for its derivative
kernel_functions.py    kernels as functions of one number
formats.py      the floating-point formats; the numbers at which a function is tried
measure.py      errors, in units of rounding
"""
