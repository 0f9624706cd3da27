"""loss.png: the curves of a run, drawn again at each evaluation."""

import gc
import importlib.util
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kernels.arrays import Array
from kernels.system.files import StrPath, replacing
from tiny_transformer_np.training.metrics import MetricsLog

_INTERVALS = 2000  # that a long curve is divided into: twice the picture's width in pixels


def draw_metrics(log: MetricsLog, path: StrPath) -> None:
    """Training and validation loss, learning rate and gradient norm over the steps of a MetricsLog.

    The picture does not depend on the user's Matplotlib settings, even if these make its import fail.
    """
    matplotlib = _matplotlib()  # not needed before the first evaluation, and slow to import
    defaults = {key: value for key, value in dict.items(matplotlib.rcParamsDefault) if key != "backend"}
    with matplotlib.rc_context(defaults):
        figure = _figure(log)
        with replacing(path) as partial:
            figure.canvas.print_figure(partial, format="png", dpi=110)
    # A figure is 7 MB of objects in reference cycles. `gc.collect` frees them now: it takes 50 ms, a tenth of the time
    # of drawing.
    del figure
    gc.collect()


def _matplotlib() -> ModuleType:
    """Import Matplotlib; if the user's settings make that fail (a backend of Jupyter, for instance), without them."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)  # its warnings are about settings, which are not used
    try:
        try:
            import matplotlib.figure
        except Exception:
            with _no_settings():
                import matplotlib.figure
    finally:
        log.setLevel(level)
    return matplotlib


@contextmanager
def _no_settings() -> Iterator[None]:
    """Import Matplotlib again with its own settings file and without MPLBACKEND."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # left over from the failed import
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        spec = importlib.util.find_spec("matplotlib")
        assert spec and spec.origin  # found when its import was tried
        with chdir(Path(spec.origin).parent / "mpl-data"):  # it is read first
            yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _figure(log: MetricsLog) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, evals = log.columns("train"), log.columns("eval")
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))

    loss.plot(*_curve(train, "loss"), color="tab:blue", alpha=0.35, linewidth=0.8, label="training, each step logged")
    train["smoothed"] = _smoothed(train["loss"])
    loss.plot(*_curve(train, "smoothed"), color="tab:blue", linewidth=1.6, label="training, smoothed")
    label = f"validation, {evals['val_loss'][-1]:.3f} at the end" if evals["step"].size else "validation"
    loss.plot(*_curve(evals, "val_loss"), color="tab:red", marker="o", markersize=4, label=label)
    loss.set_ylabel("loss (nats per token)")
    loss.legend(frameon=False)
    rate.plot(*_curve(train, "lr"), color="tab:green")
    rate.set_ylabel("learning rate")
    norm.plot(*_curve(train, "grad_norm"), color="tab:purple", linewidth=0.8)
    norm.set(ylabel="gradient norm", xlabel="step")
    if (train["grad_norm"] > 0.0).any():
        norm.set_yscale("log")
    for axes in (loss, rate, norm):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(columns: dict[str, Array], key: str) -> tuple[Array, Array]:
    """(steps, values) to draw: all, or the minimum and maximum of each of 2,000 intervals, which looks the same."""
    steps, values = columns["step"], columns[key]
    length = len(values) // _INTERVALS
    if length < 2:
        return steps, values
    intervals = values[: _INTERVALS * length].reshape(_INTERVALS, length)
    both = np.stack([intervals.argmin(axis=1), intervals.argmax(axis=1)], axis=1)  # (S, 2)
    chosen = np.sort(both) + length * np.arange(_INTERVALS)[:, None]
    chosen = np.append(chosen, np.arange(_INTERVALS * length, len(values)))  # the rest, shorter than an interval
    return steps[chosen], values[chosen]


def _smoothed(values: Array, keep: float = 0.9) -> Array:
    """Exponential moving average (N,), corrected for its start at zero."""
    averages = itertools.accumulate(values.data, lambda average, x: keep * average + (1.0 - keep) * x, initial=0.0)
    return np.fromiter(averages, np.float64)[1:] / (1.0 - keep ** np.arange(1.0, len(values) + 1))
