"""Every operation on every backend in both precisions: the largest error of its gradient, as a table or a picture.

float64 is compared with finite differences; float32, too coarse for those, with the gradient in float64. On a device
inputs are moved there and outputs back, and the gradients of both moves are checked too.
"""

from typing import BinaryIO, NamedTuple

import numpy as np

import kernels
from minigrad._tensor import Tensor
from minigrad.gradient_checking import GradcheckError, gradcheck
from minigrad.gradient_checking.on_device import on_device
from minigrad.opcases import CASES, OpCase

LIMITS = {"float64": 1e-8, "float32": 1e-5}


class Row(NamedTuple):
    """One cell of the table; `problem` says what is wrong, or is empty."""

    op: str
    backend: str
    dtype: str
    error: float
    problem: str


def rows(only: str | None = None, device: str = "cpu") -> list[Row]:
    """A Row for each op (or the one named), backend and dtype: the largest error of the op's cases, on a device."""
    names = list(dict.fromkeys(case.op for case in CASES))
    if only is not None and only not in names:
        raise ValueError(f"no operation named {only!r}; there are {', '.join(names)}")
    table: list[Row] = []
    for op in names if only is None else [only]:
        for backend in ("reference", "fast"):
            with kernels.use(backend):
                table += [_row(op, backend, dtype, device) for dtype in LIMITS]
    return table


def _row(op: str, backend: str, dtype: str, device: str) -> Row:
    cases, worst = [case for case in CASES if case.op == op], 0.0
    if device != "cpu":
        cases = [case._replace(fn=on_device(case.fn, device)) for case in cases if not case.host_only]
    try:
        for case in cases:
            error = float64_error(case) if dtype == "float64" else float32_error(case)
            worst = max(worst, error) if error == error else error
    except GradcheckError as failure:
        analytic, numeric, error = failure.analytic, failure.numeric, np.nan
        if analytic is not None and numeric is not None:
            error = abs(analytic - numeric) / (max(abs(analytic), abs(numeric)) or np.nan)
        return Row(op, backend, dtype, error, str(failure))
    over = "" if worst <= LIMITS[dtype] else f"{op}, {backend}, {dtype}: error {worst:.2g}, allowed {LIMITS[dtype]:.0e}"
    return Row(op, backend, dtype, worst, over)


def float64_error(case: OpCase, seed: int = 0) -> float:
    """The case's largest error against finite differences. Raises GradcheckError."""
    # a large input along few directions: a fast kernel wakes threads at each call
    return gradcheck(case.fn, case.arrays(seed), rtol=LIMITS["float64"], step=3e-4, max_coordinates=40).largest


def float32_error(case: OpCase, seed: int = 0) -> float:
    """The largest difference between the gradients in float32 and in float64, relative to the largest gradient."""
    narrow = case.arrays(seed, np.float32)
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in narrow]  # the same numbers
    worst = 0.0
    for a, b in zip(_gradients(case, narrow, seed), _gradients(case, wide, seed), strict=True):
        size = max(np.abs(b).max(initial=0.0), 1e-3)  # where everything cancels there is nothing to be relative to
        worst = max(worst, float(np.abs(a - b).max(initial=0.0) / size), key=lambda e: e if e == e else np.inf)
    return worst


def _gradients(case: OpCase, arrays: list[np.ndarray], seed: int) -> list[np.ndarray]:
    inputs = [Tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in arrays]
    outs = case.fn(*inputs)
    rng = np.random.default_rng([seed, 1])
    for out in outs if isinstance(outs, list) else [outs]:
        out.backward(rng.standard_normal(out.shape).astype(np.float32), retain_graph=True)
    return [np.zeros_like(t.data) if t.grad is None else t.grad for t in inputs if isinstance(t, Tensor)]


def text(table: list[Row]) -> str:
    """The table as aligned text, one op a line."""
    columns = list(dict.fromkeys((row.backend, row.dtype) for row in table))
    cells = {(row.op, row.backend, row.dtype): row for row in table}
    width = max(len(row.op) for row in table)
    lines = [" " * width + "".join(f"{f'{b} {d}':>19}" for b, d in columns)]
    for op in dict.fromkeys(row.op for row in table):
        found = [cells[op, *column] for column in columns]
        lines.append(f"{op:<{width}}" + "".join(f"{r.error:>17.1e}{' !' if r.problem else '  '}" for r in found))
    return "\n".join(lines)


def plot(table: list[Row], file: BinaryIO, format: str = "png") -> None:
    """The table as a heat map of the errors' powers of ten, into an open binary file.

    format: one that matplotlib knows; "png" for all others.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ops = list(dict.fromkeys(row.op for row in table))
    columns = list(dict.fromkeys((row.backend, row.dtype) for row in table))
    powers = np.full((len(ops), len(columns)), np.nan)
    for row in table:
        powers[ops.index(row.op), columns.index((row.backend, row.dtype))] = np.log10(max(row.error, 1e-17))
    figure = Figure(figsize=(6.5, 1.5 + 0.2 * len(ops)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(powers, aspect="auto", cmap="RdYlGn_r", vmin=-17, vmax=0)
    axes.set_xticks(range(len(columns)), [f"{backend}\n{dtype}" for backend, dtype in columns])
    axes.set_yticks(range(len(ops)), ops, fontsize=8)
    for i, j in np.ndindex(powers.shape):
        axes.text(j, i, "0" if powers[i, j] == -17 else f"{powers[i, j]:.0f}", ha="center", va="center", fontsize=7)
    axes.set_title("largest error of the gradient, as a power of ten")
    figure.colorbar(image, label="log10 of the relative error")
    known = figure.canvas.get_supported_filetypes()
    figure.savefig(file, format=format if format in known else "png", dpi=120)
